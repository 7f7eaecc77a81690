"""The engine drives runs to their commit: claims, retries, cancels, limits, waking."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from aero_core.config import LimitSettings
from aero_core.engine import EventKind
from aero_core.engine.tasks import retry_after
from aero_core.errors import AeroError, CatalogError
from aero_core.models import Environment, Failure, FlowState, PolicyEnum, Report, Result, RunState, Schedule
from tests.unit.engines import World, in_thread, source, spec


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds in the test's folder."""
    made: list[World] = []

    def world(**how: Any) -> World:
        made.append(World(tmp_path, **how))
        return made[-1]

    yield world
    for each in made:
        each.close()


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


# Claims and commits


def test_a_run_is_claimed_driven_and_committed(world: World) -> None:
    world.register(spec("a"))
    run = world.ask("a")
    with world.running():
        attempt = world.hand.wait(1)
        assert world.catalog.run(run.id).state is RunState.RUNNING
        assert Path(attempt.task["scratch"]).is_dir()
        world.hand.succeed(attempt, "one")
        ended = world.wait_for(EventKind.ENDED)
        assert ended.run is not None
        assert (ended.run.id, ended.run.state) == (run.id, RunState.SUCCEEDED)
        assert [version.number for version in ended.versions] == [1]
    assert not Path(attempt.task["scratch"]).exists()
    assert world.latest("a") == 1


def test_a_commit_begins_its_dependents(world: World) -> None:
    world.register(spec("a"), spec("b", "a"), spec("c", "b"))
    world.ask("a")
    with world.running():
        for number, text in enumerate("abc", 1):
            world.hand.succeed(world.hand.wait(number), text)
        world.wait_for(EventKind.ENDED, 3)
    assert [attempt.task["flow"] for attempt in world.hand.attempts] == ["a", "b", "c"]
    assert [event.kind for event in world.events] == [EventKind.BEGAN, EventKind.ENDED] * 3


def test_run_to_rest_answers_what_ended_in_order(world: World) -> None:
    world.register(spec("a"), spec("b", "a"))
    world.ask("a")

    def drive() -> None:
        world.hand.succeed(world.hand.wait(1), "a")
        world.hand.fail(world.hand.wait(2))

    with world.engine() as engine, in_thread(drive):
        ended = engine.run_to_rest()
    assert [(run.flow, run.state) for run in ended] == [("a", RunState.SUCCEEDED), ("b", RunState.FAILED)]


def test_run_to_rest_takes_a_flow_that_ticks_all_the_time_once(world: World) -> None:
    world.register(spec("a", policy=PolicyEnum.TIMER, schedule=Schedule(seconds=0.01)), spec("b", "a"))

    def drive() -> None:
        for number, text in enumerate("ab", 1):
            world.hand.succeed(world.hand.wait(number), text)

    with world.engine() as engine, in_thread(drive):
        ended = engine.run_to_rest()
    assert [run.flow for run in ended] == ["a", "b"]


def test_only_some_flows_are_driven(world: World) -> None:
    mine, _ = world.register(spec("a"), spec("b"))
    world.ask("a")
    world.ask("b")
    with world.engine() as engine:
        engine._only = {mine.id}
        with in_thread(lambda: world.hand.succeed(world.hand.wait(1), "a")):
            assert [run.flow for run in engine.run_to_rest()] == ["a"]
    assert world.runs("b")[0].state is RunState.QUEUED


# Logs


def test_a_log_goes_with_the_last_that_is_known_of_its_run(world: World) -> None:
    world.register(source("a", "h"))
    world.bring("a", "same")
    with world.running():
        world.ask("a")
        first = world.hand.wait(1)
        Path(str(first.log)).write_text("nothing new\n")
        world.hand.succeed(first, "same")
        world.wait_for(EventKind.ENDED)
    for _ in range(99):
        world.bring("a", "same")
    assert first.task["run_id"] in [run.id for run in world.catalog.list_runs(limit=200).items]
    assert Path(str(first.log)).exists()
    world.ask("a")
    with world.running():
        world.hand.succeed(world.hand.wait(2), "same")
        world.wait_for(EventKind.ENDED, 2)
    assert first.task["run_id"] not in [run.id for run in world.catalog.list_runs(limit=200).items]
    assert not Path(str(first.log)).exists()


def test_attempts_share_a_log_which_stays_if_any_wrote(world: World) -> None:
    world.register(spec("loud", retries=1), spec("silent", retries=1))
    runs = [world.ask("loud"), world.ask("silent")]
    with world.running():
        for attempt in (world.hand.wait(1), world.hand.wait(2)):
            text = "tried\n" if attempt.task["flow"] == "loud" else ""
            Path(str(attempt.log)).write_text(text)
            world.hand.fail(attempt)
        world.wait_for(EventKind.RETRY, 2)
        for number in (3, 4):
            world.hand.succeed(world.hand.wait(number))
        world.wait_for(EventKind.ENDED, 2)
    loud, silent = [world.catalog.run(run.id).log for run in runs]
    assert loud is not None
    assert silent is None
    assert [path.name for path in (world.config.state / "logs").iterdir()] == [Path(loud).name]


# Failures


def test_a_users_failure_is_not_repeated(world: World) -> None:
    world.register(spec("a"))
    world.ask("a")
    with world.running():
        world.hand.fail(world.hand.wait(1))
        ended = world.wait_for(EventKind.ENDED).run
    assert ended is not None
    assert ended.state is RunState.FAILED
    assert ended.error is not None
    assert ended.error.message == "by hand"
    assert len(world.hand.attempts) == 1


def test_a_flow_may_ask_for_retries(world: World) -> None:
    world.register(spec("a", retries=1))
    world.ask("a")
    with world.running():
        world.hand.fail(world.hand.wait(1))
        waiting = world.wait_for(EventKind.RETRY).run
        assert waiting is not None
        assert (waiting.state, waiting.attempt) == (RunState.QUEUED, 1)
        world.hand.succeed(world.hand.wait(2), "a")
        ended = world.wait_for(EventKind.ENDED).run
    assert ended is not None
    assert (ended.id, ended.state, ended.attempt) == (waiting.id, RunState.SUCCEEDED, 2)


@pytest.mark.parametrize(
    ("attempt", "retries", "retryable", "seconds"),
    [
        (1, 0, False, None),
        (1, 0, True, 1.0),
        (2, 0, True, 2.0),
        (3, 0, True, 4.0),
        (10, 0, True, 300.0),
        (11, 0, True, None),
        (1, 2, False, 1.0),
        (3, 2, False, None),
        (12, 20, False, 300.0),
    ],
)
def test_backoff_doubles(attempt: int, retries: int, retryable: bool, seconds: float | None) -> None:
    assert retry_after(attempt, retries, Failure("any", "", retryable)) == seconds


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, 2.0),
        (0.0, 2.0),
        (1.5, 2.0),
        (120.0, 120.0),
        (3600.0, 3600.0),
        (10.0**9, 86400.0),
        (float("inf"), 86400.0),
    ],
)
def test_a_wait_that_is_asked_for_is_kept_up_to_a_day(asked: float | None, seconds: float) -> None:
    assert retry_after(2, 0, Failure("fetch", "", True, retry_after=asked)) == seconds


def test_a_wait_brings_no_further_attempt() -> None:
    assert retry_after(1, 0, Failure("fetch", "", False, retry_after=9.0)) is None
    assert retry_after(11, 0, Failure("fetch", "", True, retry_after=9.0)) is None


def test_a_run_is_not_tried_again_before_the_wait_that_was_asked_for(world: World) -> None:
    world.register(spec("a"))
    world.ask("a")
    with world.running():
        asked = AeroError("leave me alone", retryable=True, retry_after=120.0)
        world.hand.refuse(world.hand.wait(1), asked)
        waiting = world.wait_for(EventKind.RETRY).run
    assert waiting is not None
    assert waiting.error == Failure("executor", "leave me alone", True, retry_after=120.0)
    assert waiting.not_before is not None
    assert 100 < (waiting.not_before - world.catalog.now()).total_seconds() <= 120


@pytest.mark.parametrize("kind", ["cancelled", "damage"])
def test_what_was_cancelled_or_did_damage_is_not_retried(kind: str) -> None:
    assert retry_after(1, 5, Failure(kind, "", True)) is None


def test_a_failing_executor_is_asked_again(world: World) -> None:
    world.register(spec("a"))
    world.ask("a")
    with world.running():
        first = world.hand.wait(1)
        world.hand.futures[first.id].set_exception(OSError("no route"))
        error = world.wait_for(EventKind.RETRY).run
        assert error is not None
        assert error.error is not None
        assert (error.error.kind, error.error.message) == ("executor", "OSError: no route")
        world.hand.succeed(world.hand.wait(2), "a")
        world.wait_for(EventKind.ENDED)
    assert world.hand.attempts[0].id != world.hand.attempts[1].id


def test_an_answer_that_is_none_is_the_executors_failure(world: World) -> None:
    world.register(spec("a"))
    world.ask("a")
    with world.running():
        attempt = world.hand.wait(1)
        world.hand.futures[attempt.id].set_result({"versions": 5})
        ended = world.wait_for(EventKind.ENDED).run
    assert ended is not None
    assert ended.error is not None
    assert "the executor's answer: versions is 5" in ended.error.message


def test_an_endpoint_that_is_down_is_tried_again_later(world: World) -> None:
    world.hand.up = False
    world.register(spec("a", endpoint="cluster"))
    world.ask("a")
    with world.running():
        waiting = world.wait_for(EventKind.RETRY).run
        assert waiting is not None
        assert waiting.error is not None
        assert waiting.error.message == "endpoint 'cluster' cannot take the run: cluster is down"
        world.hand.up = True
        world.hand.succeed(world.hand.wait(1), "a")
        world.wait_for(EventKind.ENDED)


def test_a_tick_pulls_a_run_that_waits_for_its_retry_forward(world: World) -> None:
    world.register(spec("a", policy=PolicyEnum.TIMER, schedule=Schedule(seconds=0.3), retries=9))
    with world.running():
        # The seventh attempt would wait for 32 s: ticks come sooner.
        for number in range(1, 7):
            world.hand.fail(world.hand.wait(number))
            world.wait_for(EventKind.RETRY, number)
        world.hand.wait(7, 10)
        assert world.runs("a")[0].attempt == 7


# Cancelling


def test_a_cancelled_run_is_stopped_soon(world: World) -> None:
    world.register(spec("a"))
    run = world.ask("a")
    with world.running():
        attempt = world.hand.wait(1)
        world.catalog.cancel(run.id, "ada")
        stopped = threading.Event()
        with in_thread(lambda: _until(lambda: world.hand.cancelled, stopped)):
            assert stopped.wait(2.0)
        assert world.hand.cancelled == [attempt.id]
        assert attempt.report is not None
        for step in ("pull", "pull", "function"):
            attempt.report(Report(attempt.id, step))
        world.hand.answer(attempt, Result(failure=Failure("cancelled", "cancelled")))
        ended = world.wait_for(EventKind.ENDED).run
    assert ended is not None
    assert ended.state is RunState.CANCELLED
    assert [step.name for step in ended.steps] == ["pull", "function"]
    assert ended.metrics.keys() == {"pull_seconds", "function_seconds"}
    assert ended.environment == Environment(executor="hand")


def _until(holds: Callable[[], object], told: threading.Event) -> None:
    waiting = threading.Event()
    for _ in range(1000):
        if holds():
            told.set()
            return
        waiting.wait(0.01)


def test_a_paused_flows_run_may_finish(world: World) -> None:
    (flow,) = world.register(spec("a"))
    world.ask("a")
    with world.running():
        attempt = world.hand.wait(1)
        world.catalog.set_flow_state(flow.id, FlowState.PAUSED, "ada")
        world.hand.succeed(attempt, "one")
        world.wait_for(EventKind.ENDED)
    assert world.latest("a") == 1


# Limits


def test_no_more_runs_than_the_limit_at_once(make: Callable[..., World]) -> None:
    world = make(limits=LimitSettings(runs=2))
    world.register(*(spec(f"a{number}") for number in range(5)))
    for number in range(5):
        world.ask(f"a{number}")
    with world.running():
        for number in range(1, 6):
            # As many as may be are begun before one of them ends.
            world.hand.wait(min(number + 1, 5))
            assert len(world.catalog.list_runs(states=(RunState.RUNNING,)).items) == min(2, 6 - number)
            world.hand.succeed(world.hand.attempts[number - 1], str(number))
            world.wait_for(EventKind.ENDED, number)


def test_a_limit_of_an_endpoint_holds_over_all_engines(make: Callable[..., World]) -> None:
    world = make(limits=LimitSettings(runs=8, endpoint=1))
    world.register(*(spec(f"a{number}", endpoint="cluster") for number in range(3)), spec("b", endpoint="other"))
    for name in ("a0", "a1", "a2", "b"):
        world.ask(name)
    with world.running(), world.running():
        world.hand.wait(2)
        running = [run.flow for run in world.catalog.list_runs(states=(RunState.RUNNING,)).items]
        assert sorted(running) == ["a0", "b"]
        for number in range(1, 5):
            world.hand.succeed(world.hand.wait(number), str(number))
        world.wait_for(EventKind.ENDED, 4)


def test_a_limit_of_a_source_host_holds(make: Callable[..., World]) -> None:
    world = make(limits=LimitSettings(runs=8, host=2))
    world.register(*(source(f"a{number}", "one.example") for number in range(4)), source("b", "two.example"))
    with world.running():
        world.hand.wait(3)
        running = [run.flow for run in world.catalog.list_runs(states=(RunState.RUNNING,)).items]
        assert sorted(running) == ["a0", "a1", "b"]
        for number in range(1, 6):
            world.hand.succeed(world.hand.wait(number), str(number))
        world.wait_for(EventKind.ENDED, 5)


def test_what_a_limit_holds_back_does_not_hide_what_comes_due(make: Callable[..., World]) -> None:
    world = make(limits=LimitSettings(runs=8, host=1))
    world.register(source("slow", "one.example"), source("held", "one.example"))
    with world.running():
        world.hand.wait(1)
        # A run whose retry comes due behind the one that is held back.
        world.register(spec("b", retries=1))
        world.ask("b")
        world.hand.fail(world.hand.wait(2))
        again = world.hand.wait(3, 10)
        assert again.task["flow"] == "b"


# The catalog in trouble


def test_a_catalog_that_is_locked_for_a_while_ends_no_engine(make: Callable[..., World]) -> None:
    world = make(settings={"sql": {"busy_timeout": 0.1}})
    world.register(spec("a"))
    world.ask("a")
    with world.running():
        attempt = world.hand.wait(1)
        with _locked(world):
            world.hand.succeed(attempt, "one")
            warning = world.wait_for(EventKind.WARNING)
            assert "is locked by another process" in warning.message
        ended = world.wait_for(EventKind.ENDED).run
    assert ended is not None
    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1)


@contextmanager
def _locked(world: World) -> Iterator[None]:
    """Hold the catalog's only write lock."""
    with closing(sqlite3.connect(world.config.state / "catalog.sqlite", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_a_catalog_that_is_gone_for_good_ends_the_engine(world: World) -> None:
    with world.engine() as engine:
        world.catalog.close()
        with pytest.raises(CatalogError, match="is closed"):
            engine.run_forever()
