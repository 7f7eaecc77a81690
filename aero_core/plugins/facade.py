"""A typed facade over the hooks: what the rest of AERO calls instead of pluggy's relay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import attrs

from aero_core import hookspecs
from aero_core.catalog import Catalog
from aero_core.config import Selection
from aero_core.errors import AeroError, PluginError
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
    PluginNeed,
    Previous,
    Progress,
    Rule,
    SearchHit,
    Source,
    SourceMember,
    StoredObject,
    Target,
    Validators,
)
from aero_core.plugins.loading import Registry

R = TypeVar("R")


class Plugins(Registry):
    """The plugins of one profile, ready to be called."""

    # Authenticating

    def credentials(self, audience: str) -> Credentials | None:
        """The first authenticator's credentials for an audience, or None."""
        return self._authenticate(
            lambda name: self._ask(hookspecs.aero_credentials, name)(audience), "aero_credentials"
        )

    def whoami(self) -> Identity | None:
        """Who acts here, by the first authenticator that knows."""
        return self._authenticate(lambda name: self._ask(hookspecs.aero_whoami, name)(), "aero_whoami")

    def identify(self, token: str) -> Identity | None:
        """Who stands behind a token, by the first authenticator that knows."""
        return self._authenticate(lambda name: self._ask(hookspecs.aero_identify, name)(token), "aero_identify")

    def _authenticate(self, ask: Callable[[str], R | None], hook: str) -> R | None:
        for authenticator in self._authenticators:
            plugin = self.serving(Family.AUTHENTICATOR, authenticator)
            if plugin in self._having(hook) and (answer := ask(plugin)) is not None:
                return answer
        return None

    def login(self, audience: str | None) -> Identity | None:
        """Log a person in by the first authenticator that can."""
        return self._authenticate(lambda name: self._ask(hookspecs.aero_login, name)(audience), "aero_login")

    def logout(self) -> None:
        """Let every plugin revoke and remove its tokens."""
        for name in self._having("aero_logout"):
            self._ask(hookspecs.aero_logout, name)()

    def login_start(self, return_url: str) -> str | None:
        """The URL that a browser is sent to for signing in."""
        return self._authenticate(
            lambda name: self._ask(hookspecs.aero_login_start, name)(return_url), "aero_login_start"
        )

    def login_finish(self, request: Mapping[str, str]) -> Identity | None:
        """Who came back from signing in."""
        return self._authenticate(
            lambda name: self._ask(hookspecs.aero_login_finish, name)(request), "aero_login_finish"
        )

    # Scheduling

    def schedule(self, flow: Flow) -> str | None:
        """An outside timer's handle, or None: the engine's clock keeps the time."""
        for name in self._having("aero_schedule"):
            if handle := self._ask(hookspecs.aero_schedule, name)(flow):
                return handle
        return None

    def unschedule(self, flow: Flow) -> None:
        """Remove a flow's outside timer wherever it is."""
        for name in self._having("aero_unschedule"):
            self._ask(hookspecs.aero_unschedule, name)(flow)

    # Executing

    def check_endpoint(self, executor: str, endpoint: str | None) -> EndpointCheck:
        """Whether an executor's endpoint can take a launch; yes where its plugin has no word on it."""
        plugin = self.serving(Family.EXECUTOR, executor)
        if endpoint is None or plugin not in self._having("aero_check_endpoint"):
            return EndpointCheck(True)
        return self._must(hookspecs.aero_check_endpoint, Family.EXECUTOR, executor)(endpoint)

    def register_function(self, executor: str, bundle: Bundle) -> str | None:
        """The executor's own id of a function, or None."""
        plugin = self.serving(Family.EXECUTOR, executor)
        return (
            self._ask(hookspecs.aero_register_function, plugin)(bundle)
            if plugin in self._having("aero_register_function")
            else None
        )

    def launch(self, executor: str, attempt: Attempt) -> Launched:
        """Start an attempt."""
        return self._must(hookspecs.aero_launch, Family.EXECUTOR, executor)(attempt)

    def attach(self, executor: str, handle: str) -> Launched | None:
        """The work of an earlier process, or None when it is lost."""
        plugin = self.serving(Family.EXECUTOR, executor)
        return self._ask(hookspecs.aero_attach, plugin)(handle) if plugin in self._having("aero_attach") else None

    def cancel(self, executor: str, handle: str) -> bool:
        """Stop launched work; False where the executor cannot."""
        plugin = self.serving(Family.EXECUTOR, executor)
        return plugin in self._having("aero_cancel") and bool(self._ask(hookspecs.aero_cancel, plugin)(handle))

    # Fetching

    def members(self, source: Source) -> Iterator[SourceMember]:
        """What a source's patterns match."""
        return self._must(hookspecs.aero_members, Family.FETCH, scheme_of(source.urls[0]))(source)

    def fetch(
        self,
        member: SourceMember,
        target: Path,
        previous: Previous | None,
        expected: Validators | None,
        progress: Progress,
    ) -> Fetched | NotModified:
        """Stream one object into a file, or learn that it is as before."""
        fetch = self._must(hookspecs.aero_fetch, Family.FETCH, scheme_of(member.url))
        # The type checker joins the members of a union that loses its None to `object`.
        return cast("Fetched | NotModified", fetch(member, target, previous, expected, progress))

    # Versioning

    def fingerprint(self, artifact: Artifact, rule: Rule, progress: Progress) -> str:
        """`rule:digest` of a file."""
        digest = self._must(hookspecs.aero_fingerprint, Family.FINGERPRINT, rule.name)(artifact, rule, progress)
        return f"{rule.id}:{digest}"

    def check_rule(self, rule: Rule) -> None:
        """Refuse a rule that nobody serves, or whose options its plugin refuses."""
        plugin = self.serving(Family.FINGERPRINT, rule.name)
        if plugin in self._having("aero_check_rule"):
            self._ask(hookspecs.aero_check_rule, plugin)(rule)

    def checks(self, artifact: Artifact, previous: Artifact | None, rule: Rule) -> list[Check]:
        """Every gate's word on new content."""
        answers: list[Check] = []
        for name in self._having("aero_check"):
            # pluggy answers a list for an "all" hook, here of one plugin.
            said = cast("list[Check] | None", self._ask(hookspecs.aero_check, name)(artifact, previous, rule))
            answers.extend(said or [])
        return answers

    def resolve_version(self, data: Data, wanted: str) -> int | None:
        """The number that the first plugin with a word on it takes a text for, or None."""
        for name in self._having("aero_resolve_version"):
            if (number := self._ask(hookspecs.aero_resolve_version, name)(data, wanted)) is not None:
                return number
        return None

    # Storing

    def store(self, artifact: Artifact, location: Location, progress: Progress) -> str:
        """Put a file's bytes at a location; the URL to keep."""
        return self._must(hookspecs.aero_store, Family.STORE, scheme_of(location.url))(artifact, location, progress)

    def retrieve(self, location: Location, target: Path, progress: Progress) -> Artifact:
        """Stream a location's bytes into a file."""
        return self._must(hookspecs.aero_retrieve, Family.STORE, scheme_of(location.url))(location, target, progress)

    def delete(self, location: Location) -> bool:
        """Remove a location's bytes."""
        return self._must(hookspecs.aero_delete, Family.STORE, scheme_of(location.url))(location)

    def stored(self, prefix: Location) -> Iterator[StoredObject]:
        """What lies below a location."""
        return self._must(hookspecs.aero_list, Family.STORE, scheme_of(prefix.url))(prefix)

    def link(self, location: Location, seconds: int) -> str | None:
        """A URL to download from for some seconds, or None where the store has none."""
        plugin = self.serving(Family.STORE, scheme_of(location.url))
        return (
            self._ask(hookspecs.aero_link, plugin)(location, seconds) if plugin in self._having("aero_link") else None
        )

    # Committing, alerting, searching

    def open_catalog(self, url: str) -> Catalog:
        """The catalog at a URL."""
        return self._must(hookspecs.aero_open_catalog, Family.CATALOG, scheme_of(url))(url)

    def commit(self, records: Sequence[OutboxRecord], target: Target) -> int:
        """Hand records to a provenance store; how many it took."""
        return self._must(hookspecs.aero_commit, Family.PROVENANCE, target.plugin)(records, target)

    def alert(self, event: AlertEvent, target: Target) -> bool:
        """Send word to people."""
        return self._must(hookspecs.aero_alert, Family.ALERT, target.plugin)(event, target)

    def search(self, query: str) -> Sequence[SearchHit] | None:
        """What the first searching plugin finds, or None without one."""
        for name in self._having("aero_search"):
            if (hits := self._ask(hookspecs.aero_search, name)(query)) is not None:
                return hits
        return None

    def extend_commands(self, group: Any) -> None:
        """Let site modules add commands; one that fails stops no other."""
        for name in self._having("aero_commands"):
            try:
                self._ask(hookspecs.aero_commands, name)(group)
            except AeroError as error:
                self._infos[name] = attrs.evolve(self._infos[name], reason=str(error))


def scheme_of(url: str) -> str:
    """A URL's scheme in lower case; `sqlite+driver:` counts as `sqlite`."""
    return urlsplit(url).scheme.partition("+")[0].lower()


def for_task(needs: Sequence[PluginNeed], prefer: Mapping[str, str]) -> Plugins:
    """The plugins that a task needs, where it runs.

    Raises:
        PluginError: One is missing there; the message names it.
    """
    selection = Selection(
        modules=tuple(need.module for need in needs if need.module),
        prefer=prefer,
        settings={need.name: need.settings for need in needs if need.settings},
    )
    plugins = Plugins(selection, Context(side="run"), only={need.name for need in needs})
    there = {info.name: info for info in plugins.infos()}
    for need in needs:
        info = there.get(need.name)
        if info is None:
            raise PluginError(
                f"plugin {need.name!r} {need.version} is not installed where the run happens: install it there"
            )
        if info.status == "broken":
            raise PluginError(f"plugin {need.name!r} cannot be used where the run happens: {info.reason}")
    return plugins
