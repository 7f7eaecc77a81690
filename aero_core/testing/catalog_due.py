"""Contract of a catalog's word on what is due: at registration, by a change of state, when asked; and why."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest

from aero_core.catalog import Catalog
from aero_core.errors import RegistrationError
from aero_core.models import (
    ArgumentSet,
    CauseKind,
    FlowState,
    PolicyEnum,
    RunState,
    Schedule,
)
from aero_core.testing.catalog_world import (
    ASKED,
    FAILURE,
    RARELY,
    World,
    analysis,
    at_once,
    function,
    source,
)

YEARLY = Schedule(cron="0 0 1 1 *")
#: Short enough for a test to let its ticks pass.
OFTEN = Schedule(seconds=0.02)


class DueContract:
    """When flows are due without new versions, and what is told of it."""

    # What is due

    def test_a_new_flow_is_due_at_once(self, world: World) -> None:
        world.register(source("a", schedule=RARELY), analysis("b", policy=PolicyEnum.TIMER))
        assert world.due() == ["a", "b"]
        assert {run.cause.kind for run in world.runs()} == {CauseKind.REGISTERED}

    @pytest.mark.parametrize("policy", [PolicyEnum.NONE, PolicyEnum.INGESTION_EVENT])
    def test_some_policies_never_start_by_themselves(self, world: World, policy: PolicyEnum) -> None:
        world.register(source("a", policy=policy))
        world.register(source("a", "https://example.org/other", policy=policy))
        assert world.flow("a").revision == 2
        assert world.due() == []

    def test_a_cron_flow_waits_for_its_first_tick(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(source("a", schedule=YEARLY), analysis("b", "x", schedule=YEARLY))
        assert world.due() == []
        tick = world.flow("a").next_tick
        assert tick is not None
        assert (tick.month, tick.day, tick.hour) == (1, 1, 0)

    def test_an_interval_flow_is_due_now_and_then_after_its_interval(self, world: World) -> None:
        world.register(source("a", schedule=RARELY))
        flow = world.flow("a")
        assert flow.anchor is not None
        assert flow.next_tick is not None
        assert timedelta() <= world.catalog.now() - flow.anchor < timedelta(minutes=1)
        assert flow.next_tick - flow.anchor >= timedelta(seconds=10**6)

    def test_the_anchor_is_kept_while_the_interval_is(self, world: World) -> None:
        world.register(analysis("a", schedule=RARELY))
        first = world.flow("a")
        world.register(analysis("a", schedule=RARELY, code="second"))
        second = world.flow("a")
        assert (second.anchor, second.next_tick) == (first.anchor, first.next_tick)
        world.register(analysis("a", schedule=Schedule(seconds=10**7), code="second"))
        assert world.flow("a").anchor != first.anchor

    def test_a_flow_without_a_schedule_has_no_ticks(self, world: World) -> None:
        world.register(analysis("a", schedule=RARELY))
        world.register(analysis("a"))
        assert world.flow("a").next_tick is None

    def test_a_flow_waits_until_every_input_has_a_version(self, world: World) -> None:
        world.make_data("x", "y")
        world.register(analysis("a", "x", "y"))
        world.make("x", "one")
        assert world.due() == []
        world.make("y", "one")
        assert world.due() == ["a"]

    def test_a_new_revision_is_due_once(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.commit(world.claim("a"), "one")
        world.register(analysis("a", "x", code="second"))
        claim = world.claim("a")
        assert (claim.run.revision, claim.run.cause.kind) == (2, CauseKind.REGISTERED)
        world.commit(claim, "two")
        assert world.due() == []

    def test_a_changed_source_is_due_at_once(self, world: World) -> None:
        world.register(source("a", schedule=RARELY))
        world.commit(world.claim("a"), "one")
        world.register(source("a", "https://example.org/elsewhere", schedule=RARELY))
        assert world.due() == ["a"]

    def test_a_revision_without_rerun_is_not_due(self, world: World) -> None:
        world.make_data("x", "y", versions=2)
        world.register(analysis("a", "x", rerun=False))
        world.commit(world.claim("a"), "one")
        world.register(analysis("a", "x", "y", rerun=False, code="second"))
        assert world.due() == []
        consumed = {i.data: i.consumed for i in world.catalog.explain(world.flow("a").id)[0].inputs}
        assert consumed == {"x": 2, "y": 2}
        world.make("y", "third")
        assert world.claim("a").run.cause.detail == ("y@3",)

    def test_argument_sets_that_come_without_rerun_are_not_due(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x", rerun=False))
        world.commit(world.claim("a"), "one")
        sets = tuple(ArgumentSet({"n": n}, f"k{n}") for n in (1, 2))
        world.register(analysis("a", "x", rerun=False, argument_sets=sets))
        assert world.due() == []
        world.make("x", "second")
        assert world.due() == ["a", "a"]

    def test_consumed_numbers_stay_with_their_inputs(self, world: World) -> None:
        world.make_data("x", "y", versions=2)
        world.register(analysis("a", "x"))
        world.commit(world.claim("a"), "one")
        world.register(analysis("a", "x", "y"))
        consumed = {i.data: i.consumed for i in world.catalog.explain(world.flow("a").id)[0].inputs}
        assert consumed == {"x": 2, "y": 0}

    def test_a_queued_run_takes_the_present_revision(self, world: World) -> None:
        world.register(analysis("a"))
        world.register(analysis("a", code="second"))
        claim = world.claim("a")
        assert (claim.run.revision, claim.flow.revision) == (2, 2)
        assert claim.flow.spec.function == function("second")

    def test_a_queued_run_whose_argument_set_is_gone_is_cancelled(self, world: World) -> None:
        old, new = (ArgumentSet({"n": n}, f"k{n}") for n in (1, 2))
        world.register(analysis("a", argument_sets=(old,)), analysis("b"))
        world.register(analysis("a", argument_sets=(new,)))
        assert sorted(claim.run.argument_set for claim in world.begin()) == ["", "k2"]
        assert world.due() == []

    def test_a_queued_run_with_a_new_input_waits_for_its_first_version(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.make_data("y")
        world.register(analysis("a", "x"), analysis("b", "x"))
        world.register(analysis("a", "x", "y"))
        assert [claim.run.flow for claim in world.begin()] == ["b"]
        world.make("y", "one")
        assert world.due() == ["a"]

    def test_a_revision_that_comes_during_a_run_is_due_after_it(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        world.register(analysis("a", code="second"))
        world.commit(claim, "one")
        assert world.claim("a").run.revision == 2

    def test_a_new_revision_does_not_wait_out_the_old_ones_trouble(self, world: World) -> None:
        world.register(source("a"))
        world.fail(world.claim("a"), retry_after=1000.0)
        world.register(source("a", schedule=RARELY))
        assert world.begin() == ()
        world.register(source("a", "https://example.org/other"))
        again = world.claim("a")
        assert (again.run.attempt, again.run.revision) == (1, 2)

    def test_a_tick_ends_a_wait_but_not_one_that_was_asked_for(self, world: World) -> None:
        world.register(source("a", schedule=OFTEN), source("b", schedule=OFTEN))
        asked = attrs.evolve(FAILURE, retry_after=1000.0)
        for name, failure in (("a", FAILURE), ("b", asked)):
            world.fail(world.claim(name), retry_after=1000.0, failure=failure)
        tick = world.flow("b").next_tick
        assert tick is not None
        world.until(tick)
        assert [claim.run.flow for claim in world.begin()] == ["a"]
        assert [run.flow for run in world.ask("b")] == ["b"]
        assert world.claim("b").run.attempt == 2

    def test_each_argument_set_is_due(self, world: World) -> None:
        sets = tuple(ArgumentSet({"days": n}, f"k{n}") for n in (7, 14))
        world.register(analysis("a", argument_sets=sets))
        claims = world.begin("a")
        assert sorted(claim.run.argument_set for claim in claims) == ["k14", "k7"]
        assert {claim.arguments.kwargs["days"] for claim in claims} == {7, 14}

    def test_an_argument_set_that_is_dropped_is_not_due(self, world: World) -> None:
        sets = tuple(ArgumentSet({"days": n}, f"k{n}") for n in (7, 14))
        world.register(analysis("a", argument_sets=sets))
        world.register(analysis("a", argument_sets=sets[1:]))
        assert [run.argument_set for run in world.runs(state=RunState.QUEUED)] == ["k14"]

    def test_a_mended_flow_runs_though_it_asks_for_no_rerun(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x", rerun=False))
        world.fail(world.claim("a"))
        world.register(analysis("a", "x", rerun=False, code="mended"))
        assert world.due() == ["a"]

    # States

    def test_a_paused_flow_has_no_queued_runs(self, world: World) -> None:
        world.make_data("x")
        world.register(analysis("a", "x"), analysis("b"))
        world.catalog.set_flow_state(world.flow("b").id, FlowState.PAUSED, "ada")
        assert [run.state for run in world.runs("b")] == [RunState.CANCELLED]
        world.catalog.set_flow_state(world.flow("a").id, FlowState.PAUSED, "ada")
        world.make("x", "one")
        assert world.due() == []

    def test_a_resumed_flow_is_looked_at(self, world: World) -> None:
        world.make_data("x")
        world.register(analysis("a", "x"))
        flow = world.catalog.set_flow_state(world.flow("a").id, FlowState.PAUSED, "ada")
        assert flow.state is FlowState.PAUSED
        world.make("x", "one")
        world.catalog.set_flow_state(flow.id, FlowState.ACTIVE, "ada")
        assert world.due() == ["a"]

    def test_a_run_finishes_while_its_flow_is_paused(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        world.catalog.set_flow_state(world.flow("a").id, FlowState.PAUSED, "ada")
        assert world.commit(claim, "one").run.state is RunState.SUCCEEDED

    def test_a_paused_flow_has_no_ticks_and_a_resumed_one_the_next(self, world: World) -> None:
        world.register(source("a", schedule=Schedule(seconds=0.02)))
        world.commit(world.claim("a"), "one")
        flow = world.catalog.set_flow_state(world.flow("a").id, FlowState.PAUSED, "ada")
        world.until(world.catalog.now() + timedelta(seconds=0.05))
        assert world.begin() == ()
        now = world.catalog.now()
        resumed = world.catalog.set_flow_state(flow.id, FlowState.ACTIVE, "ada")
        assert resumed.next_tick is not None
        assert resumed.next_tick > now

    def test_a_resumed_flow_that_runs_only_when_asked_to_has_no_ticks(self, world: World) -> None:
        world.register(source("a", policy=PolicyEnum.NONE, schedule=RARELY))
        flow = world.flow("a")
        world.catalog.set_flow_state(flow.id, FlowState.PAUSED, "ada")
        assert world.catalog.set_flow_state(flow.id, FlowState.ACTIVE, "ada").next_tick is None

    def test_setting_a_state_twice_changes_nothing_more(self, world: World) -> None:
        world.register(source("a"))
        world.catalog.set_flow_state(world.flow("a").id, FlowState.PAUSED, "ada")
        before = world.picture()
        world.catalog.set_flow_state(world.flow("a").id, FlowState.PAUSED, "ada")
        assert world.picture() == before

    # Asking

    def test_asking_makes_a_flow_due_whatever_its_policy(self, world: World) -> None:
        world.register(source("a", policy=PolicyEnum.NONE))
        (run,) = world.ask("a")
        assert (run.state, run.cause.kind, run.agent) == (RunState.QUEUED, CauseKind.ASKED, "ada")
        assert world.claim("a").run.id == run.id

    def test_asking_twice_makes_one_run(self, world: World) -> None:
        world.register(source("a"))
        (first,) = world.ask("a")
        (second,) = world.ask("a")
        assert second.id == first.id
        claim = world.claim("a")
        (third,) = world.ask("a")
        assert (third.id, third.state) == (claim.run.id, RunState.RUNNING)

    def test_asking_at_once_makes_one_run(self, world: World, another_catalog: Catalog) -> None:
        world.register(source("a", policy=PolicyEnum.NONE))
        flow_id = world.flow("a").id
        catalogs = (world.catalog, another_catalog) * 3
        answers = at_once(*(lambda c=c: c.queue(flow_id, ASKED, "ada") for c in catalogs))
        assert len({runs[0].id for runs in answers}) == 1

    def test_asking_makes_a_waiting_retry_due_now(self, world: World) -> None:
        world.register(source("a"))
        world.fail(world.claim("a"), retry_after=1000.0)
        (run,) = world.ask("a")
        assert run.not_before is not None
        assert run.not_before <= world.catalog.now()
        assert world.claim("a").run.attempt == 2

    def test_asking_makes_a_run_for_each_argument_set(self, world: World) -> None:
        sets = tuple(ArgumentSet({"n": n}, f"k{n}") for n in (1, 2))
        world.register(analysis("a", argument_sets=sets, policy=PolicyEnum.NONE))
        assert [run.argument_set for run in world.ask("a")] == ["k1", "k2"]

    def test_asking_without_input_is_refused(self, world: World) -> None:
        world.make_data("x")
        world.register(analysis("a", "x"))
        with pytest.raises(RegistrationError, match="x"):
            world.ask("a")
        assert world.due() == []

    def test_asking_a_paused_flow_is_refused(self, world: World) -> None:
        world.register(source("a"))
        world.catalog.set_flow_state(world.flow("a").id, FlowState.PAUSED, "ada")
        with pytest.raises(RegistrationError, match="'a'"):
            world.ask("a")

    # Why

    def test_explain_names_what_a_flow_waits_for(self, world: World) -> None:
        world.make_data("x", "y", versions=1)
        world.register(analysis("a", "x", "y", policy=PolicyEnum.ALL))
        claim = world.claim("a")
        (why,) = world.catalog.explain(claim.flow.id)
        assert why.live_run is not None
        assert (why.live_run.id, why.last_run) == (claim.run.id, None)
        world.commit(claim, "first")
        world.make("x", "second")
        (why,) = world.catalog.explain(claim.flow.id)
        assert why.last_run is not None
        assert (why.last_run.id, why.live_run) == (claim.run.id, None)
        assert [(i.data, i.latest, i.consumed) for i in why.inputs] == [("x", 2, 1), ("y", 1, 1)]
        assert not why.decision.due
        assert "y" in why.decision.reason

    def test_explain_answers_for_each_argument_set(self, world: World) -> None:
        sets = tuple(ArgumentSet({"n": n}, f"k{n}") for n in (1, 2))
        world.register(analysis("a", argument_sets=sets))
        first = world.begin("a")[0]
        world.commit(first, "one")
        whys = world.catalog.explain(first.flow.id)
        assert [why.last_run is not None for why in whys] == [True, False]

    def test_explain_tells_that_a_flow_is_paused(self, world: World) -> None:
        world.register(analysis("a"))
        world.catalog.set_flow_state(world.flow("a").id, FlowState.PAUSED, "ada")
        (why,) = world.catalog.explain(world.flow("a").id)
        assert not why.decision.due
        assert "paused" in why.decision.reason
