"""Contract of a catalog's runs: claims, leases, limits, cancelling, waiting."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import attrs
import pytest

from aero_core.catalog import Beat, Catalog
from aero_core.errors import StaleRun
from aero_core.models import CauseKind, Commit, FlowState, Input, InputShape, Limits, RunState, Used
from aero_core.testing.catalog_world import (
    ENGINE,
    OTHER,
    PATIENCE,
    PLENTY,
    RARELY,
    World,
    analysis,
    at_once,
    check,
    content,
    function,
    source,
)


class RunningContract:
    """From a queued run to its claim, and all that may happen to it before its end."""

    # Claims

    def test_a_claim_has_all_that_a_task_needs(self, world: World) -> None:
        world.make_data("x", "y", versions=2)
        world.register(analysis("a", Input("p", "x"), Input("q", "y", version=1)))
        before = world.catalog.now()
        claim = world.claim("a")
        run = claim.run
        assert (run.state, run.attempt, run.fencing, run.holder) == ("running", 1, 1, ENGINE.id)
        assert run.attempt_id
        assert run.agent == "ada"
        assert run.started_at is not None
        assert before <= run.started_at <= world.catalog.now()
        x, y = world.data("x").id, world.data("y").id
        assert run.used == (Used("p", "x", x, 2), Used("q", "y", y, 1))
        assert [(v.data_id, v.number) for v in claim.used] == [(x, 2), (y, 1)]
        assert claim.flow == world.flow("a")
        assert not claim.taken_over
        assert world.catalog.run(run.id) == run

    def test_a_claim_has_items_and_shapes(self, world: World) -> None:
        world.make_data("x", "y", versions=1)
        inputs = tuple(
            Input("all", name, item=item, shape=InputShape.DICT) for name, item in (("x", "first"), ("y", "second"))
        )
        world.register(analysis("a", *inputs))
        used = world.claim("a").run.used
        assert [(u.item, u.shape) for u in used] == [
            ("first", InputShape.DICT),
            ("second", InputShape.DICT),
        ]

    def test_a_claim_has_the_latest_version_of_each_member(self, world: World) -> None:
        urls = "https://example.org/1", "https://example.org/2"
        world.register(source("a", *urls))
        for text in ("one", "two"):
            world.ask("a")
            claim = world.claim("a")
            output = claim.flow.spec.outputs[0]
            versions = tuple(content(output, text + url, member=url) for url in urls)
            world.commit(claim, versions=versions, members=tuple(check(u, u) for u in urls))
        world.ask("a")
        claim = world.claim("a")
        assert sorted((v.member, v.number) for v in claim.latest) == [(urls[0], 3), (urls[1], 4)]
        assert sorted(member.key for member in claim.members) == list(urls)
        assert all(member.validators == {"etag": "1"} for member in claim.members)

    def test_runs_begin_in_the_order_in_which_they_are_due(self, world: World) -> None:
        for name in ("c", "a", "b"):
            world.register(source(name))
        first, second = (world.begin(limits=Limits(1, host=None)) for _ in range(2))
        assert [claim.run.flow for claim in (*first, *second)] == ["c", "a"]

    def test_no_more_are_claimed_than_wanted(self, world: World) -> None:
        world.register(*(source(f"s{n}") for n in range(5)))
        assert len(world.begin(limits=Limits(2, host=None))) == 2
        assert world.begin(limits=Limits(0, host=None)) == ()
        assert len(world.begin()) == 3

    def test_only_the_chosen_flows_are_claimed(self, world: World) -> None:
        world.register(source("a"), source("b"))
        assert [claim.run.flow for claim in world.begin("b")] == ["b"]
        assert world.catalog.begin(ENGINE, PLENTY, []) == ()
        assert world.due() == ["a"]

    def test_ticks_of_other_flows_are_left_to_others(self, world: World) -> None:
        world.register(source("a", schedule=RARELY), source("b", schedule=RARELY))
        before = world.flow("a")
        world.begin("b")
        assert world.flow("a") == before

    def test_one_run_is_claimed_once(self, world: World, another_catalog: Catalog) -> None:
        names = [f"s{n}" for n in range(12)]
        world.register(*(source(name) for name in names))
        engines = [attrs.evolve(ENGINE, id=f"engine-{n}") for n in range(6)]
        catalogs = [world.catalog, another_catalog] * 3
        works = [lambda c=c, e=e: c.begin(e, Limits(5, host=None)) for c, e in zip(catalogs, engines, strict=True)]
        claimed = [claim.run.flow for claims in at_once(*works) for claim in claims]
        assert sorted(claimed) == sorted(names)

    def test_a_flow_never_overlaps_itself(self, world: World) -> None:
        world.register(source("a"))
        world.claim("a")
        world.ask("a")
        assert world.begin() == ()
        assert len(world.runs("a")) == 1

    def test_nothing_due_is_nothing(self, world: World) -> None:
        assert world.begin() == ()

    # Limits

    def test_runs_on_one_host_are_limited(self, world: World) -> None:
        world.register(*(source(f"s{n}", f"https://one.org/{n}") for n in range(3)))
        world.register(source("t", "https://two.org/x"), source("u", "file:///x"), analysis("v"))
        limits = Limits(10, host=2)
        assert [claim.run.flow for claim in world.begin(limits=limits)] == ["s0", "s1", "t", "u", "v"]
        assert world.begin(limits=limits, holder=OTHER) == ()
        running = next(run for run in world.runs("s0"))
        world.catalog.commit(Commit(running.id, running.fencing))
        assert [claim.run.flow for claim in world.begin(limits=limits)] == ["s2"]

    def test_runs_on_one_endpoint_are_limited(self, world: World) -> None:
        world.register(*(analysis(f"a{n}", endpoint="cluster") for n in range(3)))
        world.register(analysis("b", endpoint="other"))
        limits = Limits(10, endpoint=1, host=None)
        assert [claim.run.flow for claim in world.begin(limits=limits)] == ["a0", "b"]
        assert world.begin(limits=limits, holder=OTHER) == ()

    def test_a_changed_endpoint_counts_for_queued_runs(self, world: World) -> None:
        world.register(analysis("a", endpoint="cluster"), analysis("b", endpoint="cluster"))
        world.register(analysis("b", endpoint="other"))
        limits = Limits(10, endpoint=1, host=None)
        assert [claim.run.flow for claim in world.begin(limits=limits)] == ["a", "b"]

    # Handles, and stale holders

    def test_a_handle_is_kept(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        world.catalog.launched(claim.run.id, claim.run.fencing, "job 17")
        world.catalog.launched(claim.run.id, claim.run.fencing, "job 17")
        assert world.catalog.run(claim.run.id).handle == "job 17"

    def test_who_lost_a_run_can_do_nothing_to_it(self, world: World) -> None:
        world.register(analysis("a"))
        old = world.claim("a")
        world.catalog.release(ENGINE.id)
        (new,) = world.begin(holder=OTHER)
        before = world.picture()
        for wrong in (
            lambda: world.catalog.launched(old.run.id, old.run.fencing, "job 17"),
            lambda: world.catalog.hand_back(old.run.id, old.run.fencing),
            lambda: world.commit(old, "late"),
            lambda: world.fail(old),
            lambda: world.fail(old, retry_after=1.0),
        ):
            with pytest.raises(StaleRun):
                wrong()
        assert world.picture() == before
        assert world.commit(new, "in time").run.state is RunState.SUCCEEDED

    # Leases

    def test_an_engine_that_lives_keeps_its_runs(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        beat = world.catalog.heartbeat(ENGINE, [claim.run.id])
        assert (beat.cancel, beat.lost) == (frozenset(), frozenset())
        assert world.begin(holder=OTHER) == ()

    def test_a_released_run_is_taken_over_at_no_attempts_cost(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        old = world.claim("a")
        world.catalog.launched(old.run.id, old.run.fencing, "job 17")
        world.make("x", "second")
        assert [holder.id for holder in world.catalog.holders()] == [ENGINE.id]
        assert world.catalog.release(ENGINE.id) == 1
        assert world.catalog.release(ENGINE.id) == 0
        (new,) = world.begin(holder=OTHER)
        assert new.taken_over
        assert (new.run.attempt, new.run.fencing, new.run.holder) == (1, 2, OTHER.id)
        assert (new.run.handle, new.run.attempt_id) == ("job 17", old.run.attempt_id)
        assert new.run.used == old.run.used
        assert new.used == old.used
        assert world.catalog.holders() == (OTHER,)

    def test_a_released_run_is_foreseen_as_due(self, world: World) -> None:
        world.register(analysis("a"))
        world.claim("a")
        world.catalog.release(ENGINE.id)
        due = world.catalog.next_due()
        assert due is not None
        assert due <= world.catalog.now()

    def test_work_that_cannot_be_attached_to_gets_a_new_attempt_id(self, world: World) -> None:
        world.register(analysis("a"))
        old = world.claim("a")
        world.catalog.release(ENGINE.id)
        (new,) = world.begin(holder=OTHER)
        assert new.run.attempt_id != old.run.attempt_id
        assert new.run.attempt == 1

    def test_a_run_taken_over_keeps_its_revision(self, world: World) -> None:
        world.register(analysis("a"))
        world.claim("a")
        world.register(analysis("a", code="second"))
        world.catalog.release(ENGINE.id)
        (new,) = world.begin(holder=OTHER)
        assert (new.run.revision, new.flow.revision) == (1, 1)
        assert new.flow.spec.function == function("first")
        world.commit(new, "one")
        assert world.claim("a").run.revision == 2

    def test_a_lease_that_has_run_out_frees_the_run(self, world: World, hasty_catalog: Catalog) -> None:
        world.register(analysis("a"))
        (old,) = hasty_catalog.begin(ENGINE, PLENTY)
        due = world.catalog.next_due()
        assert due is not None
        assert due <= world.catalog.now()
        (new,) = world.begin(holder=OTHER)
        assert new.taken_over
        assert (new.run.id, new.run.attempt, new.run.fencing) == (old.run.id, 1, 2)
        assert hasty_catalog.heartbeat(ENGINE, [old.run.id]).lost == {old.run.id}

    def test_a_heartbeat_renews_a_lease(self, world: World, hasty_catalog: Catalog) -> None:
        world.register(analysis("a"))
        (claim,) = hasty_catalog.begin(ENGINE, PLENTY)
        assert not world.catalog.heartbeat(ENGINE, [claim.run.id]).lost
        assert world.begin(holder=OTHER) == ()

    def test_a_heartbeat_tells_of_what_is_not_held(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        beat = world.catalog.heartbeat(OTHER, [claim.run.id])
        assert beat.lost == {claim.run.id}
        assert world.catalog.heartbeat(ENGINE, []).lost == frozenset()

    # Handing back, cancelling

    def test_a_run_handed_back_is_as_if_it_had_not_begun(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        old = world.claim("a")
        world.catalog.hand_back(old.run.id, old.run.fencing)
        run = world.catalog.run(old.run.id)
        assert (run.state, run.attempt, run.holder) == (RunState.QUEUED, 0, None)
        assert run.used == ()
        assert run.cause == old.run.cause
        world.make("x", "second")
        new = world.claim("a")
        assert (new.run.id, new.run.attempt, new.taken_over) == (old.run.id, 1, False)
        assert new.run.attempt_id != old.run.attempt_id
        assert [used.number for used in new.run.used] == [2]

    def test_a_further_attempt_handed_back_still_has_its_inputs(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.fail(world.claim("a"), retry_after=0.0)
        second = world.claim("a")
        world.catalog.hand_back(second.run.id, second.run.fencing)
        third = world.claim("a")
        assert third.run.attempt == 2
        assert [used.number for used in third.run.used] == [1]

    def test_handing_back_twice_changes_nothing_more(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        world.catalog.hand_back(claim.run.id, claim.run.fencing)
        before = world.picture()
        world.catalog.hand_back(claim.run.id, claim.run.fencing)
        assert world.picture() == before

    def test_a_run_of_a_paused_flow_is_handed_back_for_good(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        world.catalog.set_flow_state(claim.flow.id, FlowState.PAUSED, "ada")
        world.catalog.hand_back(claim.run.id, claim.run.fencing)
        assert world.due() == []
        world.catalog.set_flow_state(claim.flow.id, FlowState.ACTIVE, "ada")
        assert world.due() == ["a"]

    def test_a_cancelled_run_of_a_dead_engine_does_not_begin_again(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        run = world.claim("a").run
        world.catalog.cancel(run.id, "ada")
        world.catalog.release(ENGINE.id)
        assert world.begin(holder=OTHER) == ()
        assert world.catalog.run(run.id).state is RunState.CANCELLED
        assert world.due() == []
        world.make("x", "second")
        assert world.due() == ["a"]

    def test_a_dead_engines_work_that_goes_on_elsewhere_is_taken_over_to_be_cancelled(self, world: World) -> None:
        world.register(analysis("a"))
        old = world.claim("a")
        world.catalog.launched(old.run.id, old.run.fencing, "job 17")
        world.catalog.cancel(old.run.id, "ada")
        world.catalog.release(ENGINE.id)
        (new,) = world.begin(holder=OTHER)
        assert world.catalog.heartbeat(OTHER, [new.run.id]).cancel == {new.run.id}

    def test_a_cancelled_run_that_is_handed_back_waits_for_something_new(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        claim = world.claim("a")
        world.catalog.cancel(claim.run.id, "ada")
        world.catalog.hand_back(claim.run.id, claim.run.fencing)
        world.register(analysis("a", "x", schedule=RARELY))
        world.register(analysis("a", "x"))
        assert world.due() == []

    def test_a_queued_run_is_cancelled_at_once(self, world: World) -> None:
        world.register(analysis("a"))
        (queued,) = world.runs("a")
        run = world.catalog.cancel(queued.id, "ada")
        assert run.state is RunState.CANCELLED
        assert run.ended_at is not None
        assert world.begin() == ()
        assert world.catalog.cancel(queued.id, "ada") == run

    def test_a_running_run_is_asked_to_stop(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        position = world.catalog.position()
        assert world.catalog.cancel(claim.run.id, "ada").cancel_requested
        assert world.catalog.position() > position
        assert world.catalog.heartbeat(ENGINE, [claim.run.id]) == Beat(cancel=frozenset({claim.run.id}))
        assert world.fail(claim, cancelled=True).state is RunState.CANCELLED

    def test_a_run_asked_to_stop_is_not_tried_again(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        world.catalog.cancel(claim.run.id, "ada")
        assert world.fail(claim, retry_after=1.0).state is RunState.CANCELLED

    # Waiting

    def test_next_due_foresees_nothing_where_nothing_is(self, world: World) -> None:
        assert world.catalog.next_due() is None
        world.make_data("x", versions=1)
        assert world.catalog.next_due() is None

    def test_next_due_is_the_nearest_of_runs_ticks_and_leases(self, world: World) -> None:
        world.register(source("a", schedule=RARELY))
        flow = world.flow("a")
        due = world.catalog.next_due()
        assert due is not None
        assert due <= world.catalog.now()
        claim = world.claim("a")
        lease = world.catalog.next_due()
        assert lease is not None
        assert lease > world.catalog.now()
        world.commit(claim, "one")
        assert world.catalog.next_due() == flow.next_tick
        world.ask("a")
        later = world.fail(world.claim("a"), retry_after=100.0)
        assert world.catalog.next_due() == later.not_before
        assert later.not_before is not None
        assert later.not_before - world.catalog.now() > timedelta(seconds=90)
        assert world.begin() == ()

    def test_next_due_of_some_flows(self, world: World) -> None:
        world.register(source("a"), source("b", schedule=RARELY))
        b = world.flow("b")
        world.commit(world.claim("b"), "one")
        assert world.catalog.next_due([b.id]) == b.next_tick
        assert world.catalog.next_due([]) is None

    def test_the_position_grows_with_what_engines_act_on(self, world: World) -> None:
        position = world.catalog.position()
        for change in (
            lambda: world.register(source("a")),
            lambda: world.commit(world.claim("a"), "one"),
            lambda: world.ask("a"),
            lambda: world.fail(world.claim("a"), retry_after=0.0),
            lambda: world.catalog.hand_back((c := world.claim("a")).run.id, c.run.fencing),
            lambda: (world.claim("a"), world.catalog.release(ENGINE.id)),
            lambda: world.catalog.set_flow_state(world.flow("a").id, FlowState.PAUSED, "ada"),
        ):
            change()
            assert world.catalog.position() > position
            position = world.catalog.position()

    def test_looking_in_vain_wakes_nobody(self, world: World) -> None:
        world.register(*(source(f"s{n}", f"https://one.org/{n}") for n in range(2)))
        limits = Limits(10, host=1)
        assert len(world.begin(limits=limits)) == 1
        position = world.catalog.position()
        assert world.begin(limits=limits, holder=OTHER) == ()
        assert world.catalog.position() == position

    def test_waiting_ends_when_its_time_is_over(self, world: World) -> None:
        position = world.catalog.position()
        began = time.monotonic()
        assert world.catalog.wait(position, 0.05) == position
        assert 0.04 <= time.monotonic() - began < PATIENCE / 2

    def test_waiting_for_what_has_been_ends_at_once(self, world: World) -> None:
        position = world.catalog.position()
        world.register(source("a"))
        assert world.catalog.wait(position, PATIENCE) == world.catalog.position()

    def test_a_change_by_this_catalog_wakes(self, world: World) -> None:
        self._wakes(world, world)

    def test_a_change_by_another_catalog_wakes(self, world: World, another_catalog: Catalog) -> None:
        self._wakes(world, World(another_catalog))

    def _wakes(self, waiting: World, changing: World) -> None:
        position = waiting.catalog.position()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(waiting.catalog.wait, position, PATIENCE)
            changing.register(source("a"))
            began = time.monotonic()
            assert answer.result(PATIENCE) > position
        assert time.monotonic() - began < 1.0
        assert waiting.claim("a").run.cause.kind is CauseKind.REGISTERED
