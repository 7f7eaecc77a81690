"""Random deeds on a catalog, against a model that is small enough to be believed."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aero_core.models import Claim, FlowState, PolicyEnum, RunState
from aero_core.testing.catalog_world import ENGINE, PLENTY, RETRY, World, analysis, source
from aero_sql.catalog import SqlCatalog

SOURCES = ("x", "y")
ANALYSES = {"any": PolicyEnum.ANY, "all": PolicyEnum.ALL}
FLOWS = (*SOURCES, *ANALYSES)


@define
class Expected:
    """What is expected of one analysis of both sources."""

    policy: PolicyEnum
    pending: bool = True
    consumed: dict[str, int] = field(factory=lambda: dict.fromkeys(SOURCES, 0))
    attempted: dict[str, int] = field(factory=dict)
    using: dict[str, int] = field(factory=dict)
    live: str = ""
    paused: bool = False

    def due(self, latest: dict[str, int]) -> bool:
        """Whether it has reason to run, by the words of the design."""
        if self.paused or not all(latest.values()):
            return False
        if self.pending:
            return True
        fresh = [latest[name] > self.consumed[name] for name in SOURCES]
        if self.attempted and all(latest[name] == self.attempted[name] for name in SOURCES):
            return False
        return all(fresh) if self.policy is PolicyEnum.ALL else any(fresh)


@cache
def blank() -> Path:
    """An empty record, to be copied: making its tables takes longer than many deeds."""
    path = Path(tempfile.mkdtemp()) / "catalog.sqlite"
    SqlCatalog(f"sqlite:///{path}").close()
    atexit.register(shutil.rmtree, path.parent)
    return path


class Deeds(RuleBasedStateMachine):
    """Commits, failures, retries, revisions and pauses in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copyfile(blank(), self.folder / "catalog.sqlite")
        self.catalog = SqlCatalog(f"sqlite:///{self.folder}/catalog.sqlite")
        self.world = World(self.catalog)
        self.code = 0
        self.latest: dict[str, int] = dict.fromkeys(SOURCES, 0)
        self.content: dict[str, str] = {}
        self.claims: dict[str, Claim] = {}
        self.expected = {name: Expected(policy) for name, policy in ANALYSES.items()}
        self.world.register(*(source(name, policy=PolicyEnum.NONE) for name in SOURCES))
        self.register_analyses()

    def teardown(self) -> None:
        self.catalog.close()
        shutil.rmtree(self.folder)

    def register_analyses(self) -> None:
        code = f"code {self.code}"
        self.world.register(*(analysis(n, *SOURCES, code=code, policy=p) for n, p in ANALYSES.items()))

    def look(self, *names: str) -> None:
        for name in names or tuple(self.expected):
            expected = self.expected[name]
            if not expected.live and expected.due(self.latest):
                expected.live = "queued"

    @rule(name=st.sampled_from(SOURCES), text=st.sampled_from("abc"))
    def ingest(self, name: str, text: str) -> None:
        self.world.make(name, text)
        if self.content.get(name) != text:
            self.content[name] = text
            self.latest[name] += 1
            self.look()

    @rule(name=st.sampled_from(tuple(ANALYSES)))
    def begin(self, name: str) -> None:
        expected = self.expected[name]
        claims = self.catalog.begin(ENGINE, PLENTY, [self.world.flow(name).id])
        assert len(claims) == (expected.live == "queued")
        if claims:
            expected.live, expected.using = "running", dict(self.latest)
            self.claims[name] = claims[0]
            assert {used.data: used.number for used in claims[0].run.used} == self.latest

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), text=st.sampled_from("abc"))
    def commit(self, data: Any, text: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.claims)))
        claim, expected = self.claims.pop(name), self.expected[name]
        before = self.world.latest(name) or 0
        committed = self.world.commit(claim, text)
        made = self.content.get(name) != text
        assert self.world.latest(name) == before + made
        assert self.world.commit(claim, "again") == committed
        self.content[name] = text
        expected.consumed, expected.attempted, expected.live = dict(expected.using), {}, ""
        if claim.run.revision == self.world.flow(name).revision:
            expected.pending = False
        self.look(name)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), again=st.booleans())
    def fail(self, data: Any, again: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.claims)))
        claim, expected = self.claims.pop(name), self.expected[name]
        run = self.world.fail(claim, retry_after=0.0 if again else None)
        if again and not expected.paused:
            assert run.state is RunState.QUEUED
            expected.live = "queued"
            return
        expected.live = ""
        if not again:
            expected.attempted = dict(expected.using)
            if claim.run.revision == self.world.flow(name).revision:
                expected.pending = False
        self.look(name)

    @precondition(lambda self: all(self.latest.values()))
    @rule(name=st.sampled_from(tuple(ANALYSES)))
    def retry(self, name: str) -> None:
        expected = self.expected[name]
        if not expected.paused:
            self.world.ask(name, RETRY)
            expected.attempted = {}
            expected.live = expected.live or "queued"

    @rule()
    def change_code(self) -> None:
        self.code += 1
        self.register_analyses()
        for expected in self.expected.values():
            expected.pending, expected.attempted = True, {}
        self.look()

    @rule(name=st.sampled_from(tuple(ANALYSES)))
    def pause_or_resume(self, name: str) -> None:
        expected = self.expected[name]
        expected.paused = not expected.paused
        state = FlowState.PAUSED if expected.paused else FlowState.ACTIVE
        self.catalog.set_flow_state(self.world.flow(name).id, state, "ada")
        if expected.paused and expected.live == "queued":
            expected.live = ""
        self.look(name)

    @invariant()
    def the_same_is_live(self) -> None:
        runs = self.world.runs(state=RunState.QUEUED) + self.world.runs(state=RunState.RUNNING)
        live = {run.flow: run.state.value for run in runs}
        assert live == {name: e.live for name, e in self.expected.items() if e.live}

    @invariant()
    def the_record_is_whole(self) -> None:
        for name in FLOWS:
            numbers = self.world.numbers(name)
            assert numbers == list(range(len(numbers), 0, -1))
        for name, number in self.latest.items():
            assert (self.world.latest(name) or 0) == number
        records = self.catalog.outbox(0, 10**6)
        assert [record.position for record in records] == list(range(1, len(records) + 1))
        assert self.catalog.check() == []


TestDeeds = Deeds.TestCase
TestDeeds.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
