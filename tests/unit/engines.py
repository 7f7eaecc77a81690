"""What tests of the engine share: a catalog of their own, engines in threads, an executor driven by hand."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import attrs

from aero_core.api.registering import make_plugins
from aero_core.config import Config, LimitSettings, Profile, Selection, Store
from aero_core.engine import Engine, Event, EventKind
from aero_core.models import (
    JSON,
    Cause,
    CauseKind,
    Commit,
    Flow,
    FlowSpec,
    Function,
    Holder,
    Input,
    Limits,
    NewVersion,
    Output,
    PolicyEnum,
    Registration,
    Run,
    Schedule,
    Source,
)
from aero_core.state import make_state
from tests.unit.site_hand import Hand

SITE = Path(__file__).with_name("site_hand.py")
PATIENCE = 20.0
RARELY = Schedule(seconds=10**6)


def spec(name: str, *inputs: str, **fields: Any) -> FlowSpec:
    """A flow of the executor `hand` that makes the data of its name from others; without any, it runs when asked."""
    digest = "sha256:" + "0" * 64
    defaults: dict[str, Any] = {
        "function": Function("work", digest, digest, "file:///code/0.zip", 1, "flows.py"),
        "inputs": tuple(Input(f"p{place}", data) for place, data in enumerate(inputs)),
        "outputs": (Output("", name),),
        "policy": PolicyEnum.ANY if inputs else PolicyEnum.NONE,
        "executor": "hand",
    }
    return FlowSpec(name, **{**defaults, **fields})


def source(name: str, host: str, **fields: Any) -> FlowSpec:
    """An ingestion from a host, due once."""
    fetched = Source((f"https://{host}/{name}",), 100)
    return spec(name, function=None, source=fetched, policy=PolicyEnum.INGESTION, schedule=RARELY, **fields)


class World:
    """A catalog, plugins, and engines that end with it.

    Attributes:
        events: What all engines told, in order.
    """

    def __init__(
        self,
        folder: Path,
        limits: LimitSettings | None = None,
        settings: Mapping[str, Mapping[str, JSON]] | None = None,
    ) -> None:
        state = folder / ".aero"
        self.config = Config(
            root=folder,
            state=state,
            profile=Profile(executor="hand"),
            stores={name: Store(name, (state / name).as_uri()) for name in ("local", "code")},
            limits=limits or LimitSettings(runs=8),
            plugins=Selection(modules=(str(SITE),), settings=settings or {}),
        )
        make_state(self.config)
        self.plugins = make_plugins(self.config)
        # The adapter's module is made anew with each set of plugins.
        self.hand: Hand = cast("Any", sys.modules["aero_site_site_hand"]).HAND
        self.catalog = self.plugins.open_catalog(self.config.catalog_url)
        self.events: list[Event] = []
        self._news = threading.Condition()

    def close(self) -> None:
        self.catalog.close()
        self.plugins.close()

    def tell(self, event: Event) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def wait_for(self, kind: EventKind, count: int = 1, patience: float = PATIENCE) -> Event:
        """The event of a kind and number, once it has come."""

        def found() -> list[Event]:
            return [event for event in self.events if event.kind is kind]

        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= count, patience), f"no {kind} in {self.events}"
            return found()[count - 1]

    # Flows and data

    def register(self, *specs: FlowSpec) -> list[Flow]:
        changes = self.catalog.register(Registration(specs, agent="ada"))
        return [self.catalog.flow(change.flow_id) for change in changes]

    def ask(self, name: str, kind: CauseKind = CauseKind.ASKED) -> Run:
        (run,) = self.catalog.queue(self.catalog.flow(name).id, Cause(kind), "ada")
        return run

    def bring(self, name: str, text: str) -> None:
        """Make a version of a data whose flow only runs when asked, without an engine."""
        run = self.ask(name)
        flow = self.catalog.flow(name)
        (claim,) = self.catalog.begin(Holder("bringer"), Limits(1), {flow.id})
        output = flow.spec.outputs[0].data_id
        new = NewVersion("", output, f"sha256:{text}", f"bytes:{text}", 1, location=f"file:///nowhere/{text}")
        self.catalog.commit(Commit(run.id, claim.run.fencing, (new,)))

    def runs(self, name: str) -> list[Run]:
        return list(self.catalog.list_runs(flow_id=self.catalog.flow(name).id).items)

    def latest(self, name: str) -> int | None:
        return self.catalog.data(name).latest

    # Engines

    @contextmanager
    def engine(self, only: str | None = None, **changes: Any) -> Iterator[Engine]:
        """An engine that is not running, of all flows or of one."""
        flows = None if only is None else {self.catalog.flow(only).id}
        engine = Engine(self.catalog, self.plugins, attrs.evolve(self.config, **changes), flows, self.tell)
        try:
            yield engine
        finally:
            engine.close()

    @contextmanager
    def running(self, only: str | None = None, **changes: Any) -> Iterator[Engine]:
        """An engine that runs in a thread until the end of the block, where it hands back at once."""
        with self.engine(only, **changes) as engine, in_thread(engine.run_forever):
            try:
                yield engine
            finally:
                engine.stop()
                engine.stop()


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Do something in a thread, to its end; its error is the test's."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive()
        if errors:
            raise errors[0]
