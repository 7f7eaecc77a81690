"""`Aero`: one profile's catalog, plugins and engine in one hand."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import attrs

from aero_core import config as configuration
from aero_core.api.details import DataDetails, RunDetails, details_of_data, details_of_run
from aero_core.api.getting import in_utc, write_version
from aero_core.api.lineage import LineageNode, trace
from aero_core.api.registering import (
    check_parts,
    check_settings,
    load_files,
    make_plugins,
    pack_with,
    plan,
    register,
    specs_of,
)
from aero_core.api.running import run_now
from aero_core.api.verify import Finding, verify_versions
from aero_core.bundle import importing
from aero_core.catalog import Catalog, Page
from aero_core.config import Config
from aero_core.engine import Engine, Event, Stopping
from aero_core.errors import FlowFileError, InvalidValue, NotFound
from aero_core.flowfile import Declaration, FlowFile, is_collecting, specs
from aero_core.models import (
    NUMBER_DIGITS,
    Cause,
    CauseKind,
    Change,
    ChangeKind,
    Data,
    Explanation,
    Family,
    Flow,
    FlowSpec,
    FlowState,
    Progress,
    Registration,
    Run,
    RunState,
    Version,
    shown,
)
from aero_core.plugins import scheme_of
from aero_core.state import check_named, has_state, make_state

T = TypeVar("T")

_PINNED = re.compile(r"(?P<data>[^@]+)@(?P<wanted>.*)")


def open(  # noqa: A001  `api.open()` is what people write
    path: str | os.PathLike[str] | None = None,
    profile: str | None = None,
    state: str | os.PathLike[str] | None = None,
) -> Aero:
    """Open a project.

    Args:
        path: A flow file, or a folder to search from upwards; None for the working folder.
        profile: A profile of `aero.toml`; None for its default.
        state: The state folder, where it is not the one found.

    Raises:
        NotFound: There is no project.
        ConfigError: Its configuration cannot be.
        StateError: Its state or catalog cannot be used.
        FlowFileError: This is called by a file while AERO itself reads that file.
    """
    if importing() or is_collecting():
        raise FlowFileError(
            "AERO is opened by a file that AERO reads, for its flows or for a run: put what opens it below "
            "if __name__ == '__main__':"
        )
    place = Path(path).absolute() if path is not None else None
    flow_file = place if place is not None and place.suffix == ".py" else None
    start = None if flow_file else place
    given = None if state is None else Path(state)
    return Aero(configuration.load(flow_file, given, profile, start))


class Aero(AbstractContextManager["Aero"]):
    """One profile at work. Use it in a `with` block, or `close` it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.plugins = make_plugins(config)
        self._catalog: Catalog | None = None
        try:
            check_settings(self.plugins)
            self.plugins.serving(Family.CATALOG, scheme_of(config.catalog_url))
            if has_state(config):
                self._catalog = self._open_catalog()
        except BaseException:
            self.plugins.close()
            raise

    def close(self) -> None:
        """Give back connections and processes."""
        if self._catalog is not None:
            self._catalog.close()
        self.plugins.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Aero {self.config.profile_name!r} in {self.config.root}>"

    @property
    def has_catalog(self) -> bool:
        """Whether there is a catalog already, which using it would not make."""
        return self._catalog is not None

    @property
    def catalog(self) -> Catalog:
        """The catalog. A new one, and its state folder, are made when they are first used.

        Raises:
            NotFound: The state folder was named, and is none: only registering makes a new one there.
        """
        if self._catalog is None:
            check_named(self.config)
        return self._made_catalog()

    def _made_catalog(self) -> Catalog:
        if self._catalog is None:
            self._catalog = self._open_catalog()
        return self._catalog

    def _open_catalog(self) -> Catalog:
        make_state(self.config)
        return self.plugins.open_catalog(self.config.catalog_url)

    # Registering

    def apply(
        self, *files: FlowFile | str | os.PathLike[str], prune: bool = False, adopt: str | None = None
    ) -> tuple[Change, ...]:
        """Register what flow files declare, together.

        Args:
            files: Flow files, by path or as `aero_core.flowfile.load_flow_file` answers them.
            prune: Disable flows that a file no longer declares.
            adopt: An old origin whose flows of equal name move here.

        Returns:
            One change for each flow.

        Raises:
            FlowFileError: A file cannot be read.
            RegistrationError: Its flows cannot be registered.
        """
        loaded = load_files(files)
        if self._catalog is None:
            # What cannot be is refused before a state folder is made.
            self.plan(*loaded, prune=prune, adopt=adopt)
        catalog = self._made_catalog()  # before code is stored beside it
        return self._register(catalog, *specs_of(self.config, self.plugins, loaded), prune=prune, adopt=adopt)

    def plan(
        self, *files: FlowFile | str | os.PathLike[str], prune: bool = False, adopt: str | None = None
    ) -> tuple[Change, ...]:
        """What `apply` would do, or raise, without doing it: nothing is written, not even a state folder."""
        made, origins = specs_of(self.config, self.plugins, load_files(files), dry_run=True)
        check_parts(made, self.config, self.plugins)
        registration = attrs.evolve(self._registration(made, origins, prune, adopt), dry_run=True)
        if self._catalog is None:
            changes = plan(self.config, self.plugins, registration)
        else:
            changes = register(self._catalog, self.config.root, registration)
        # A flow that is not made has no id to find it by.
        return tuple(attrs.evolve(c, flow_id="") if c.kind is ChangeKind.NEW else c for c in changes)

    def register(self, *declarations: Declaration, origin: str = "api") -> tuple[Change, ...]:
        """Register flows that were declared in a program or a notebook.

        Args:
            declarations: What `ingest` and `analysis` answered.
            origin: Part of the flows' key; flows of one origin replace each other by name.
        """
        for given in declarations:
            if not isinstance(given, Declaration):
                raise InvalidValue(f"register was given {given!r}: expected what `ingest` or `analysis` answered")
        profile = self.config.profile
        catalog = self._made_catalog()  # before code is stored beside it
        made = specs(
            declarations,
            pack_with(self.config, self.plugins),
            origin=origin,
            project=self.config.project,
            namespace=profile.namespace,
            store=profile.store,
            executor=profile.executor,
        )
        return self._register(catalog, made, (), prune=False, adopt=None)

    def _register(
        self, catalog: Catalog, made: tuple[FlowSpec, ...], origins: tuple[str, ...], prune: bool, adopt: str | None
    ) -> tuple[Change, ...]:
        check_parts(made, self.config, self.plugins)
        changes = register(catalog, self.config.root, self._registration(made, origins, prune, adopt))
        for change in changes:
            self._set_timer(change)
        return changes

    def _registration(
        self, made: tuple[FlowSpec, ...], origins: tuple[str, ...], prune: bool, adopt: str | None
    ) -> Registration:
        return Registration(
            made,
            project=self.config.project,
            namespace=self.config.profile.namespace,
            origins=origins,
            prune=prune,
            adopt=adopt,
            agent=self.agent,
        )

    def _set_timer(self, change: Change) -> None:
        """Keep outside timers in step; where no plugin has one the engine's clock keeps the time."""
        if change.kind is ChangeKind.UNCHANGED or not change.flow_id:
            return
        flow = self.catalog.flow(change.flow_id)
        name = f"timer:{flow.id}"
        if flow.state is FlowState.ACTIVE and flow.spec.schedule is not None:
            if handle := self.plugins.schedule(flow):
                self.catalog.save_setting(name, handle)
        elif self.catalog.setting(name) is not None:
            self.plugins.unschedule(flow)
            self.catalog.save_setting(name, None)

    @property
    def agent(self) -> str:
        """Who acts here, as records name it."""
        identity = self.plugins.whoami()
        return "" if identity is None else identity.name or identity.subject

    # Running

    def run(
        self,
        flows: Collection[str] | None = None,
        now: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> list[Run]:
        """Take what is due once, follow triggers to rest.

        Args:
            flows: Names or ids of the only flows to run; None for all.
            now: Run them due or not: first those without inputs, then in order those that did not run by that.
            on_event: Called with each word from the engine, from its threads.

        Returns:
            The runs that ended, in order.

        Raises:
            KeyboardInterrupt: By Ctrl-C, as soon as what runs has been handed back.
        """
        chosen = None if flows is None else [self.flow(name) for name in flows]
        with Stopping() as stopping, self.engine(chosen, on_event) as engine:
            stopping.stops(engine)
            if not now:
                return engine.run_to_rest()
            return run_now(engine, self.catalog, chosen if chosen is not None else list(self.flows()), self.agent)

    def engine(
        self, flows: Collection[Flow] | None = None, on_event: Callable[[Event], None] | None = None
    ) -> closing[Engine]:
        """An engine for some flows, or all, as a context."""
        only = None if flows is None else {flow.id for flow in flows}
        return closing(Engine(self.catalog, self.plugins, self.config, only, on_event))

    def retry(self, ref: str) -> tuple[Run, ...]:
        """Make a flow due again on its present inputs, by the flow's name or a failed run's id."""
        return self.catalog.queue(self._flow_of(ref).id, Cause(CauseKind.RETRY), self.agent)

    def cancel(self, ref: str) -> tuple[Run, ...]:
        """Cancel a run by its id, or a flow's live runs by its name."""
        try:
            return (self.catalog.cancel(self.catalog.run(ref).id, self.agent),)
        except NotFound:
            flow = self.flow(ref)
        live = {RunState.QUEUED, RunState.RUNNING}
        return tuple(self.catalog.cancel(run.id, self.agent) for run in self.runs(flow.id, live))

    def pause(self, ref: str) -> Flow:
        """Let a flow make no further runs until `resume`."""
        return self.catalog.set_flow_state(self.flow(ref).id, FlowState.PAUSED, self.agent)

    def resume(self, ref: str) -> Flow:
        """Let a paused flow run again."""
        return self.catalog.set_flow_state(self.flow(ref).id, FlowState.ACTIVE, self.agent)

    def _flow_of(self, ref: str) -> Flow:
        try:
            return self.flow(ref)
        except NotFound as missing:
            try:
                return self.catalog.flow(self.catalog.run(ref).flow_id)
            except NotFound:
                raise missing from None

    # Looking up

    def flow(self, ref: str) -> Flow:
        """One flow by id, unique prefix of its id, or name in the profile's namespace.

        Raises:
            NotFound: There is none.
            InvalidValue: Several bear the name.
        """
        return self.catalog.flow(ref, self.config.profile.namespace)

    def data(self, ref: str) -> Data:
        """One data by id, unique prefix of its id, or name in the profile's namespace.

        Raises:
            NotFound: There is none.
        """
        return self.catalog.data(ref, self.config.profile.namespace)

    def flows(self, origin: str | None = None) -> Iterator[Flow]:
        """The namespace's flows by name: all, or those of one origin."""
        namespace = self.config.profile.namespace
        return _all(lambda after: self.catalog.list_flows(after, origin=origin, namespace=namespace))

    def data_list(self) -> Iterator[Data]:
        """The namespace's data by name."""
        return _all(lambda after: self.catalog.list_data(after, namespace=self.config.profile.namespace))

    def runs(self, flow_id: str | None = None, states: Collection[RunState] = ()) -> Iterator[Run]:
        """Runs, newest first."""
        return _all(lambda after: self.catalog.list_runs(after, flow_id=flow_id, states=states))

    def run_details(self, ref: str) -> RunDetails:
        """One run by id or unique prefix of its id, with the source, code and kwargs that it had.

        Raises:
            NotFound: There is none.
        """
        run = self.catalog.run(ref)
        return details_of_run(run, self.catalog.revision(run.flow_id, run.revision), self.config)

    def data_details(self, ref: str) -> DataDetails:
        """One data, named as for `data`, with what is known of its source's members.

        Raises:
            NotFound: There is none.
        """
        data = self.data(ref)
        return details_of_data(data, _all(lambda after: self.catalog.members(data.id, after)))

    def versions(self, ref: str, newest_first: bool = True) -> Iterator[Version]:
        """A data's versions by number, their locations as whole URLs."""
        data = self.data(ref)
        found = _all(lambda after: self.catalog.versions(data.id, after, newest_first=newest_first))
        return map(self._located, found)

    def _located(self, version: Version) -> Version:
        return attrs.evolve(version, location=self.config.location(version.location, version.store).url)

    def why(self, ref: str) -> tuple[Explanation, ...]:
        """Why a flow last ran and what it waits for, for each argument set."""
        return self.catalog.explain(self._flow_of(ref).id)

    def version(self, ref: str, as_of: datetime | None = None) -> tuple[Data, Version]:
        """A data and one of its versions, its location as a whole URL.

        Args:
            ref: `NAME` or `ID` for the latest, `NAME@3`, `NAME@latest`, or what a plugin knows how to resolve.
            as_of: The latest as of then; without a zone it is UTC.

        Raises:
            NotFound: There is no such data or version.
            InvalidValue: The reference cannot be read.
        """
        match = _PINNED.fullmatch(ref)
        if match and not match["wanted"]:
            raise InvalidValue(f"{ref!r} names no version: expected such as {ref}3, or {match['data']} for the latest")
        data = self.data(match["data"] if match else ref)
        wanted = match["wanted"] if match else "latest"
        if as_of is not None:
            as_of = in_utc(as_of)
        if wanted == "latest":
            found = self.catalog.latest(data.id, as_of)
            if found is None:
                raise NotFound(_no_version(data, as_of))
            return data, self._located(found)
        if as_of is not None:
            raise InvalidValue(f"{ref!r} names a version: leave out the time, or the @{wanted}")
        return data, self._located(self.catalog.version(data.id, self._number(data, wanted)))

    def _number(self, data: Data, wanted: str) -> int:
        if wanted.isascii() and wanted.isdigit() and len(wanted) <= NUMBER_DIGITS and int(wanted) > 0:
            return int(wanted)
        number = self.plugins.resolve_version(data, wanted)
        if number is None:
            raise InvalidValue(f"version {shown(wanted)} of {data.name}: expected a number from 1, or 'latest'")
        return number

    def get(
        self,
        ref: str,
        target: str | os.PathLike[str],
        as_of: datetime | None = None,
        progress: Progress | None = None,
    ) -> Version:
        """Write a version's bytes into a file, checked against the recorded checksum.

        Args:
            ref: See `version`.
            target: The file; it appears whole or not at all. A pipe or a device is written into.
            as_of: See `version`.
            progress: Called with bytes done and in all.

        Raises:
            StoreError: The bytes are missing, damaged or cannot be read; or the file cannot be written.
        """
        data, version = self.version(ref, as_of)
        location = self.config.location(version.location, version.store)
        name = f"{data.name}@{version.number}"
        tell = progress or (lambda done, total: None)
        write_version(name, version, location, Path(target), self.config.state, self.plugins, tell)
        return version

    def lineage(self, ref: str, depth: int = 20) -> LineageNode:
        """What a version was made from, and that from what, down to the sources."""
        data, version = self.version(ref)
        return trace(self.catalog, self._located, data, version, depth)

    def verify(self, ref: str | None = None, progress: Progress | None = None) -> Iterator[Finding]:
        """Read stored bytes again and compare them with their checksums; yields one finding a version."""
        chosen = [self.data(ref)] if ref else self.data_list()
        return verify_versions(self.config, self.plugins, chosen, self.versions, progress)


def _all(page: Callable[[str | None], Page[T]]) -> Iterator[T]:
    after: str | None = None
    while True:
        found = page(after)
        yield from found.items
        if found.next is None:
            return
        after = found.next


def _no_version(data: Data, as_of: datetime | None) -> str:
    if as_of is None:
        return f"data {data.name!r} has no version yet: `aero run` its flow file to make one"
    return f"data {data.name!r} has no version as of {as_of.isoformat()}: `aero versions {data.name}` lists them"
