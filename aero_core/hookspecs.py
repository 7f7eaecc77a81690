"""Every hook of AERO, in the order of a run: the contract with plugin authors.

A plugin implements the hooks that it wants and leaves out the rest. Rules that hold for all of them:

- A hook answers `None` for "not mine"; where one answer is asked for, the first that is not None wins. Hooks marked
  **all** are asked of every plugin, each on its own: one that fails stops no other.
- Hooks carry models of `aero_core.models`, paths and plain values; they are synchronous, may be called from several
  threads and processes at once, and keep no state in module globals.
- *Side* tells where a hook is called: **E**, in the engine, command line or service; **R**, where the run happens
  (a worker process, perhaps on another machine).
- An implementation may name fewer arguments than the spec. Only plugins that `aero_provides` declares for the scheme or
  name concerned are asked.
- A plugin is a module, an object, or a class that is made once for each profile; it is found by an entry point of
  group `aero` or named in `[plugins] modules`. A module or object may set `aero_api_version = 1`; another number is
  refused.

Examples show a whole plugin module, as it would stand in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pluggy

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
)

if TYPE_CHECKING:
    import click

    from aero_core.catalog import Catalog

P = ParamSpec("P")
R = TypeVar("R")

#: Grows when a hook changes in a way that a plugin written for the number before would not survive.
API_VERSION = 1

NAMESPACE = "aero"
hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)


def implements(spec: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a module's function as the implementation of `spec`; the type checker compares the two.

    Methods of a plugin class use plain `@hookimpl`.
    """
    return hookimpl(specname=spec.__name__)


# Declaring ------------------------------------------------------------------------------------------------


@hookspec
def aero_provides() -> Sequence[Provides]:
    """Say what the plugin serves: schemes and names, by family. **All**; E and R, once a process and profile.

    The core chooses by these records, sees conflicts and lists choices; a plugin is asked only for what it declares.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Family, Provides

        @hookimpl
        def aero_provides():
            return [Provides(Family.FETCH, "gopher")]
        ```
    """
    raise NotImplementedError


# Living ---------------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def aero_settings() -> type | None:
    """Answer the attrs class of the plugin's settings, `[plugins.NAME]` in aero.toml. E and R, before `aero_configure`.

    Values are checked against it; an unknown or wrong one is an error that names the plugin, the field and the value.

    Example:
        ```python
        import attrs
        from aero_core.hookspecs import hookimpl

        @attrs.frozen
        class Settings:
            connect_timeout: float = 10.0

        @hookimpl
        def aero_settings():
            return Settings
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_configure(settings: object, context: Context) -> None:
    """Take the settings (an instance of the `aero_settings` class, or None). E and R, once a process and profile.

    Raise `ConfigError` for settings that cannot work. Keep what is needed on the plugin object, not in globals.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        class GopherPlugin:
            @hookimpl
            def aero_configure(self, settings, context):
                self.settings = settings
        ```
    """
    raise NotImplementedError


@hookspec
def aero_shutdown() -> None:
    """Give back what the plugin holds: processes, connections. **All**; E and R, once at the end of a process.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        class GopherPlugin:
            @hookimpl
            def aero_shutdown(self):
                self.session.close()
        ```
    """
    raise NotImplementedError


@hookspec
def aero_commands(group: click.Group) -> None:
    """Add commands to the command line, for site modules. **All**; E, at a command that `aero` does not know.

    Packaged plugins name their groups by entry points of group `aero.commands` instead, which load when used.

    Example:
        ```python
        import click
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_commands(group):
            @group.command("hello")
            def hello():
                click.echo("hello from the site")
        ```
    """
    raise NotImplementedError


# Authenticating -------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def aero_credentials(audience: str) -> Credentials | None:
    """Answer credentials for a service, store or source. E and R; plugins of `authenticators` are asked in order.

    Args:
        audience: A URL's origin (`https://data.example.org`) or a name that two plugins agree on.

    Raise `AeroError` where credentials exist but cannot be had (a refused refresh), with what to do.

    Example:
        ```python
        import os
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Credentials

        @hookimpl
        def aero_credentials(audience):
            if audience == "https://data.example.org":
                return Credentials(audience, headers={"Authorization": "Bearer " + os.environ["DATA_TOKEN"]})
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_login(audience: str | None) -> Identity | None:
    """Log a person in at a terminal and keep the tokens in a file of mode 0600. E, at `aero login`.

    Raise `AeroError` when it is refused or given up.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Identity

        @hookimpl
        def aero_login(audience):
            name = input("Name: ")
            return Identity(issuer="site", subject=name, name=name)
        ```
    """
    raise NotImplementedError


@hookspec
def aero_logout() -> None:
    """Revoke and remove the tokens. **All**; E, at `aero logout`. Nothing to do is no error.

    Example:
        ```python
        from pathlib import Path
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_logout():
            Path("~/.site-token").expanduser().unlink(missing_ok=True)
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_whoami() -> Identity | None:
    """Answer who acts here, PROV's agent, without asking anybody. E, for every registration and run.

    Example:
        ```python
        import getpass
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Identity

        @hookimpl
        def aero_whoami():
            return Identity(issuer="local", subject=getpass.getuser())
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_identify(token: str) -> Identity | None:
    """Answer who stands behind a bearer token. E (service), for each request; may be cached briefly.

    None: no token of mine. Raise `AeroError` for one of mine that is expired or forged.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Identity

        @hookimpl
        def aero_identify(token):
            if token.startswith("site-"):
                return Identity(issuer="site", subject=lookup(token))
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_login_start(return_url: str) -> str | None:
    """Answer the URL that a browser is sent to for signing in. E (service).

    Example:
        ```python
        from urllib.parse import urlencode
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_login_start(return_url):
            return "https://login.example.org/authorize?" + urlencode({"redirect_uri": return_url})
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_login_finish(request: Mapping[str, str]) -> Identity | None:
    """Answer who came back from signing in, from the query of the return URL. E (service).

    Raise `AeroError` when state or code do not fit.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Identity

        @hookimpl
        def aero_login_finish(request):
            return Identity(issuer="site", subject=exchange(request["code"]))
        ```
    """
    raise NotImplementedError


# Scheduling -----------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def aero_schedule(flow: Flow) -> str | None:
    """Make or change an outside timer for a flow and answer its handle. E, after a registration.

    None: the engine's own clock keeps the time. Called again for a changed flow; must be idempotent.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_schedule(flow):
            if flow.spec.schedule and flow.spec.schedule.cron:
                return site_cron.put(flow.id, flow.spec.schedule.cron)
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_unschedule(flow: Flow) -> bool | None:
    """Remove a flow's outside timer, if it is there. E, when a flow is paused, disabled or loses its schedule.

    Answers True when it is gone.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_unschedule(flow):
            site_cron.remove(flow.id)
            return True
        ```
    """
    raise NotImplementedError


# Executing ------------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def aero_check_endpoint(endpoint: str) -> EndpointCheck | None:
    """Say whether an endpoint can take a launch. E, at registration and before a launch where the answer is cheap.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import EndpointCheck

        @hookimpl
        def aero_check_endpoint(endpoint):
            up = ping(endpoint)
            return EndpointCheck(up, "" if up else f"{endpoint} does not answer: start it with `site-worker start`")
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_register_function(bundle: Bundle) -> str | None:
    """Make a function known to the executor's outside system and answer its id there. E, at registration.

    None where nothing need be known beforehand: `execute` finds the code by its location.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_register_function(bundle):
            return cluster.upload(bundle.path, key=bundle.id)
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_launch(attempt: Attempt) -> Launched | None:
    """Start an attempt: call `aero_core.jobs.execute(attempt.task)` somewhere. E.

    Answer at once, with a handle and a `concurrent.futures.Future` of `execute`'s answer. The handle is saved for
    `aero_attach`; None says that the work dies with this process. `attempt.id` is the idempotency key: launched twice,
    the work is done once. `timeout` counts from the function's start. An exception in the future means lost or broken
    work (retried); what the function itself did wrong comes back in the answer. Cancelling the future cancels the work.

    Example:
        ```python
        from concurrent.futures import ThreadPoolExecutor
        from aero_core import jobs
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Launched

        class ThreadsPlugin:
            def __init__(self):
                self.pool = ThreadPoolExecutor()

            @hookimpl
            def aero_launch(self, attempt):
                return Launched(None, self.pool.submit(jobs.execute, attempt.task))
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_attach(handle: str) -> Launched | None:
    """Find the work of an earlier process by its handle. E, when an engine takes over a run.

    None when the work is lost: it is launched again, which costs no attempt.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Launched

        @hookimpl
        def aero_attach(handle):
            job = cluster.find(handle)
            return None if job is None else Launched(handle, job.future())
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_cancel(handle: str) -> bool | None:
    """Stop launched work; True when it is stopped or was over. E, for a cancelled run.

    Args:
        handle: What `aero_launch` answered, or the attempt's id where it answered None.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_cancel(handle):
            cluster.kill(handle)
            return True
        ```
    """
    raise NotImplementedError


# Fetching -------------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def aero_members(source: Source) -> Iterator[SourceMember] | None:
    """List what a source's patterns match, with validators where the listing tells them. R; streamed.

    Raise `FetchError` when the listing fails; an empty one is no error.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import SourceMember

        @hookimpl
        def aero_members(source):
            for url in source.urls:
                for name, changed in gopher.menu(url):
                    yield SourceMember(url=f"{url}/{name}", key=name, validators={"changed": changed})
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_fetch(
    member: SourceMember, target: Path, previous: Previous | None, expected: Validators | None, progress: Progress
) -> Fetched | NotModified | None:
    """Stream one object into `target`, or say that it is as before. R.

    Args:
        member: The object: URL, size limit in bytes, request options.
        target: File to write; it does not exist yet, its folder does. On an error it may be left: it is thrown away.
        previous: What was known the last time; use its validators for a conditional request. None: always fetch.
        expected: Validators of the very content that is wanted (a reference version): read just that, or raise
            ContentGone.
        progress: Call it with bytes done and in all, at least every second; what it raises must pass through.

    Returns:
        `Fetched` with checksum, size, media type and suffix; `NotModified` when the content is plainly the same.
        Both with the validators to keep and, in `decided_by`, what told.

    Raises:
        FetchError: One line: what failed, why, what to do. `retryable=False` for what only a person can mend;
            `retry_after=SECONDS` where the source asks to be left alone for longer than you care to wait in here: the
            run is not tried again sooner.
        ContentGone: See `expected`.

    Example:
        ```python
        import hashlib
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Artifact, Fetched

        @hookimpl
        def aero_fetch(member, target, progress):
            digest, size = hashlib.sha256(), 0
            with target.open("wb") as file:
                for block in gopher.read(member.url):
                    size += file.write(block)
                    digest.update(block)
                    progress(size, None)
            return Fetched(Artifact(str(target), f"sha256:{digest.hexdigest()}", size))
        ```
    """
    raise NotImplementedError


# Versioning -----------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def aero_fingerprint(artifact: Artifact, rule: Rule, progress: Progress) -> str | None:
    """Digest of what counts in a file under a rule; equal digests mean "not changed". R.

    Answer the digest's text alone; the core puts the rule's id before it. Stream: memory must not grow with the file.
    Call `progress` with bytes read and in all, at least every second; what it raises must pass through.
    Raise `FetchError(retryable=False)` for content that the rule cannot read, saying where: "the content is not CSV:
    ...". The core puts in whose content it is; `artifact.path` is a scratch path, which tells a person nothing.

    Example:
        ```python
        import hashlib
        from pathlib import Path
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_fingerprint(artifact, progress):
            digest, done = hashlib.sha256(), 0
            with Path(artifact.path).open("rb") as file:
                for line in file:
                    digest.update(line.strip().lower())
                    done += len(line)
                    progress(done, artifact.size)
            return digest.hexdigest()
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_check_rule(rule: Rule) -> None:
    """Refuse a rule whose options cannot be, before any run meets it. E, at registration.

    Raise `InvalidValue` that names the option, as `aero_fingerprint` does where the rule comes by another way.

    Example:
        ```python
        from aero_core.errors import InvalidValue
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_check_rule(rule):
            for name in rule.options.keys() - {"ignore"}:
                raise InvalidValue(f"fingerprint rule {rule.name!r} has no option {name!r}: its options are ignore")
        ```
    """
    raise NotImplementedError


@hookspec
def aero_check(artifact: Artifact, previous: Artifact | None, rule: Rule) -> Check | None:
    """Gate new content: pass, warn, or hold it for a person to release. **All**; R, before it is stored.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Check, Verdict

        @hookimpl
        def aero_check(artifact, previous):
            if previous is not None and artifact.size < previous.size / 2:
                return Check("size", Verdict.HOLD, "less than half of the previous version")
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_resolve_version(data: Data, wanted: str) -> int | None:
    """The number that a text means, for texts that are no number, `latest` or time. E.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_resolve_version(data, wanted):
            if wanted.startswith("release-"):
                return releases[data.name].get(wanted)
        ```
    """
    raise NotImplementedError


# Storing --------------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def aero_store(artifact: Artifact, location: Location, progress: Progress) -> str | None:
    """Put a file's bytes at a location and answer the URL to keep. R.

    All or nothing, durable before it answers, and a no-op where the same bytes are there already: locations are
    content-addressed. What a function made may still be open in a process that it left: compare the bytes that are
    stored with `artifact.checksum`. What was fetched, an `artifact.path` that ends in `fetched/N/content`, has been in
    nobody's hands but AERO's, and is never written again: a store may take it over by a link.
    Raise `StoreError`; `retryable=False` for what only a person can mend.

    Example:
        ```python
        from pathlib import Path
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_store(artifact, location):
            with Path(artifact.path).open("rb") as file:
                vault.put(location.url, file, checksum=artifact.checksum)
            return location.url
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_retrieve(location: Location, target: Path, progress: Progress) -> Artifact | None:
    """Stream a location's bytes into `target` and answer its checksum and size. R, and E for `aero get` and `verify`.

    Raise `StoreError(retryable=False)` when there is nothing.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import Artifact

        @hookimpl
        def aero_retrieve(location, target):
            checksum, size = vault.get(location.url, target)
            return Artifact(str(target), checksum, size)
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_delete(location: Location) -> bool | None:
    """Remove a location's bytes; True when they are gone, also if they never were there. E, for collecting garbage.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_delete(location):
            vault.remove(location.url)
            return True
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_list(prefix: Location) -> Iterator[StoredObject] | None:
    """List what lies below a location, with its age; streamed. E for collecting garbage, R for what is missing.

    A prefix that is itself the location of an object yields that object, whatever lies beside it under a longer name:
    so a run asks, at little cost, whether a version's bytes are still there. URLs are those that `aero_store` answered.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import StoredObject

        @hookimpl
        def aero_list(prefix):
            return (StoredObject(o.url, o.size, o.modified) for o in vault.walk(prefix.url))
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_link(location: Location, seconds: int) -> str | None:
    """A URL from which anybody can download the bytes for some seconds. E and R; None where the store has none.

    A store on this machine answers the `file:` URL of its own file: it is read in place, never written.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_link(location, seconds):
            return vault.presign(location.url, expires=seconds)
        ```
    """
    raise NotImplementedError


# Committing -----------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def aero_open_catalog(url: str) -> Catalog | None:
    """Open the catalog at a URL whose scheme the plugin declares. E, once a process and profile.

    Raise `CatalogError` when it cannot be opened: corrupt, of a newer AERO, not reachable, read-only; with what to do.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_open_catalog(url):
            return MongoCatalog(url)
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_commit(records: Sequence[OutboxRecord], target: Target) -> int | None:
    r"""Hand 1 to 100 outbox records, in order, to one provenance store; answer how many it took. E.

    At least once: a record may come again after a crash; its position is the key to recognise it by. Raise `Refused`
    where the first record will never be taken: it is parked and the next ones follow. Other errors are retried.

    Example:
        ```python
        import json
        from aero_core.converter import to_json
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_commit(records, target):
            with open(target.options["path"], "a") as file:
                file.writelines(to_json(record) + "\n" for record in records)
            return len(records)
        ```
    """
    raise NotImplementedError


# Alerting and searching -----------------------------------------------------------------------------------


@hookspec(firstresult=True)
def aero_alert(event: AlertEvent, target: Target) -> bool | None:
    """Send word to people; True when it is sent. E, over the outbox, for each named target of the profile.

    Example:
        ```python
        import subprocess
        from aero_core.hookspecs import hookimpl

        @hookimpl
        def aero_alert(event, target):
            subprocess.run([target.options["command"], event.message], check=True)
            return True
        ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def aero_search(query: str) -> Sequence[SearchHit] | None:
    """Find data by words. E; where no plugin answers, the catalog's own names, tags and descriptions are searched.

    Example:
        ```python
        from aero_core.hookspecs import hookimpl
        from aero_core.models import SearchHit

        @hookimpl
        def aero_search(query):
            return [SearchHit(hit.id, hit.name, hit.line) for hit in site_index.find(query)]
        ```
    """
    raise NotImplementedError
