"""A launched attempt and how it ends: by its worker's answer, or by its worker's end."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from aero_core.errors import ExecutorError
from aero_core.models import JSON, Attempt, Failure, Report, Result
from aero_local.logs import Log
from aero_local.process import Process

#: What a future is settled with.
Outcome = Mapping[str, JSON] | Exception

_FUNCTION = "function"
_LOG_TAIL = 4000
_LOG_KEPT = 1 << 20


class Job:
    """One attempt on its way through the pool.

    Attributes:
        future: What `aero_launch` answers.
        deadline: When the attempt is ended, by `time.monotonic()`; None until its function starts.
        step: The step that was reported last.
        stopped: Why it was stopped from here: `cancelled`, `timeout`, `lost`.
        thread: Who looks after it.
        code: Identity of the function that it calls; empty for none.

    Args:
        attempt: What is to be done.
        log_limit: Bytes that are kept of its output.
    """

    def __init__(self, attempt: Attempt, log_limit: int) -> None:
        self.attempt = attempt
        self.code = _code_of(attempt.task)
        self.future: Future[Mapping[str, JSON]] = Future()
        self.deadline: float | None = None
        self.step = ""
        self.stopped: str | None = None
        self.thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._log_limit = log_limit
        self._own_log = ""

    def begin(self, process: Process) -> bool:
        """Take a process; False when the attempt was stopped before."""
        with self._lock:
            if self.stopped is None:
                self._process = process
            return self.stopped is None

    def end(self) -> None:
        """Let go of the process: from now on it is not killed in this attempt's name."""
        with self._lock:
            self._process = None

    def stop(self, reason: str) -> None:
        """End the attempt's process, if it has one, and keep it from getting one."""
        with self._lock:
            self.stopped = self.stopped or reason
            if self._process is not None:
                self._process.kill()

    def reported(self, report: Report) -> None:
        """Take note of the step; the attempt's time runs from the start of the function."""
        if report.step == _FUNCTION and self.deadline is None and self.attempt.timeout is not None:
            self.deadline = time.monotonic() + self.attempt.timeout
        self.step = report.step

    @cached_property
    def log(self) -> Log:
        """What takes the output: the attempt's file, or one until `with_log`."""
        if self.attempt.log is not None:
            return Log(self.attempt.log, self._log_limit)
        descriptor, self._own_log = tempfile.mkstemp(prefix="aero-", suffix=".log")
        os.close(descriptor)
        return Log(self._own_log, self._log_limit)

    def with_log(self, result: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """The result with the output in it, where the attempt named no file for that; the log is complete now."""
        self.log.finish()
        if not self._own_log:
            return result
        text = _tail(self._own_log, _LOG_KEPT)
        with suppress(OSError):
            Path(self._own_log).unlink()
        self._own_log = ""
        return {**result, "log": result.get("log") or text}

    def resolve(self, outcome: Outcome) -> None:
        """Settle the future, if nobody cancelled it."""
        with suppress(InvalidStateError):
            if isinstance(outcome, Exception):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)


def _code_of(task: Mapping[str, JSON]) -> str:
    code = task.get("code")
    return f"{code.get('bundle_id')} {code.get('function')}" if isinstance(code, Mapping) else ""


def failed(job: Job) -> Outcome:
    """How an attempt ends that was stopped from here."""
    if job.stopped == "lost":
        return ExecutorError("the engine stopped before the attempt ended")
    if job.stopped == "timeout":
        message = f"the function took longer than its timeout of {job.attempt.timeout:g} s"
        return _failure(job, Failure("timeout", message))
    return _failure(job, Failure("cancelled", "the attempt was cancelled"))


def answer(job: Job, process: Process | None, status: int) -> Outcome:
    """How an attempt ends whose worker process is gone.

    Args:
        job: The attempt.
        process: The worker.
        status: Its exit code, or minus the signal that ended it.
    """
    if job.stopped is not None:
        return failed(job)
    if process is not None and not process.ready:
        words = process.last_words()
        return ExecutorError(f"a worker process ended before it was ready: {words}")
    how = _how(status)
    if job.step != _FUNCTION:
        where = f" in step {job.step}" if job.step else ""
        return _failure(job, Failure("crash", f"the worker process ended{where} ({how})", True))
    message = f"the function ended its process ({how})"
    if status == -signal.SIGKILL:
        message += ": most often the system's answer to a lack of memory; see memory= of the flow"
    return _failure(job, Failure("crash", message, traceback=_tail(job.log.path, _LOG_TAIL) or None))


def _failure(job: Job, failure: Failure) -> Mapping[str, JSON]:
    from aero_core.converter import unstructure

    result: Mapping[str, JSON] = unstructure(Result(failure=failure))
    return job.with_log(result)


def _how(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _tail(path: str, size: int) -> str:
    try:
        with Path(path).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
