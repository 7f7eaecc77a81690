"""Contract of a catalog's commits and failures: numbers, comparison, what is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import attrs
import pytest

from aero_core.catalog import Catalog
from aero_core.errors import CommitConflict, StaleRun
from aero_core.models import (
    Commit,
    Environment,
    FlowState,
    NewVersion,
    Output,
    PolicyEnum,
    RunState,
    Standing,
    Step,
)
from aero_core.testing.catalog_world import (
    ENGINE,
    FAILURE,
    World,
    analysis,
    at_once,
    check,
    content,
    every,
    function,
    source,
)

_T = datetime(2026, 3, 1, tzinfo=UTC)
STEPS = (Step("pull", _T, _T.replace(hour=1)), Step("function", _T.replace(hour=1), _T.replace(hour=2)))
PLACE = Environment("3.11.7", "Linux", "host", "local", {"numpy": "2.0.0"})


class CommittingContract:
    """The end of a run."""

    # What a commit adds

    def test_a_commit_adds_a_version(self, world: World) -> None:
        world.register(source("a"))
        claim = world.claim("a")
        before = world.catalog.now()
        committed = world.commit(claim, "one")
        (version,) = committed.versions
        assert (version.number, version.standing) == (1, Standing.CURRENT)
        assert version.run_id == claim.run.id
        assert version.available_at is not None
        assert before <= version.available_at <= world.catalog.now()
        assert world.catalog.latest(version.data_id) == version
        (generated,) = committed.run.generated
        assert (generated.data, generated.number, generated.confirmed) == ("a", 1, False)

    def test_a_commit_keeps_all_that_the_run_says(self, world: World) -> None:
        world.register(source("a"))
        fields = {"steps": STEPS, "metrics": {"bytes": 7}, "environment": PLACE, "log": "a.log"}
        run = world.commit(world.claim("a"), "one", **fields).run
        assert (run.state, run.steps, run.metrics) == (RunState.SUCCEEDED, STEPS, {"bytes": 7})
        assert (run.environment, run.log, run.error) == (PLACE, "a.log", None)
        assert run.ended_at is not None
        assert world.catalog.run(run.id) == run

    def test_several_outputs_are_numbered_apart(self, world: World) -> None:
        outputs = Output("table", "a.table"), Output("plot", "a.plot")
        world.register(analysis("a", outputs=outputs))
        world.make("a", "one")
        world.ask("a")
        claim = world.claim("a")
        table, plot = claim.flow.spec.outputs
        world.commit(claim, versions=(content(table, "two"), content(plot, "one")))
        assert (world.latest("a.table"), world.latest("a.plot")) == (2, 1)

    def test_a_run_without_outputs_succeeds(self, world: World) -> None:
        world.register(analysis("a", outputs=()))
        assert world.commit(world.claim("a")).run.state is RunState.SUCCEEDED

    def test_a_run_that_made_nothing_is_unchanged(self, world: World) -> None:
        world.register(analysis("a"))
        assert world.commit(world.claim("a")).run.state is RunState.UNCHANGED

    def test_a_run_of_an_old_revision_is_recorded_with_its_code(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        world.register(analysis("a", code="second", outputs=()))
        run = world.commit(claim, "one").run
        assert (run.state, run.revision) == (RunState.SUCCEEDED, 1)
        text = str(world.catalog.outbox(0)[-1].payload)
        assert function("first").digest in text
        assert function("second").digest not in text

    # Committing twice, committing late

    def test_a_commit_is_answered_again(self, world: World) -> None:
        world.register(source("a"))
        claim = world.claim("a")
        first = world.commit(claim, "one")
        before = world.picture()
        assert world.commit(claim, "one") == first
        assert world.commit(claim, "something else") == first
        assert world.catalog.commit(Commit(claim.run.id, 99)) == first
        assert world.picture() == before

    def test_commits_at_once_of_one_run_are_one(self, world: World, another_catalog: Catalog) -> None:
        world.register(source("a"))
        claim = world.claim("a")
        worlds = [world, World(another_catalog)] * 3
        answers = at_once(*(lambda w=w: w.commit(claim, "one") for w in worlds))
        assert len({str(answer) for answer in answers}) == 1
        assert world.numbers("a") == [1]

    @pytest.mark.parametrize("change", [-1, 1])
    def test_another_fencing_number_is_refused(self, world: World, change: int) -> None:
        world.register(source("a"))
        claim = world.claim("a")
        wrong = attrs.evolve(claim, run=attrs.evolve(claim.run, fencing=claim.run.fencing + change))
        before = world.picture()
        with pytest.raises(StaleRun):
            world.commit(wrong, "one")
        assert world.picture() == before

    def test_a_run_that_is_not_running_is_refused(self, world: World) -> None:
        world.register(source("a"))
        claim = world.claim("a")
        world.fail(claim, retry_after=0.0)
        with pytest.raises(StaleRun):
            world.commit(claim, "one")
        world.fail(world.claim("a"))
        with pytest.raises(StaleRun):
            world.commit(claim, "one")
        assert world.numbers("a") == []

    # Numbers

    def test_numbers_have_no_gaps_whatever_commits_at_once(self, world: World, another_catalog: Catalog) -> None:
        other = World(another_catalog)
        names = [f"s{n}" for n in range(6)]
        world.register(*(source(name, policy=PolicyEnum.NONE) for name in names))
        for turn in range(3):
            for name in names:
                world.ask(name)
            claims = world.begin()
            at_once(
                *(lambda w=w, c=c, t=turn: w.commit(c, f"{t}") for w, c in zip([world, other] * 3, claims, strict=True))
            )
        for name in names:
            assert world.numbers(name) == [3, 2, 1]

    def test_available_at_grows_with_every_version(self, world: World) -> None:
        world.make_data("a", versions=5)
        data_id = world.data("a").id
        times = [version.available_at for version in every(lambda after: world.catalog.versions(data_id, after))]
        assert all(a is not None and b is not None and a > b for a, b in pairwise(times))

    # Comparing

    def test_equal_content_makes_no_version(self, world: World) -> None:
        world.register(source("a"))
        world.make("a", "one")
        committed = world.make("a", "one")
        assert committed.versions == ()
        assert committed.run.state is RunState.UNCHANGED
        (generated,) = committed.run.generated
        assert (generated.number, generated.confirmed) == (1, True)

    def test_content_found_equal_where_it_ran_needs_no_location(self, world: World) -> None:
        world.make_data("a", versions=1)
        world.ask("a")
        claim = world.claim("a")
        same = content(claim.flow.spec.outputs[0], "a 1", location=None)
        assert world.commit(claim, versions=(same,)).run.state is RunState.UNCHANGED

    def test_content_as_before_the_latest_is_new(self, world: World) -> None:
        world.register(source("a"))
        for text in ("one", "two", "one"):
            world.make("a", text)
        assert world.numbers("a") == [3, 2, 1]

    def test_members_are_compared_apart(self, world: World) -> None:
        urls = "https://example.org/1", "https://example.org/2"
        world.register(source("a", *urls))
        for text in ("one", "two", "two"):
            world.ask("a")
            claim = world.claim("a")
            output = claim.flow.spec.outputs[0]
            versions = (
                content(output, "same", member=urls[0]),
                content(output, text, member=urls[1]),
            )
            run = world.commit(claim, versions=versions).run
        assert run.state is RunState.UNCHANGED
        assert [(g.number, g.confirmed) for g in run.generated] == [(1, True), (3, True)]
        assert world.numbers("a") == [3, 2, 1]

    def test_held_content_is_not_held_twice(self, world: World) -> None:
        world.make_data("a", versions=1)
        for text, made in (("odd", 1), ("odd", 0), ("a 1", 0), ("odder", 1)):
            world.ask("a")
            claim = world.claim("a")
            new = content(claim.flow.spec.outputs[0], text, held="half as long")
            committed = world.commit(claim, versions=(new,))
            assert len(committed.versions) == made
        assert world.numbers("a") == [3, 2, 1]
        held = world.catalog.version(world.data("a").id, 3)
        assert (held.standing, held.available_at) == (Standing.HELD, None)
        assert world.latest("a") == 1

    def test_another_rules_fingerprint_stands_in(self, world: World) -> None:
        world.make_data("a", versions=1)
        world.ask("a")
        claim = world.claim("a")
        output = claim.flow.spec.outputs[0]
        same = content(output, "a 1", fingerprint="csv:1", previous_number=1, previous_fingerprint="csv:1")
        assert world.commit(claim, versions=(same,)).run.state is RunState.UNCHANGED
        world.ask("a")
        claim = world.claim("a")
        other = content(output, "new", fingerprint="csv:2", previous_number=1, previous_fingerprint="csv:1")
        assert [v.number for v in world.commit(claim, versions=(other,)).versions] == [2]

    # Conflicts

    def test_content_that_is_no_longer_equal_is_a_conflict(self, world: World) -> None:
        world.make_data("a", versions=2)
        world.ask("a")
        claim = world.claim("a")
        old = content(claim.flow.spec.outputs[0], "a 1", location=None)
        before = world.picture()
        with pytest.raises(CommitConflict) as caught:
            world.commit(claim, versions=(old,))
        assert caught.value.retryable
        assert world.picture() == before
        assert world.commit(claim, "a 3").run.state is RunState.SUCCEEDED

    def test_a_location_that_is_being_collected_is_a_conflict(self, world: World) -> None:
        world.register(source("a"))
        claim = world.claim("a")
        new = content(claim.flow.spec.outputs[0], "one")
        place = str(new.location)
        assert world.catalog.mark_collecting([place]) == (place,)
        with pytest.raises(CommitConflict):
            world.commit(claim, versions=(new,))
        world.catalog.unmark_collecting([place])
        assert world.commit(claim, versions=(new,)).run.state is RunState.SUCCEEDED

    # Polls

    def test_a_poll_keeps_what_it_learned_of_members(self, world: World) -> None:
        world.register(source("a"))
        url = world.flow("a").spec.outputs[0].data
        first = check(url, decided_by="bytes", validators={"etag": "1"})
        world.commit(world.claim("a"), "one", members=(first,))
        world.ask("a")
        second = check(url, decided_by="etag", validators={"etag": "2"})
        world.commit(world.claim("a"), members=(second,))
        (member,) = world.catalog.members(world.data("a").id).items
        assert (member.url, member.validators, member.decided_by) == (url, {"etag": "2"}, "etag")
        assert member.checked_at is not None
        assert member.gone_at is None

    def test_a_member_is_gone_since_it_was_first_missing(self, world: World) -> None:
        world.register(source("a"))
        seen = []
        for gone in (False, True, True, False):
            world.ask("a")
            world.commit(world.claim("a"), members=(check("file:///a", gone=gone),))
            (member,) = world.catalog.members(world.data("a").id).items
            seen.append(member.gone_at)
        assert seen[0] is None
        assert seen[1] is not None
        assert seen[2] == seen[1]
        assert seen[3] is None

    def test_the_last_hundred_unchanged_polls_are_kept(self, world: World) -> None:
        world.register(source("a"))
        made = world.make("a", "one").run
        ids: list[str] = []
        forgotten: list[str] = []
        for _ in range(103):
            world.ask("a")
            committed = world.commit(world.claim("a"), "one")
            ids.append(committed.run.id)
            forgotten += committed.forgotten
        assert [run.id for run in world.runs("a")] == [*reversed(ids[3:]), made.id]
        # Their logs lie elsewhere, and go by this.
        assert forgotten == ids[:3]

    def test_unchanged_analyses_are_kept(self, world: World) -> None:
        world.register(analysis("a"))
        for _ in range(103):
            world.make("a", "one")
        assert len(world.runs("a")) == 103

    # Failing

    def test_a_failed_attempt_is_tried_again_later(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        run = world.fail(claim, retry_after=100.0, log="a.log", steps=STEPS)
        assert (run.state, run.attempt, run.holder) == (RunState.QUEUED, 1, None)
        assert (run.cause, run.error, run.log) == (claim.run.cause, FAILURE, "a.log")
        assert run.not_before is not None
        assert 90 < (run.not_before - world.catalog.now()).total_seconds() <= 100
        world.ask("a")
        again = world.claim("a")
        assert (again.run.attempt, again.run.fencing) == (2, 2)
        assert again.run.attempt_id != claim.run.attempt_id
        assert world.commit(again, "one").run.error is None

    @pytest.mark.parametrize("how", [{}, {"cancelled": True}, {"retry_after": 100.0}])
    def test_a_failed_attempt_keeps_all_that_it_says(self, world: World, how: dict[str, Any]) -> None:
        world.register(analysis("a"))
        fields = {"steps": STEPS, "metrics": {"bytes": 7}, "environment": PLACE, "log": "a.log"}
        run = world.fail(world.claim("a"), **fields, **how)
        assert (run.steps, run.metrics, run.error) == (STEPS, {"bytes": 7}, FAILURE)
        assert (run.environment, run.log) == (PLACE, "a.log")
        assert world.catalog.run(run.id) == run

    def test_a_further_attempt_reads_what_is_latest_then(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.fail(world.claim("a"), retry_after=0.0)
        world.make("x", "second")
        claim = world.claim("a")
        assert [used.number for used in claim.run.used] == [2]
        world.commit(claim, "one")
        assert world.due() == []

    def test_a_run_that_failed_for_good_is_over(self, world: World) -> None:
        world.register(analysis("a"))
        run = world.fail(world.claim("a"), environment=PLACE)
        assert (run.state, run.error, run.environment) == (RunState.FAILED, FAILURE, PLACE)
        assert run.ended_at is not None
        assert world.begin() == ()
        assert world.numbers("a") == []

    @pytest.mark.parametrize("retry_after", [None, 100.0])
    def test_failing_twice_changes_nothing_more(self, world: World, retry_after: float | None) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        first = world.fail(claim, retry_after=retry_after)
        before = world.picture()
        assert world.fail(claim, retry_after=retry_after) == first
        assert world.picture() == before

    def test_a_paused_flow_is_not_tried_again(self, world: World) -> None:
        world.register(analysis("a"))
        claim = world.claim("a")
        world.catalog.set_flow_state(claim.flow.id, FlowState.PAUSED, "ada")
        assert world.fail(claim, retry_after=0.0).state.final
        assert world.begin(holder=ENGINE) == ()
        world.catalog.set_flow_state(claim.flow.id, FlowState.ACTIVE, "ada")
        assert world.due() == ["a"]

    def test_content_for_another_flows_data_is_refused(self, world: World) -> None:
        world.make_data("x")
        world.register(analysis("a"))
        claim = world.claim("a")
        x = world.flow("x").spec.outputs[0]
        stray = NewVersion("", x.data_id, "sha256:0", "bytes:0", 1, location="file:///0")
        with pytest.raises(Exception, match="x"):
            world.commit(claim, versions=(stray,))
        assert world.numbers("x") == []
