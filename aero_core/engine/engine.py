"""The engine: claims due runs, drives them to their commit, and recovers what a dead engine left.

One thread works through a queue of what has happened: a change in the catalog, a finished attempt, a wish to stop.
Idle it waits on that queue; flows are not polled. All that must survive is in the catalog: an engine that is killed
loses nothing, its runs are begun again by the next one.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import attrs

from aero_core.catalog import Catalog
from aero_core.config import Config
from aero_core.converter import unstructure
from aero_core.engine.attempts import Finished, Heard, Live
from aero_core.engine.events import Event, EventKind
from aero_core.engine.lease import Lease, remove_scratch
from aero_core.engine.looking import flow_ids, live_runs
from aero_core.engine.tasks import build_task, commit_of, failed_attempt, log_of, result_of, with_heard
from aero_core.engine.waking import Waker
from aero_core.errors import AeroError, CatalogError, StaleRun
from aero_core.models import (
    Attempt,
    Claim,
    Failure,
    Launched,
    Limits,
    Report,
    Result,
    Run,
    RunState,
    Version,
)
from aero_core.plugins import Plugins
from aero_core.state import check_writable

logger = logging.getLogger("aero.engine")

#: Seconds between renewals of leases, and the shortest time between two.
HEARTBEAT, QUICK_HEARTBEAT = 15.0, 1.0
#: Seconds between looks at whether another engine that holds runs lives, and at what a limit holds back.
LOOK_AFTER = LOOK_AT_LIMITS = 1.0
#: Seconds until the next try when the catalog could not be used.
RECOVER = 1.0
#: Longest wait without a look at what is due, in seconds.
LONGEST_SLEEP = 60.0
#: Seconds that `run_to_rest` waits, in all, for retries of its own runs.
PATIENCE = 10.0
#: Seconds that runs get to finish at a clean stop.
GRACE = 10.0


_WAKE = object()


class Engine:
    """Drives runs of one catalog; several may work on it at once."""

    def __init__(
        self,
        catalog: Catalog,
        plugins: Plugins,
        config: Config,
        only: Collection[str] | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Args: `only`, ids of the flows to drive, None for all; `on_event`, called from the engine's threads."""
        check_writable(config)
        identity = plugins.whoami()
        self._catalog, self._plugins, self._config = catalog, plugins, config
        self._only = self._mine = only
        self._ran: dict[str, set[str]] | None = None
        self._tell = on_event or (lambda event: None)
        self._lease = Lease(config.state, identity.subject if identity else "")
        self._slots = config.limits.runs or os.cpu_count() or 1
        self._live: dict[str, Live] = {}
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._stops: list[float] = []
        self._beat_at = self._look_at = self._beaten = time.monotonic()
        self._beaten_wall = time.time()
        self._look_wanted, self._others_hold, self._has_claimed = True, False, False
        self._rubbish: list[Path] = []
        self._unsettled: list[tuple[float, Finished]] = []
        self._own_retries: dict[str, float] = {}
        self._waker = Waker(catalog, lambda: self._inbox.put(_WAKE))
        self.ended: list[Run] = []

    def close(self) -> None:
        """Let go: hand back what still runs, end the threads, remove scratch."""
        self._hand_back()
        if self._has_claimed:
            # What could not be handed back is free for others at once, and the waker learns that it is over.
            with suppress(AeroError):
                self._catalog.release(self._lease.holder.id)
        self._waker.close()
        self._lease.close()

    def stop(self) -> None:
        """Ask the engine to stop: runs get some seconds to finish; asked again, they are handed back at once.

        Safe to call from signal handlers and other threads.
        """
        # Without a lock: the very thread that a signal interrupts may hold it.
        self._stops.append(time.monotonic())
        self._inbox.put(_WAKE)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop: it begins nothing more."""
        return bool(self._stops)

    def run_to_rest(self) -> list[Run]:
        """Drive until nothing is due and nothing runs; waits for its own runs' retries up to `PATIENCE` seconds.

        A flow with a schedule runs once, however often it ticks meanwhile.

        Returns:
            The runs that ended here, in order.
        """
        self.ended = []
        self._own_retries.clear()
        self._mine, self._ran = self._only, {}
        self._waker.mark()
        while not self.stopping:
            self._turn()
            if not self._live and self._at_rest():
                return self.ended
            self._sleep()
        self._wind_down()
        return self.ended

    def run_forever(self) -> None:
        """Drive until `stop`; goes on when the catalog could not be used for a while."""
        self._mine, self._ran = self._only, None
        self._waker.mark()
        while not self.stopping:
            try:
                self._turn()
                self.ended.clear()
                self._sleep()
            except AeroError as error:
                if not error.retryable:
                    raise
                self._warn(f"{error}; AERO goes on trying")
                time.sleep(RECOVER)
        self._wind_down()

    # The loop

    def _turn(self) -> None:
        self._look_after_others()
        self._heartbeat()
        while (free := self._slots - len(self._live)) > 0:
            limits = Limits(free, self._config.limits.endpoint, self._config.limits.host)
            claims = self._catalog.begin(self._lease.holder, limits, self._mine)
            for claim in claims:
                self._start(claim)
            if len(claims) < free:
                break

    def _sleep(self) -> None:
        """Wait for the next thing to happen, or to be due."""
        self._waker.start()
        # Not sooner: what has come due by a run's end is begun before its scratch folder goes.
        while self._rubbish:
            remove_scratch(self._rubbish.pop())
        timeout = self._time_left()
        try:
            self._handle(self._inbox.get(timeout=timeout))
        except queue.Empty:
            pass
        while not self._inbox.empty():
            self._handle(self._inbox.get())
        now = time.monotonic()
        ripe = [done for when, done in self._unsettled if when <= now]
        self._unsettled = [(when, done) for when, done in self._unsettled if when > now]
        for done in ripe:
            self._finish(done)

    def _handle(self, item: object) -> None:
        if isinstance(item, Finished):
            self._finish(item)
        elif item is _WAKE:
            # Somebody may have asked for a run's cancelling, or another engine may have begun one.
            self._beat_at = min(self._beat_at, self._beaten + QUICK_HEARTBEAT)
            self._look_wanted = True

    def _time_left(self) -> float:
        now = time.monotonic()
        # Its own clock may stand still while the machine sleeps; the catalog's goes on.
        waits = [LONGEST_SLEEP, *(when - now for when, _ in self._unsettled)]
        if self._live:
            waits.append(self._beat_at - now)
        if self._others_hold or self._look_wanted:
            waits.append(self._look_at - now)
        if len(self._live) < self._slots:
            due = self._catalog.next_due(self._mine)
            if due is not None:
                left = (due - self._catalog.now()).total_seconds()
                # What is due already and was not begun is held back by a limit; behind it more may come due.
                waits.append(left if left > 0 else LOOK_AT_LIMITS)
        return max(0.0, min(waits))

    def _at_rest(self) -> bool:
        """Nothing is queued or running for our flows, but for retries that are not worth waiting for."""
        now, clock = time.monotonic(), self._catalog.now()
        for run in live_runs(self._catalog):
            if self._mine is not None and run.flow_id not in self._mine:
                continue
            left = (run.not_before - clock).total_seconds() if run.not_before else 0.0
            began = self._own_retries.get(run.id)
            if run.state is RunState.QUEUED and left > 0 and (began is None or now + left - began > PATIENCE):
                continue
            return False
        return True

    # Leases

    def _look_after_others(self) -> None:
        """Free the runs of engines that are proved dead."""
        now = time.monotonic()
        if now < self._look_at or not (self._look_wanted or self._others_hold):
            return
        self._look_at, self._look_wanted = now + LOOK_AFTER, False
        # In this order: an engine that was dead before we ask who holds runs will hold no further ones.
        dead = self._lease.dead()
        alive = set()
        for holder in self._catalog.holders():
            if self._lease.is_dead(holder):
                freed = self._catalog.release(holder.id)
                logger.info("engine %s is gone: %d of its runs are begun again", holder.id, freed)
            elif holder.id != self._lease.holder.id:
                alive.add(holder.id)
        self._lease.sweep(lock for lock in dead if lock.stem not in alive)
        self._others_hold = bool(alive)

    def _heartbeat(self) -> None:
        now, wall = time.monotonic(), time.time()
        if not self._live:
            self._beaten, self._beaten_wall, self._beat_at = now, wall, now + HEARTBEAT
        # The catalog's clock goes on while this machine sleeps, and with it the leases; ours may not.
        elif now >= self._beat_at or wall - self._beaten_wall > HEARTBEAT:
            self._beaten, self._beaten_wall, self._beat_at = now, wall, now + HEARTBEAT
            beat = self._catalog.heartbeat(self._lease.holder, list(self._live))
            for run_id in beat.cancel | beat.lost:
                self._cancel(self._live[run_id])

    def _cancel(self, live: Live) -> None:
        run, executor = live.claim.run, live.claim.flow.spec.executor
        try:
            if not self._plugins.cancel(executor, live.launched.handle or run.attempt_id or run.id):
                live.launched.future.cancel()
        except AeroError as error:
            self._warn(f"run {run.id} could not be cancelled: {error}", run)

    # Runs

    def _start(self, claim: Claim) -> None:
        run, spec = claim.run, claim.flow.spec
        self._has_claimed = True
        self._tell(Event(EventKind.BEGAN, run))
        scratch = self._lease.scratch / (run.attempt_id or run.id)
        log = log_of(self._config.state, run.id)
        former = self._live.pop(run.id, None)
        if former is not None and run.handle is None:
            # Our own lease ran out, and the run came to us again: it must not overlap itself.
            self._cancel(former)
        heard = Heard()
        try:
            scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            log.parent.mkdir(mode=0o700, exist_ok=True)
            launched = self._attach(claim) or self._launch(claim, scratch, log, heard)
        except (AeroError, OSError) as error:
            failure = (
                Failure.of("launch", error) if isinstance(error, AeroError) else Failure("state", str(error), True)
            )
            remove_scratch(scratch)
            self._settle(claim, Result(failure=failure), None)
            return
        self._live[run.id] = Live(claim, launched, log, scratch, heard)
        done = Finished(run.id, run.attempt_id or run.id)
        launched.future.add_done_callback(lambda future: self._inbox.put(done))
        logger.info("run %s of %s begun (%s)", run.id, spec.name, run.cause)
        if launched.handle is not None and launched.handle != run.handle:
            # Taken over already: the next heartbeat says so too, and ends the work.
            with suppress(StaleRun):
                self._catalog.launched(run.id, run.fencing, launched.handle)

    def _attach(self, claim: Claim) -> Launched | None:
        """The work that a former engine launched, if it can be found."""
        if not claim.taken_over or claim.run.handle is None:
            return None
        return self._plugins.attach(claim.flow.spec.executor, claim.run.handle)

    def _launch(self, claim: Claim, scratch: Path, log: Path, heard: Heard) -> Launched:
        spec = claim.flow.spec
        check = self._plugins.check_endpoint(spec.executor, spec.endpoint)
        if not check.ok:
            raise AeroError(f"endpoint {spec.endpoint!r} cannot take the run: {check.message}", retryable=True)
        task = build_task(claim, self._config, self._plugins.needs(), scratch)

        def report(report: Report) -> None:
            heard.note(report)
            self._tell(Event(EventKind.REPORT, claim.run, report=report))

        attempt = Attempt(
            id=task.attempt_id,
            task=unstructure(task),
            endpoint=spec.endpoint,
            memory=spec.memory,
            timeout=spec.timeout,
            log=str(log),
            report=report,
        )
        return self._plugins.launch(spec.executor, attempt)

    def _finish(self, done: Finished) -> None:
        live = self._live.get(done.run_id)
        if live is None or (live.claim.run.attempt_id or live.claim.run.id) != done.attempt_id:
            return
        result = with_heard(result_of(live.launched), live.heard)
        if result.log and not done.again:
            with suppress(OSError), live.log.open("a", encoding="utf-8") as file:
                file.write(result.log)
        try:
            self._settle(live.claim, result, live.log)
        except CatalogError as error:
            if not error.retryable:
                raise
            # The result is in memory, and what it left here may be the very thing that fills the disk.
            remove_scratch(live.scratch)
            self._warn(f"{error}; the end of run {done.run_id} is recorded later", live.claim.run)
            self._unsettled.append((time.monotonic() + RECOVER, attrs.evolve(done, again=True)))
            return
        self._live.pop(done.run_id)
        self._rubbish.append(live.scratch)

    def _settle(self, claim: Claim, result: Result, log: Path | None) -> None:
        """Commit or fail a run.

        Raises:
            CatalogError: The catalog could not take it; retryable where it may later.
        """
        kept = None
        if log is not None and log.exists() and log.stat().st_size:
            kept = log.relative_to(self._config.state).as_posix()
        try:
            if result.failure is None:
                try:
                    commit = commit_of(claim, result, self._config, kept)
                    committed = self._catalog.commit(commit)
                    self._end(claim, committed.run, committed.versions)
                    for forgotten in committed.forgotten:
                        self._remove_log(forgotten)
                    return
                except (StaleRun, CatalogError):
                    raise
                except AeroError as error:
                    result = attrs.evolve(result, failure=Failure.of("commit", error))
            run = self._catalog.fail(failed_attempt(claim, result, kept))
            if run.state is RunState.QUEUED:
                self._own_retries.setdefault(run.id, time.monotonic())
                self._tell(Event(EventKind.RETRY, run))
            else:
                self._end(claim, run, ())
        except StaleRun:
            self._warn(f"run {claim.run.id} was taken over by another engine; its result here is dropped", claim.run)

    def _end(self, claim: Claim, run: Run, versions: tuple[Version, ...]) -> None:
        self._own_retries.pop(run.id, None)
        if self._ran is not None and claim.flow.spec.schedule is not None:
            ran = self._ran.setdefault(run.flow_id, set())
            ran.add(run.argument_set)
            if len(ran) == len(claim.flow.spec.argument_sets):
                self._mine = flow_ids(self._catalog) if self._mine is None else frozenset(self._mine)
                self._mine -= {run.flow_id}
        # Only now: until its end another engine might have taken the run over, and write there.
        self._remove_log(run.id, only_empty=True)
        self.ended.append(run)
        self._tell(Event(EventKind.ENDED, run, versions))

    def _remove_log(self, run_id: str, only_empty: bool = False) -> None:
        """Remove the log of a run that has ended, if it has one."""
        log = log_of(self._config.state, run_id)
        with suppress(OSError):
            if not (only_empty and log.stat().st_size):
                log.unlink()

    def _warn(self, message: str, run: Run | None = None) -> None:
        logger.warning("%s", message)
        self._tell(Event(EventKind.WARNING, run, message=message))

    # Stopping

    def _wind_down(self) -> None:
        """Give running attempts some time to finish, then hand the rest back."""
        deadline = time.monotonic() + GRACE
        while self._live and len(self._stops) < 2 and time.monotonic() < deadline:
            with suppress(queue.Empty):
                self._heartbeat()
                self._handle(self._inbox.get(timeout=max(0.0, deadline - time.monotonic())))
        self._hand_back()

    def _hand_back(self) -> None:
        for live in list(self._live.values()):
            self._live.pop(live.claim.run.id)
            self._cancel(live)
            try:
                self._catalog.hand_back(live.claim.run.id, live.claim.run.fencing)
            except AeroError as error:
                self._warn(f"run {live.claim.run.id} could not be handed back: {error}", live.claim.run)
