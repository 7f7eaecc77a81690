"""Processes of this machine as executor: a warm pool, one run at a time in each.

Each worker process has a thread of the engine that starts it, gives it tasks and waits for it, so
that a run that hangs keeps nobody else waiting. A process runs one function only, again and again: it
has its imports at hand, and what it has set in them, such as a seed or a precision, reaches no other.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

import attrs

from aero_core.errors import ExecutorError
from aero_core.models import JSON, Attempt, Launched, Report
from aero_local.outcome import Job, Outcome, answer, failed
from aero_local.process import Ended, Process

_log = logging.getLogger(__name__)

EXECUTE = "aero_core.jobs:execute"
_REMEMBERED = 256
_END_WITHIN = 5.0


@attrs.frozen
class PoolSettings:
    """How a pool behaves.

    Attributes:
        workers: Most processes at once.
        memory: Bytes that a run may use unless its attempt says otherwise; None for no limit.
        worker_runs: Runs after which a process is replaced.
        idle_seconds: How long a process without work is kept.
        log_limit: Bytes that are kept of a run's output.
        call: What a worker calls with each task, as `module:function`.
    """

    workers: int
    memory: int | None = None
    worker_runs: int = 200
    idle_seconds: float = 300.0
    log_limit: int = 10_000_000
    call: str = EXECUTE


class Pool:
    """A pool of worker processes. All methods may be called from any thread."""

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._slots: list[_Slot] = []
        self._idle: list[_Slot] = []
        self._waiting: deque[Job] = deque()
        self._jobs: dict[str, Job] = {}
        self._done: OrderedDict[str, Job] = OrderedDict()
        self._closed = False

    def launch(self, attempt: Attempt) -> Launched:
        """Run an attempt as soon as a worker is free; one that is known already is not run again.

        Raises:
            ExecutorError: The pool is closed.
        """
        with self._lock:
            if self._closed:
                raise ExecutorError("the local executor is shut down")
            known = self._jobs.get(attempt.id) or self._done.get(attempt.id)
            if known is not None:
                return Launched(None, known.future)
            job = self._jobs[attempt.id] = Job(attempt, self.settings.log_limit)
            self._assign(job)
        job.future.add_done_callback(partial(self._forget, job))
        return Launched(None, job.future)

    def _assign(self, job: Job) -> None:
        # Of equals the one used last: the others may end for want of work.
        fitting = [slot for slot in self._idle if slot.fits(job)]
        if not fitting and len(self._slots) < self.settings.workers:
            slot = _Slot(self, job)
            self._slots.append(slot)
            slot.start()
        elif self._idle:
            slot = (fitting or self._idle)[-1]
            self._idle.remove(slot)
            slot.give(job)
        else:
            self._waiting.append(job)

    def _forget(self, job: Job, future: Future[JSON]) -> None:
        if future.cancelled():
            self._stop(job, "cancelled")
        with self._lock:
            self._jobs.pop(job.attempt.id, None)
            self._done[job.attempt.id] = job
            while len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)

    def cancel(self, attempt_id: str) -> bool:
        """End an attempt, running or waiting; True when it is over."""
        with self._lock:
            job = self._jobs.get(attempt_id)
        if job is None:
            return True
        self._stop(job, "cancelled")
        # A report's receiver may cancel its own attempt: its thread cannot wait for itself.
        if job.thread is threading.current_thread():
            return True
        with suppress(Exception):
            job.future.exception(_END_WITHIN)
        return job.future.done()

    def _stop(self, job: Job, reason: str) -> None:
        with self._lock:
            waiting = job in self._waiting
            if waiting:
                self._waiting.remove(job)
        job.stop(reason)
        if waiting:
            job.resolve(failed(job))

    @property
    def closed(self) -> bool:
        """Whether nothing is launched any more."""
        return self._closed

    def close(self) -> None:
        """End all workers. Attempts that have not ended are lost."""
        with self._lock:
            self._closed = True
            lost = [*self._jobs.values()]
            slots = list(self._slots)
        for job in lost:
            self._stop(job, "lost")
        for slot in slots:
            slot.give(None)
        deadline = time.monotonic() + _END_WITHIN
        for slot in slots:
            slot.join(max(0.0, deadline - time.monotonic()))

    def next_job(self, slot: _Slot) -> Job | None:
        """What a slot without work does next; with None it waits in `_idle`."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(slot)
            return None

    def leave(self, slot: _Slot) -> bool:
        """Take an idle slot out of the pool; False when it was given work meanwhile."""
        with self._lock:
            if slot not in self._idle and not self._closed:
                return False
            if slot in self._idle:
                self._idle.remove(slot)
            self._slots.remove(slot)
            return True


class _Slot(threading.Thread):
    """The thread that looks after one worker process at a time."""

    def __init__(self, pool: Pool, job: Job) -> None:
        super().__init__(name="aero-worker", daemon=True)
        self._pool = pool
        self._settings = pool.settings
        self._given: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._process: Process | None = None
        self.give(job)

    def fits(self, job: Job) -> bool:
        """Whether its process need not be replaced for a job."""
        process = self._process
        return process is None or process.code in (None, job.code)

    def give(self, job: Job | None) -> None:
        """Hand over the next job; None ends the thread."""
        self._given.put(job)

    def run(self) -> None:
        while (job := self._wait()) is not None:
            while job is not None:
                self._serve(job)
                job = self._pool.next_job(self)
        if self._process is not None:
            self._process.close()

    def _wait(self) -> Job | None:
        while True:
            try:
                job = self._given.get(timeout=self._settings.idle_seconds)
            except queue.Empty:
                job = None
            if job is not None or self._pool.leave(self):
                return job

    def _serve(self, job: Job) -> None:
        job.thread = self
        result: Outcome
        retire: str | None
        try:
            result, retire = self._try(job)
        except Ended as ended:
            result, retire = answer(job, self._process, ended.status), "it ended"
        # Whatever else happens, the engine waits for this future.
        except Exception as problem:  # noqa: BLE001
            result, retire = problem, "it cannot be spoken to"
        job.end()
        job.resolve(result)
        if retire is not None:
            _log.debug("a worker is replaced: %s", retire)
        self._renew(retire)

    def _try(self, job: Job) -> tuple[Outcome, str | None]:
        process = self._process
        if process is None or not process.alive or not self.fits(job):
            process = self._replace()
        if not job.begin(process):
            return failed(job), None
        try:
            return self._run(job, process)
        except Ended:
            # A process that died between two runs may not show it before it is given the next one.
            if process.runs == 1 or job.step or job.stopped is not None:
                raise
        job.end()
        process = self._replace()
        return self._run(job, process) if job.begin(process) else (failed(job), None)

    def _run(self, job: Job, process: Process) -> tuple[Outcome, str | None]:
        """Have a job done: its result or what went wrong, and why to replace the process."""
        process.runs += 1
        process.code = job.code
        memory = job.attempt.memory or self._settings.memory
        process.send({"task": job.attempt.task, "memory": memory, "log": job.log.path})
        while True:
            try:
                message = process.receive(job.deadline, job.log.hold_down)
            except TimeoutError:
                job.stop("timeout")
                raise Ended(process.reap()) from None
            if "report" in message:
                self._report(job, Report(*message["report"]))
            elif "fatal" in message:
                text = f"the worker could not run the task: {message['fatal']}"
                return ExecutorError(text), message["retire"]
            elif "result" in message:
                return job.with_log(message["result"]), message["retire"]

    def _report(self, job: Job, report: Report) -> None:
        job.reported(report)
        if job.attempt.report is None:
            return
        try:
            job.attempt.report(report)
        # The receiver's trouble must not end the run.
        except Exception:  # noqa: BLE001
            _log.exception("a report of attempt %s was not taken", job.attempt.id)

    def _replace(self) -> Process:
        if self._process is not None:
            self._process.close(at_once=True)
            self._process = None
        self._process = Process(self._settings.call)
        return self._process

    def _renew(self, retire: str | None) -> None:
        """Replace a process that is done for before the next run has to wait for a new one."""
        process = self._process
        worn = process is not None and process.runs >= self._settings.worker_runs
        if process is None or self._pool.closed or (retire is None and not worn):
            return
        process.close(at_once=retire is not None)
        self._process = None
        with suppress(ExecutorError):
            self._process = Process(self._settings.call)
