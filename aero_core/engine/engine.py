"""The engine: claims due runs, drives them to their commit, and recovers what a dead engine left.

One thread works through a queue of what has happened: a change in the catalog, a finished attempt, a wish to stop.
Idle it waits on that queue; flows are not polled. All that must survive is in the catalog: an engine that is killed
loses nothing, its runs are begun again by the next one.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import CancelledError
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import attrs
from attrs import frozen

from aero_core.catalog import Catalog
from aero_core.config import Config
from aero_core.converter import structure, unstructure
from aero_core.engine.lease import Lease
from aero_core.engine.tasks import build_task, commit_of, failed_attempt, log_name
from aero_core.errors import AeroError, StaleRun
from aero_core.models import (
    JSON,
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

logger = logging.getLogger("aero.engine")

#: Seconds between renewals of leases, and the shortest time between two.
HEARTBEAT = 15.0
QUICK_HEARTBEAT = 1.0
#: Seconds between looks at whether another engine that holds runs still lives.
LOOK_AFTER = 1.0
#: Seconds that `run_to_rest` waits, in all, for retries of its own runs.
PATIENCE = 10.0
#: Seconds that runs get to finish at a clean stop.
GRACE = 10.0


class EventKind(StrEnum):
    """What an engine tells its caller."""

    BEGAN = "began"
    REPORT = "report"
    ENDED = "ended"
    RETRY = "retry"
    WARNING = "warning"


@frozen
class Event:
    """Word from the engine.

    Attributes:
        run: The run concerned, as it is now.
        versions: What an ended run made.
        report: Progress within a step.
        message: A warning.
    """

    kind: EventKind
    run: Run | None = None
    versions: tuple[Version, ...] = ()
    report: Report | None = None
    message: str = ""


@frozen
class _Live:
    """A launched attempt."""

    claim: Claim
    launched: Launched
    log: Path
    scratch: Path


@frozen
class _Finished:
    run_id: str
    attempt_id: str


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
        identity = plugins.whoami()
        self._catalog, self._plugins, self._config = catalog, plugins, config
        self._only = only
        self._tell = on_event or (lambda event: None)
        self._lease = Lease(config.state, identity.subject if identity else "")
        self._slots = config.limits.runs or os.cpu_count() or 1
        self._live: dict[str, _Live] = {}
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._beat_at = self._look_at = time.monotonic()
        self._own_retries: dict[str, float] = {}
        self.ended: list[Run] = []
        self._waker = threading.Thread(target=self._watch, name="aero-waker", daemon=True)
        self._waker.start()

    def close(self) -> None:
        """Let go: hand back what still runs, end the threads, remove scratch."""
        self._hand_back()
        self._closing.set()
        self._waker.join(timeout=2.0)
        self._lease.close()

    def stop(self) -> None:
        """Ask the engine to stop: runs get some seconds to finish; asked again, they are handed back at once.

        Safe to call from signal handlers and other threads.
        """
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()
        self._inbox.put(_WAKE)

    def run_to_rest(self) -> list[Run]:
        """Drive until nothing is due and nothing runs; waits for its own runs' retries up to `PATIENCE` seconds.

        Returns:
            The runs that ended here, in order.
        """
        self.ended = []
        self._own_retries.clear()
        while not self._stop.is_set():
            self._turn()
            if not self._live and self._at_rest():
                return self.ended
            self._sleep()
        self._wind_down()
        return self.ended

    def run_forever(self) -> None:
        """Drive until `stop`."""
        while not self._stop.is_set():
            self._turn()
            self.ended.clear()
            self._sleep()
        self._wind_down()

    # The loop

    def _turn(self) -> None:
        self._look_after_others()
        self._heartbeat()
        while (free := self._slots - len(self._live)) > 0:
            limits = Limits(free, self._config.limits.endpoint, self._config.limits.host)
            claims = self._catalog.begin(self._lease.holder, limits, self._only)
            for claim in claims:
                self._start(claim)
            if not claims:
                break

    def _sleep(self) -> None:
        """Wait for the next thing to happen, or to be due."""
        timeout = self._time_left()
        try:
            first = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return
        self._handle(first)
        while not self._inbox.empty():
            self._handle(self._inbox.get())

    def _handle(self, item: object) -> None:
        if isinstance(item, _Finished):
            self._finish(item)

    def _time_left(self) -> float | None:
        now = time.monotonic()
        waits: list[float] = []
        if self._live:
            waits.append(self._beat_at - now)
        if self._others_hold:
            waits.append(self._look_at - now)
        if len(self._live) < self._slots:
            due = self._catalog.next_due(self._only)
            # What is due already and was not begun waits for a limit: the end of another run wakes us.
            if due is not None and (left := (due - self._catalog.now()).total_seconds()) > 0:
                waits.append(left)
        return max(0.0, min(waits)) if waits else None

    def _watch(self) -> None:
        """Turn changes of the catalog into words in the inbox."""
        position: int | None = None
        while not self._closing.is_set():
            try:
                if position is None:
                    position = self._catalog.position()
                seen = self._catalog.wait(position, 0.5)
            except Exception as error:
                if self._closing.is_set():
                    return
                logger.warning("waiting for changes failed: %s", error)
                self._closing.wait(1.0)
                continue
            if seen != position:
                position = seen
                if self._live:
                    self._beat_at = min(self._beat_at, time.monotonic() + QUICK_HEARTBEAT)
                self._inbox.put(_WAKE)

    def _at_rest(self) -> bool:
        """Nothing is queued or running for our flows, but for retries that are not worth waiting for."""
        now = time.monotonic()
        after = None
        horizon = self._catalog.now()
        while True:
            page = self._catalog.list_runs(after, states=(RunState.QUEUED, RunState.RUNNING))
            for run in page.items:
                if self._only is not None and run.flow_id not in self._only:
                    continue
                waiting = run.not_before is not None and run.not_before > horizon
                if run.state is RunState.QUEUED and waiting:
                    began = self._own_retries.get(run.id)
                    until = run.not_before - horizon if run.not_before else timedelta()
                    if began is None or now + until.total_seconds() - began > PATIENCE:
                        continue
                return False
            if page.next is None:
                return True
            after = page.next

    # Leases

    _others_hold = False

    def _look_after_others(self) -> None:
        """Free the runs of engines that are proved dead."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_AFTER
        others = [holder for holder in self._catalog.holders() if holder.id != self._lease.holder.id]
        for holder in others:
            if self._lease.is_dead(holder):
                freed = self._catalog.release(holder.id)
                logger.info("engine %s is gone: %d of its runs are begun again", holder.id, freed)
        self._lease.sweep(frozenset(holder.id for holder in others))
        self._others_hold = bool(others)

    def _heartbeat(self) -> None:
        now = time.monotonic()
        if not self._live or now < self._beat_at:
            self._beat_at = max(self._beat_at, now) if self._live else now + HEARTBEAT
            return
        self._beat_at = now + HEARTBEAT
        beat = self._catalog.heartbeat(self._lease.holder, list(self._live))
        for run_id in beat.cancel | beat.lost:
            live = self._live.get(run_id)
            if live is not None:
                self._cancel(live)

    def _cancel(self, live: _Live) -> None:
        run, executor = live.claim.run, live.claim.flow.spec.executor
        try:
            if not self._plugins.cancel(executor, live.launched.handle or run.attempt_id or run.id):
                live.launched.future.cancel()
        except AeroError as error:
            self._warn(f"run {run.id} could not be cancelled: {error}", run)

    # Runs

    def _start(self, claim: Claim) -> None:
        run, spec = claim.run, claim.flow.spec
        self._tell(Event(EventKind.BEGAN, run))
        if not self._live:
            self._beat_at = time.monotonic() + HEARTBEAT
        scratch = self._lease.scratch / (run.attempt_id or run.id)
        log = self._config.state / "logs" / log_name(run)
        try:
            scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            log.parent.mkdir(mode=0o700, exist_ok=True)
            launched = self._attach(claim) or self._launch(claim, scratch, log)
        except (AeroError, OSError) as error:
            kind = "launch" if isinstance(error, AeroError) else "state"
            retryable = error.retryable if isinstance(error, AeroError) else True
            self._settle(claim, Result(failure=Failure(kind, str(error), retryable)), None)
            return
        self._live[run.id] = _Live(claim, launched, log, scratch)
        if launched.handle is not None and launched.handle != run.handle:
            self._catalog.launched(run.id, run.fencing, launched.handle)
        done = _Finished(run.id, run.attempt_id or run.id)
        launched.future.add_done_callback(lambda future: self._inbox.put(done))
        logger.debug("run %s of %s begun (%s)", run.id, spec.name, run.cause)

    def _attach(self, claim: Claim) -> Launched | None:
        """The work that a former engine launched, if it can be found."""
        if not claim.taken_over or claim.run.handle is None:
            return None
        return self._plugins.attach(claim.flow.spec.executor, claim.run.handle)

    def _launch(self, claim: Claim, scratch: Path, log: Path) -> Launched:
        spec = claim.flow.spec
        check = self._plugins.check_endpoint(spec.executor, spec.endpoint)
        if not check.ok:
            raise AeroError(f"endpoint {spec.endpoint!r} cannot take the run: {check.message}", retryable=True)
        task = build_task(claim, self._config, self._plugins.needs(), scratch)
        attempt = Attempt(
            id=task.attempt_id,
            task=unstructure(task),
            endpoint=spec.endpoint,
            memory=spec.memory,
            timeout=spec.timeout,
            log=str(log),
            report=lambda report: self._tell(Event(EventKind.REPORT, claim.run, report=report)),
        )
        return self._plugins.launch(spec.executor, attempt)

    def _finish(self, done: _Finished) -> None:
        live = self._live.get(done.run_id)
        if live is None or (live.claim.run.attempt_id or live.claim.run.id) != done.attempt_id:
            return
        result = _result_of(live.launched)
        if result.log:
            with live.log.open("a", encoding="utf-8") as file:
                file.write(result.log)
        self._live.pop(done.run_id)
        self._settle(live.claim, result, live.log)
        shutil.rmtree(live.scratch, ignore_errors=True)

    def _settle(self, claim: Claim, result: Result, log: Path | None) -> None:
        """Commit or fail a run; an error of the catalog on the way leaves it to its lease."""
        kept = str(log) if log is not None and log.exists() and log.stat().st_size else None
        try:
            if result.failure is None:
                try:
                    commit = commit_of(claim.run, result, claim.flow.spec.executor, kept)
                    committed = self._catalog.commit(commit)
                    self._end(committed.run, committed.versions)
                    return
                except StaleRun:
                    raise
                except AeroError as error:
                    failure = Failure("commit", str(error), error.retryable)
                    result = attrs.evolve(result, failure=failure)
            run = self._catalog.fail(failed_attempt(claim, result, kept))
            if run.state is RunState.QUEUED:
                self._own_retries.setdefault(run.id, time.monotonic())
                self._tell(Event(EventKind.RETRY, run))
            else:
                self._end(run, ())
        except StaleRun:
            self._warn(f"run {claim.run.id} was taken over by another engine; its result here is dropped", claim.run)

    def _end(self, run: Run, versions: tuple[Version, ...]) -> None:
        self._own_retries.pop(run.id, None)
        self.ended.append(run)
        self._tell(Event(EventKind.ENDED, run, versions))

    def _warn(self, message: str, run: Run | None = None) -> None:
        logger.warning("%s", message)
        self._tell(Event(EventKind.WARNING, run, message=message))

    # Stopping

    def _wind_down(self) -> None:
        """Give running attempts some time to finish, then hand the rest back."""
        deadline = time.monotonic() + GRACE
        while self._live and not self._hurry.is_set() and time.monotonic() < deadline:
            self._heartbeat()
            try:
                self._handle(self._inbox.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                break
        self._hand_back()

    def _hand_back(self) -> None:
        for live in list(self._live.values()):
            self._live.pop(live.claim.run.id)
            self._cancel(live)
            try:
                self._catalog.hand_back(live.claim.run.id, live.claim.run.fencing)
            except AeroError as error:
                self._warn(f"run {live.claim.run.id} could not be handed back: {error}", live.claim.run)


def _result_of(launched: Launched) -> Result:
    """What an executor's future says, or the failure that it stands for."""
    try:
        answer: Mapping[str, JSON] = launched.future.result(timeout=0)
        return structure(answer, Result, "the executor's answer")
    except CancelledError:
        return Result(failure=Failure("cancelled", "cancelled"))
    except AeroError as error:
        return Result(failure=Failure("executor", str(error), error.retryable))
    except Exception as error:
        return Result(failure=Failure("executor", f"{type(error).__name__}: {error}", True))
