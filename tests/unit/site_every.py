"""A site adapter that implements every hook, and writes down each call."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from aero_core.hookspecs import hookimpl
from aero_core.models import (
    AlertEvent,
    Artifact,
    Attempt,
    Bundle,
    Check,
    Context,
    Credentials,
    Data,
    EndpointCheck,
    Family,
    Fetched,
    Flow,
    Identity,
    Launched,
    Location,
    NotModified,
    OutboxRecord,
    Previous,
    Progress,
    Provides,
    Rule,
    SearchHit,
    Source,
    SourceMember,
    StoredObject,
    Target,
    Validators,
    Verdict,
)

if TYPE_CHECKING:
    import click

    from aero_core.catalog import Catalog

_SERVED = (
    Family.FETCH,
    Family.STORE,
    Family.FINGERPRINT,
    Family.EXECUTOR,
    Family.CATALOG,
    Family.SCHEDULER,
    Family.AUTHENTICATOR,
    Family.PROVENANCE,
    Family.ALERT,
    Family.SEARCH,
)


@attrs.frozen
class Settings:
    """`[plugins.site_every]`: the folder for bytes and for `calls.txt`."""

    folder: str = ""


class Every:
    """What this adapter holds."""

    def __init__(self) -> None:
        self.folder = Path()
        self.lock = threading.Lock()
        self.early: list[str] = []
        self.pool = ThreadPoolExecutor(1)

    def note(self, hook: str) -> None:
        """Write a call down; those before the settings come, with them."""
        with self.lock:
            self.early.append(hook)
            if self.folder != Path():
                with (self.folder / "calls.txt").open("a") as calls:
                    calls.writelines(f"{name}\n" for name in self.early)
                self.early.clear()

    def path(self, url: str) -> Path:
        return self.folder / "bytes" / urlsplit(url).path.lstrip("/")


EVERY = Every()


def _artifact(path: Path) -> Artifact:
    content = path.read_bytes()
    return Artifact(str(path), f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), suffix=path.suffix)


@hookimpl
def aero_provides() -> Sequence[Provides]:
    EVERY.note("aero_provides")
    return [Provides(family, "every") for family in _SERVED]


@hookimpl
def aero_settings() -> type:
    EVERY.note("aero_settings")
    return Settings


@hookimpl
def aero_configure(settings: Settings, context: Context) -> None:
    EVERY.folder = Path(settings.folder)
    EVERY.note(f"aero_configure {context.side}")


@hookimpl
def aero_shutdown() -> None:
    EVERY.note("aero_shutdown")
    EVERY.pool.shutdown()


@hookimpl
def aero_commands(group: click.Group) -> None:
    EVERY.note("aero_commands")

    @group.command("every")
    def every() -> None:
        """Nothing."""


@hookimpl
def aero_credentials(audience: str) -> Credentials:
    EVERY.note("aero_credentials")
    return Credentials(audience, token="secret")


@hookimpl
def aero_login(audience: str | None) -> Identity:
    EVERY.note("aero_login")
    return Identity("every", "ada")


@hookimpl
def aero_logout() -> None:
    EVERY.note("aero_logout")


@hookimpl
def aero_whoami() -> Identity:
    EVERY.note("aero_whoami")
    return Identity("every", "ada", "Ada")


@hookimpl
def aero_identify(token: str) -> Identity | None:
    EVERY.note("aero_identify")
    return Identity("every", token)


@hookimpl
def aero_login_start(return_url: str) -> str:
    EVERY.note("aero_login_start")
    return f"https://login.example/?{return_url}"


@hookimpl
def aero_login_finish(request: Mapping[str, str]) -> Identity:
    EVERY.note("aero_login_finish")
    return Identity("every", request["code"])


@hookimpl
def aero_schedule(flow: Flow) -> str | None:
    EVERY.note(f"aero_schedule {flow.name}")
    return f"timer-{flow.name}"


@hookimpl
def aero_unschedule(flow: Flow) -> bool:
    EVERY.note(f"aero_unschedule {flow.name}")
    return True


@hookimpl
def aero_check_endpoint(endpoint: str) -> EndpointCheck:
    EVERY.note(f"aero_check_endpoint {endpoint}")
    return EndpointCheck(True)


@hookimpl
def aero_register_function(bundle: Bundle) -> str:
    EVERY.note(f"aero_register_function {bundle.function}")
    return bundle.id


@hookimpl
def aero_launch(attempt: Attempt) -> Launched:
    from aero_core import jobs

    EVERY.note(f"aero_launch {attempt.task['flow']}")
    return Launched(f"job-{attempt.id}", EVERY.pool.submit(jobs.execute, attempt.task))


@hookimpl
def aero_attach(handle: str) -> Launched | None:
    EVERY.note("aero_attach")
    return None


@hookimpl
def aero_cancel(handle: str) -> bool:
    EVERY.note("aero_cancel")
    return True


@hookimpl
def aero_members(source: Source) -> Iterator[SourceMember]:
    EVERY.note("aero_members")
    return iter([SourceMember(url) for url in source.urls])


@hookimpl
def aero_fetch(
    member: SourceMember, target: Path, previous: Previous | None, expected: Validators | None, progress: Progress
) -> Fetched | NotModified:
    EVERY.note("aero_fetch")
    shutil.copyfile(EVERY.path(member.url), target)
    progress(1, None)
    return Fetched(_artifact(target))


@hookimpl
def aero_fingerprint(artifact: Artifact, rule: Rule) -> str:
    EVERY.note("aero_fingerprint")
    return artifact.checksum


@hookimpl
def aero_check_rule(rule: Rule) -> None:
    EVERY.note(f"aero_check_rule {rule.name}")


@hookimpl
def aero_check(artifact: Artifact, previous: Artifact | None, rule: Rule) -> Check:
    EVERY.note("aero_check")
    return Check("every", Verdict.PASS)


@hookimpl
def aero_resolve_version(data: Data, wanted: str) -> int | None:
    EVERY.note(f"aero_resolve_version {wanted}")
    return 1 if wanted == "first" else None


@hookimpl
def aero_store(artifact: Artifact, location: Location, progress: Progress) -> str:
    EVERY.note("aero_store")
    target = EVERY.path(location.url)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(artifact.path, target)
    return location.url


@hookimpl
def aero_retrieve(location: Location, target: Path, progress: Progress) -> Artifact:
    EVERY.note("aero_retrieve")
    shutil.copyfile(EVERY.path(location.url), target)
    return _artifact(target)


@hookimpl
def aero_delete(location: Location) -> bool:
    EVERY.note("aero_delete")
    return True


@hookimpl
def aero_list(prefix: Location) -> Iterator[StoredObject]:
    EVERY.note("aero_list")
    return iter([StoredObject(prefix.url, 1, datetime.now(UTC))])


@hookimpl
def aero_link(location: Location, seconds: int) -> str:
    EVERY.note("aero_link")
    return f"{location.url}?for={seconds}"


@hookimpl
def aero_open_catalog(url: str) -> Catalog:
    from aero_sql.catalog import SqlCatalog

    EVERY.note("aero_open_catalog")
    return SqlCatalog(f"sqlite:///{EVERY.folder / 'catalog.sqlite'}")


@hookimpl
def aero_commit(records: Sequence[OutboxRecord], target: Target) -> int:
    EVERY.note("aero_commit")
    return len(records)


@hookimpl
def aero_alert(event: AlertEvent, target: Target) -> bool:
    EVERY.note("aero_alert")
    return True


@hookimpl
def aero_search(query: str) -> Sequence[SearchHit]:
    EVERY.note("aero_search")
    return [SearchHit("id", query)]
