"""Engines that share a catalog: leases, take-over, stale results; and what an idle one does."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa

from aero_core.api.registering import check_parts
from aero_core.config import LimitSettings, Store
from aero_core.engine import Engine, EventKind
from aero_core.engine.engine import HEARTBEAT
from aero_core.engine.lease import Lease, boot_id, can_lock
from aero_core.errors import RegistrationError
from aero_core.models import Attempt, Holder, Limits, PolicyEnum, RunState, Schedule
from aero_sql.catalog import SqlCatalog
from tests.unit.engines import World, in_thread, spec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def _dead_holder(world: World) -> Holder:
    """An engine that has been killed: its lock file is there, and nobody holds it."""
    lock = world.config.state / "engines" / "dead.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    scratch = world.config.state / "scratch" / "dead" / "attempt"
    scratch.mkdir(parents=True)
    return Holder("dead", boot_id(), str(lock))


# Taking over


def test_the_work_of_a_dead_engine_is_attached_to_without_an_attempt(world: World) -> None:
    world.register(spec("a"))
    run = world.ask("a")
    world.hand.outside = {}
    (claim,) = world.catalog.begin(_dead_holder(world), Limits(1))
    launched = world.plugins.launch("hand", _attempt(claim.run.attempt_id))
    assert launched.handle is not None
    world.catalog.launched(run.id, claim.run.fencing, launched.handle)
    with world.running():
        world.wait_for(EventKind.BEGAN)
        _wait(lambda: world.hand.attached)
        launched.future.set_result({})
        ended = world.wait_for(EventKind.ENDED).run
    assert world.hand.attached == [launched.handle]
    assert len(world.hand.attempts) == 1
    assert ended is not None
    assert (ended.id, ended.attempt, ended.fencing) == (run.id, 1, 2)
    # What the dead engine left is swept.
    assert not (world.config.state / "scratch" / "dead").exists()
    assert not (world.config.state / "engines" / "dead.lock").exists()


def test_lost_work_is_launched_again_without_an_attempt(world: World) -> None:
    world.register(spec("a"))
    world.ask("a")
    (claim,) = world.catalog.begin(_dead_holder(world), Limits(1))
    world.catalog.launched(claim.run.id, claim.run.fencing, "job-lost")
    with world.running():
        attempt = world.hand.wait(1)
        world.hand.succeed(attempt, "one")
        ended = world.wait_for(EventKind.ENDED).run
    assert world.hand.attached == ["job-lost"]
    assert ended is not None
    assert (ended.attempt, ended.fencing) == (1, 2)


def test_a_result_that_comes_too_late_is_dropped(world: World) -> None:
    world.register(spec("a"))
    run = world.ask("a")
    # One run fills it, so that it does not take back what it has lost.
    with world.engine(limits=LimitSettings(runs=1)) as engine, in_thread(engine.run_forever):
        attempt = world.hand.wait(1)
        world.catalog.release(engine._lease.holder.id)
        (claim,) = world.catalog.begin(Holder("other"), Limits(1))
        world.hand.succeed(attempt, "late")
        warning = world.wait_for(EventKind.WARNING)
        engine.stop()
    assert "was taken over by another engine; its result here is dropped" in warning.message
    assert world.latest("a") is None
    assert (world.catalog.run(run.id).holder, claim.run.fencing) == ("other", 2)


def test_a_run_that_was_taken_from_an_engine_is_stopped_there(world: World) -> None:
    world.register(spec("a"))
    world.ask("a")
    with world.running() as engine:
        attempt = world.hand.wait(1)
        world.catalog.release(engine._lease.holder.id)
        # In the same transaction as the engine might claim it anew: it is somebody's, or its own under a new number.
        _wait(lambda: attempt.id in world.hand.cancelled)


def _attempt(identity: str | None) -> Attempt:
    return Attempt(identity or "", {})


def _wait(holds: Callable[[], object], patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Locks


def test_a_lock_proves_death_only_where_it_can_be_seen(world: World) -> None:
    dead = _dead_holder(world)
    lease = Lease(world.config.state, "ada")
    try:
        assert lease.is_dead(dead)
        assert not lease.is_dead(attrs.evolve(dead, boot_id="another host"))
        assert not lease.is_dead(attrs.evolve(dead, lock=str(world.config.state / "absent.lock")))
        assert not lease.is_dead(lease.holder)
        with Path(dead.lock).open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert not lease.is_dead(dead)
        assert not can_lock(Path(lease.holder.lock))
    finally:
        lease.close()
    assert not Path(lease.holder.lock).exists()
    assert not lease.scratch.exists()


def test_engines_come_and_go_while_others_sweep(world: World) -> None:
    over = threading.Event()
    sweeper = Lease(world.config.state, "ada")

    def sweep() -> None:
        while not over.is_set():
            sweeper.sweep(sweeper.dead())

    with in_thread(sweep):
        try:
            for _ in range(100):
                lease = Lease(world.config.state, "bob")
                assert Path(lease.holder.lock).exists()
                assert lease.scratch.is_dir()
                lease.close()
        finally:
            over.set()
    sweeper.close()


# Several engines


def test_engines_share_a_catalog_without_double_runs(world: World) -> None:
    names = [f"a{number}" for number in range(12)]
    world.register(*(spec(name) for name in names))
    with world.running(), world.running(), world.running():
        for name in names:
            world.ask(name)
        for number in range(1, 13):
            world.hand.succeed(world.hand.wait(number), str(number))
        world.wait_for(EventKind.ENDED, 12)
    assert sorted(attempt.task["flow"] for attempt in world.hand.attempts) == sorted(names)


COMMIT = """
import sys
from pathlib import Path
from tests.unit.engines import World

world = World(Path(sys.argv[1]))
world.bring("a", "one")
world.close()
"""


def test_a_commit_of_another_process_begins_its_dependents_at_once(world: World) -> None:
    world.register(spec("a"), spec("b", "a"))
    root = Path(__file__).resolve().parents[2]
    # The run of the other flow is for the other process to take.
    with world.running("b"):
        subprocess.run(
            [sys.executable, "-c", COMMIT, str(world.config.root)],
            env={**os.environ, "PYTHONPATH": str(root)},
            check=True,
        )
        attempt = world.hand.wait(1)
        assert attempt.task["flow"] == "b"
        (run,) = world.runs("b")
        assert run.started_at is not None
        assert run.created_at is not None
        # Woken by it: what is due is looked for no sooner than at the next heartbeat otherwise.
        assert (run.started_at - run.created_at).total_seconds() < HEARTBEAT / 2
        world.hand.succeed(attempt, "b")
        world.wait_for(EventKind.ENDED)


# Idle


def test_an_idle_engine_executes_no_sql(world: World) -> None:
    assert isinstance(world.catalog, SqlCatalog)
    executed: list[str] = []
    world.register(spec("a"), spec("t", policy=PolicyEnum.TIMER, schedule=Schedule(seconds=10**6)))
    with world.running():
        world.hand.succeed(world.hand.wait(1), "t")
        world.wait_for(EventKind.ENDED)
        # Let it come to rest: after its last change it looks once more whether another engine lives.
        time.sleep(2.5)

        @sa.event.listens_for(world.catalog._db.engine, "before_cursor_execute")
        def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            executed.append(statement)

        time.sleep(2.0)
        assert executed == []
        # Not asleep for ever, though.
        world.ask("a")
        world.hand.wait(2)


def test_a_tick_begins_a_run_on_time(world: World) -> None:
    world.register(spec("a", policy=PolicyEnum.TIMER, schedule=Schedule(seconds=0.5)))
    with world.running():
        for number in (1, 2, 3):
            world.hand.succeed(world.hand.wait(number, 5.0), str(number))
            world.wait_for(EventKind.ENDED, number)


# Stopping


def test_a_stopped_engine_hands_back_what_it_cannot_wait_for(world: World) -> None:
    world.register(spec("a"))
    run = world.ask("a")
    with world.running():
        attempt = world.hand.wait(1)
    assert world.hand.cancelled == [attempt.id]
    after = world.catalog.run(run.id)
    assert (after.state, after.attempt, after.holder) == (RunState.QUEUED, 0, None)
    assert world.catalog.holders() == ()


def test_a_stopping_engine_lets_runs_finish_and_begins_no_others(world: World) -> None:
    world.register(spec("a"), spec("b", "a"))
    world.ask("a")
    with world.engine() as engine, in_thread(engine.run_forever):
        attempt = world.hand.wait(1)
        engine.stop()
        world.hand.succeed(attempt, "one")
    assert world.latest("a") == 1
    assert world.runs("b")[0].state is RunState.QUEUED
    assert len(world.hand.attempts) == 1


def test_an_engine_that_was_never_driven_leaves_nothing(world: World) -> None:
    engine = Engine(world.catalog, world.plugins, world.config)
    engine.close()
    assert list((world.config.state / "engines").iterdir()) == []
    assert list((world.config.state / "scratch").iterdir()) == []


# Registration


def test_a_store_of_this_machine_with_an_executor_elsewhere_is_refused(world: World) -> None:
    flow = spec("a", executor="far")
    with pytest.raises(RegistrationError) as caught:
        check_parts([flow], world.config, world.plugins)
    assert str(caught.value) == (
        "flow 'a': store 'local' is on this machine only, and executor 'far' runs elsewhere: "
        "use a store and a source that both can reach"
    )
    check_parts([spec("a", executor="hand")], world.config, world.plugins)


def test_a_store_that_both_can_reach_goes_with_an_executor_elsewhere(world: World) -> None:
    shared = {**world.config.stores, "shared": Store("shared", "shared://vault")}
    config = attrs.evolve(world.config, stores=shared)
    check_parts([spec("a", executor="far", store="shared")], config, world.plugins)
