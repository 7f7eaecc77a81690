"""A worker process: runs tasks one after another for the engine that started it.

Started as `python -m aero_local.worker CONTROL LIFELINE CALL`: two inherited descriptors, and the
function to call as `module:name`. CONTROL is a socket that carries JSON lines:

- in: `{"task", "log", "memory"}`, or `{"exit"}`;
- out: `{"ready"}`, then for each task any number of `{"report"}` and one `{"result", "retire"}` or
  `{"fatal", "retire"}`, where `retire` says why this process should not be used again.

LIFELINE is a pipe that nothing is ever written to: when the engine is gone it closes.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from aero_core.models import JSON, Report
from aero_local.surroundings import Surroundings, redirect, silence

_REPORT_EVERY = 0.1
_LOOK_FOR_ENGINE_EVERY = 5.0

Execute = Callable[[Mapping[str, JSON], Callable[[Report], None] | None], Mapping[str, JSON]]


class Worker:
    """The loop of one worker process."""

    def __init__(self, control: socket.socket, execute: Execute) -> None:
        self._control = control
        self._execute = execute
        self._jobs: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self._sending = threading.Lock()

    def serve(self) -> None:
        """Take tasks until the engine says that it is enough."""
        threading.Thread(target=self._listen, daemon=True, name="aero-control").start()
        self.send({"ready": os.getpid()})
        # Not before the listener runs: it belongs to the process, a run's threads do not.
        surroundings = Surroundings()
        silence()
        while "exit" not in (job := self._jobs.get()):
            kind, value, reason = self._run(job, surroundings.taken)
            retire = json.dumps(surroundings.restore() or reason)
            self._send_text(f'{{"{kind}": {value}, "retire": {retire}}}')

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message to the engine; from any thread."""
        self._send_text(json.dumps(message))

    def _send_text(self, text: str) -> None:
        with self._sending:
            self._control.sendall(text.encode() + b"\n")

    def _run(self, job: Mapping[str, Any], taken: int) -> tuple[str, str, str | None]:
        """Run one task: the kind of the answer, its JSON text, and why to retire afterwards."""
        try:
            memory = job["memory"]
            with redirect(job["log"], None if memory is None else taken + memory):
                result = self._execute(job["task"], Reporter(self.send))
                text = json.dumps(result)
        except MemoryError:
            # So little that not even the function began.
            failure = {"kind": "memory", "message": "the run reached its memory limit: give the flow more with memory="}
            return "result", json.dumps({"failure": failure}), "its last run had no memory"
        # The function's own failures are inside the result: this one is AERO's or the machine's.
        except BaseException as problem:  # noqa: BLE001
            message = f"{type(problem).__name__}: {problem}"
            return "fatal", json.dumps(message), "it could not run the task"
        return "result", text, "its last run failed" if result.get("failure") else None

    def _listen(self) -> None:
        """Read the control socket, also during a run, so that the engine's end is noticed."""
        engine, buffer = os.getppid(), bytearray()
        while True:
            if not select.select([self._control], [], [], _LOOK_FOR_ENGINE_EVERY)[0]:
                if os.getppid() != engine:
                    end()
                continue
            try:
                data = self._control.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                end()
            buffer += data
            if b"\n" in data:
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    self._jobs.put(json.loads(line))


class Reporter:
    """Passes reports on, ten a second at most, but each new step at once."""

    def __init__(self, send: Callable[[Mapping[str, Any]], None]) -> None:
        self._send = send
        self._step = ""
        self._next = 0.0

    def __call__(self, report: Report) -> None:
        """Pass on one report, or leave it out."""
        now = time.monotonic()
        if report.step == self._step and now < self._next and report.done != report.total:
            return
        self._step, self._next = report.step, now + _REPORT_EVERY
        values = [report.attempt_id, report.step, report.done, report.total]
        self._send({"report": values})


def end() -> None:
    """End this process and all that its runs have started, whatever they are doing."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def tie_to_engine(lifeline: int) -> None:
    """Let the kernel kill this process group when the engine's end of the pipe closes.

    On Linux alone. Elsewhere the listening thread does the same, unless the function keeps the
    interpreter's lock.
    """
    if sys.platform != "linux":
        return
    import fcntl

    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | fcntl.FASYNC)
    if select.select([lifeline], [], [], 0)[0]:
        end()


def adopt_orphans() -> None:
    """Become the parent of orphaned grandchildren (Linux): so what a run leaves behind is seen."""
    if sys.platform != "linux":
        return
    import ctypes

    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def main(arguments: list[str]) -> None:
    """Serve until told to exit or left alone."""
    control, lifeline, call = int(arguments[0]), int(arguments[1]), arguments[2]
    for descriptor in (control, lifeline):
        os.set_inheritable(descriptor, False)
    tie_to_engine(lifeline)
    adopt_orphans()
    # Ctrl-C is for the engine, which decides what becomes of its runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module, _, name = call.partition(":")
    execute: Execute = getattr(importlib.import_module(module), name)
    with socket.socket(fileno=control) as connection:
        # A forked child must not keep the line open when this process is gone.
        os.register_at_fork(after_in_child=connection.close)
        faulthandler.enable(2)
        Worker(connection, execute).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
