"""Contract of a catalog's triggers: what makes a flow due, and what does not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aero_core.catalog import Catalog
from aero_core.models import (
    ArgumentSet,
    CauseKind,
    Input,
    PolicyEnum,
    RunState,
    Schedule,
)
from aero_core.testing.catalog_world import (
    RARELY,
    RETRY,
    World,
    analysis,
    at_once,
    content,
    source,
)

YEARLY = Schedule(cron="0 0 1 1 *")
#: Short enough for a test to let its ticks pass.
OFTEN = Schedule(seconds=0.02)


class TriggerContract:
    """When flows are due: at registration, by new versions, by ticks, when asked."""

    # New versions

    def test_any_is_due_by_one_new_version(self, world: World) -> None:
        world.make_data("x", "y", versions=1)
        world.register(analysis("a", "x", "y"))
        world.commit(world.claim("a"), "first")
        world.make("y", "second")
        claim = world.claim("a")
        assert claim.run.cause.kind is CauseKind.INPUTS
        assert claim.run.cause.detail == ("y@2",)

    def test_all_is_due_by_new_versions_of_every_input(self, world: World) -> None:
        world.make_data("x", "y", versions=1)
        world.register(analysis("a", "x", "y", policy=PolicyEnum.ALL))
        world.commit(world.claim("a"), "first")
        world.make("x", "second")
        world.make("x", "third")
        assert world.due() == []
        world.make("y", "second")
        assert world.claim("a").run.cause.detail == ("x@3", "y@2")

    def test_a_change_of_settings_lets_what_waits_begin(self, world: World) -> None:
        world.make_data("x", "y", versions=1)
        world.register(analysis("a", "x", "y", policy=PolicyEnum.ALL))
        world.commit(world.claim("a"), "first")
        world.make("x", "second")
        assert world.due() == []
        world.register(analysis("a", "x", "y", policy=PolicyEnum.ANY))
        assert world.claim("a").run.cause.detail == ("x@2",)

    def test_a_pinned_input_never_triggers(self, world: World) -> None:
        world.make_data("x", "y", versions=1)
        world.register(analysis("a", "y", Input("p", "x", version=1)))
        claim = world.claim("a")
        assert [version.number for version in claim.used] == [1, 1]
        world.commit(claim, "first")
        world.make("x", "second")
        assert world.due() == []
        world.make("y", "second")
        assert {used.data: used.number for used in world.claim("a").run.used} == {"x": 1, "y": 2}

    @pytest.mark.parametrize("policy", [PolicyEnum.NONE, PolicyEnum.TIMER])
    def test_other_policies_take_no_notice_of_versions(self, world: World, policy: PolicyEnum) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x", policy=policy))
        for claim in world.begin("a"):
            world.commit(claim, "first")
        world.make("x", "second")
        assert world.due() == []

    def test_versions_that_come_before_a_run_begins_are_one_run(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.make("x", "second")
        world.make("x", "third")
        claim = world.claim("a")
        assert [version.number for version in claim.used] == [3]
        world.commit(claim, "first")
        assert world.due() == []

    def test_a_version_that_comes_during_a_run_makes_it_due_again(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        claim = world.claim("a")
        world.make("x", "second")
        assert world.due() == []
        world.commit(claim, "first")
        assert [used.number for used in world.claim("a").run.used] == [2]

    def test_an_unchanged_result_counts_as_consumed(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.commit(world.claim("a"), "same")
        world.make("x", "second")
        assert world.commit(world.claim("a"), "same").run.state is RunState.UNCHANGED
        assert world.due() == []

    def test_an_unchanged_commit_triggers_nobody(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.commit(world.claim("a"), "first")
        world.make("x", "x 1")
        assert world.due() == []

    def test_a_held_version_triggers_nobody(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.commit(world.claim("a"), "first")
        world.ask("x")
        claim = world.claim("x")
        held = content(claim.flow.spec.outputs[0], "odd", held="half as long")
        world.commit(claim, versions=(held,))
        assert world.latest("x") == 1
        assert world.due() == []

    def test_two_commits_at_once_never_lose_an_all_trigger(self, world: World, another_catalog: Catalog) -> None:
        other = World(another_catalog)
        world.make_data("x", "y", versions=1)
        world.register(analysis("a", "x", "y", policy=PolicyEnum.ALL))
        world.commit(world.claim("a"), "a 0")
        for turn in range(8):
            world.ask("x")
            world.ask("y")
            x, y = world.claim("x"), world.claim("y")
            new = f"turn {turn}"
            at_once(lambda: world.commit(x, new), lambda: other.commit(y, new))  # noqa: B023
            assert world.due() == ["a"]
            world.commit(world.claim("a"), f"a {turn}")

    def test_a_chain_runs_to_its_end(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"), analysis("b", "a"), analysis("c", "b"))
        for name in "abc":
            assert world.due() == [name]
            world.commit(world.claim(name), name)
        assert world.due() == []

    def test_disabled_flows_take_no_notice(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x", origin="old.py"))
        world.register(origins=("old.py",), prune=True)
        world.make("x", "second")
        assert world.due() == []

    def test_argument_sets_consume_apart(self, world: World) -> None:
        world.make_data("x", versions=1)
        sets = tuple(ArgumentSet({"n": n}, f"k{n}") for n in (1, 2))
        world.register(analysis("a", "x", argument_sets=sets))
        first, second = world.begin("a")
        world.commit(first, "one")
        assert world.due() == []
        world.make("x", "second")
        assert [run.argument_set for run in world.runs(state=RunState.QUEUED)] == [first.run.argument_set]
        world.commit(second, "two")
        assert world.due() == ["a", "a"]

    # After a failure for good

    def test_a_flow_that_failed_for_good_waits_for_news(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        assert world.fail(world.claim("a")).state is RunState.FAILED
        assert world.due() == []
        (why,) = world.catalog.explain(world.flow("a").id)
        assert (why.inputs[0].consumed, why.inputs[0].attempted) == (0, 1)
        assert not why.decision.due
        world.make("x", "second")
        claim = world.claim("a")
        world.commit(claim, "first")
        (why,) = world.catalog.explain(world.flow("a").id)
        assert (why.inputs[0].consumed, why.inputs[0].attempted) == (2, None)

    def test_what_came_during_a_failing_run_makes_it_due_again(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        claim = world.claim("a")
        world.make("x", "second")
        world.fail(claim)
        assert world.due() == ["a"]

    def test_a_new_revision_runs_after_a_failure(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.fail(world.claim("a"))
        world.register(analysis("a", "x", code="mended"))
        assert world.claim("a").run.revision == 2

    def test_a_failed_revision_is_not_due_again(self, world: World) -> None:
        world.register(analysis("a"))
        world.fail(world.claim("a"))
        assert world.due() == []

    def test_retry_forgets_the_failure(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.fail(world.claim("a"))
        (run,) = world.ask("a", RETRY)
        assert (run.cause.kind, run.state) == (CauseKind.RETRY, RunState.QUEUED)
        (why,) = world.catalog.explain(world.flow("a").id)
        assert why.inputs[0].attempted is None
        world.commit(world.claim("a"), "first")
        assert world.due() == []

    def test_a_cancelled_run_counts_as_attempted(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        run = world.fail(world.claim("a"), cancelled=True)
        assert run.state is RunState.CANCELLED
        assert world.due() == []

    def test_a_run_cancelled_while_queued_does_not_come_back(self, world: World) -> None:
        world.make_data("x", "y", versions=1)
        world.register(analysis("a", "x", "y"))
        (queued,) = world.runs("a")
        assert world.catalog.cancel(queued.id, "ada").state is RunState.CANCELLED
        assert not world.catalog.explain(world.flow("a").id)[0].decision.due
        world.make("x", "second")
        assert world.due() == ["a"]

    # Ticks

    def test_a_tick_makes_a_run(self, world: World) -> None:
        world.register(source("a", schedule=OFTEN))
        world.commit(world.claim("a"), "one")
        tick = world.flow("a").next_tick
        assert tick is not None
        assert world.catalog.next_due() == tick
        world.until(tick)
        claim = world.claim("a")
        assert claim.run.cause.kind is CauseKind.TICK
        after = world.flow("a").next_tick
        assert after is not None
        assert after > tick

    def test_missed_ticks_are_one(self, world: World) -> None:
        world.register(source("a", schedule=OFTEN))
        world.commit(world.claim("a"), "one")
        world.until(world.catalog.now() + timedelta(seconds=0.1))
        began = world.catalog.now()
        world.commit(world.claim("a"), "two")
        after = world.flow("a").next_tick
        assert after is not None
        assert after > began
        assert len(world.runs("a")) == 2

    def test_a_tick_during_a_run_makes_no_second_one(self, world: World) -> None:
        world.register(source("a", schedule=OFTEN))
        claim = world.claim("a")
        world.until(world.catalog.now() + timedelta(seconds=0.05))
        assert world.begin() == ()
        world.commit(claim, "one")
        assert world.due() == []

    def test_a_tick_makes_a_waiting_retry_due_now(self, world: World) -> None:
        world.register(source("a", schedule=OFTEN))
        assert world.fail(world.claim("a"), retry_after=1000.0).state is RunState.QUEUED
        tick = world.flow("a").next_tick
        assert tick is not None
        world.until(tick)
        assert world.claim("a").run.attempt == 2

    def test_a_ticking_timer_waits_for_a_first_version(self, world: World) -> None:
        world.make_data("x")
        world.register(analysis("a", "x", policy=PolicyEnum.TIMER, schedule=OFTEN))
        world.until(world.catalog.now() + timedelta(seconds=0.05))
        assert world.begin() == ()
        world.make("x", "one")
        assert world.due() == ["a"]

    def test_an_event_flow_ticks_like_an_ingestion(self, world: World) -> None:
        world.register(source("a", policy=PolicyEnum.INGESTION_EVENT, schedule=OFTEN))
        assert world.due() == []
        world.until(world.catalog.now() + timedelta(seconds=0.05))
        assert world.claim("a").run.cause.kind is CauseKind.TICK

    def test_a_flow_of_policy_none_has_no_ticks(self, world: World) -> None:
        world.register(source("a", policy=PolicyEnum.NONE, schedule=OFTEN))
        world.until(world.catalog.now() + timedelta(seconds=0.05))
        assert world.begin() == ()
        assert world.catalog.next_due() is None

    def test_with_a_schedule_versions_are_looked_at_on_ticks_only(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x", schedule=RARELY), analysis("b", "x", schedule=OFTEN))
        for claim in world.begin():
            world.commit(claim, "first")
        world.make("x", "second")
        assert world.due() == []
        world.until(world.catalog.now() + timedelta(seconds=0.05))
        assert [used.number for used in world.claim("b").run.used] == [2]
        assert world.begin() == ()

    def test_a_tick_without_news_makes_no_run(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x", schedule=OFTEN))
        world.commit(world.claim("a"), "first")
        world.until(world.catalog.now() + timedelta(seconds=0.05))
        assert world.begin() == ()
        assert world.due() == []

    def test_a_new_revision_does_not_wait_for_a_tick(self, world: World) -> None:
        world.make_data("x")
        world.register(analysis("a", "x", schedule=RARELY))
        world.make("x", "one")
        world.commit(world.claim("a"), "first")
        world.register(analysis("a", "x", schedule=RARELY, code="second"))
        assert world.due() == ["a"]
