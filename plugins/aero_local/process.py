"""One worker process as the engine sees it: started, spoken to, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from aero_core.errors import ExecutorError
from aero_local.descendants import end_descendants

# A worker's end shows at once as the end of the connection, unless a child that was forked behind
# Python's back holds it open: then it is found by looking.
_LOOK_EVERY = 0.25
_GRACE = 1.0


class Ended(Exception):
    """The worker process is gone. `status` is its exit code, or minus the signal that ended it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Process:
    """A worker process. One thread talks to it; any thread may `kill` it.

    Attributes:
        ready: Whether it has come up.
        runs: Tasks that it has been given.
        code: The code of the last one; None before the first.
    """

    def __init__(self, call: str) -> None:
        self.ready = False
        self.runs = 0
        self.code: str | None = None
        self._buffer = bytearray()
        self._ending = threading.Lock()
        self._control, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        fds = (theirs.fileno(), lifeline)
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "aero_local.worker", *map(str, fds), call],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env={"MPLBACKEND": "Agg", **os.environ},
                start_new_session=True,
                pass_fds=fds,
            )
        except OSError as problem:
            self._release()
            raise ExecutorError(f"a worker process could not be started: {problem}") from problem
        finally:
            theirs.close()
            os.close(lifeline)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            Ended: The process is gone.
        """
        self._control.settimeout(None)
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise Ended(self.reap()) from None

    def receive(self, deadline: float | None, meanwhile: Callable[[], None]) -> Mapping[str, Any]:
        """The next message.

        Args:
            deadline: When to give up, by `time.monotonic()`.
            meanwhile: Called some times a second.

        Raises:
            TimeoutError: It is past the deadline.
            Ended: The process is gone.
        """
        searched = 0
        while (at := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            meanwhile()
            self._fill(deadline)
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        message: Mapping[str, Any] = json.loads(line)
        if "ready" in message:
            self.ready = True
        return message

    def _fill(self, deadline: float | None) -> None:
        """Read what there is, or wait a moment for it."""
        left = _LOOK_EVERY if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._control.settimeout(min(left, _LOOK_EVERY))
        try:
            data = self._control.recv(1 << 16)
        except TimeoutError:
            if self._popen.poll() is not None:
                raise Ended(self.reap()) from None
            return
        except OSError:
            data = b""
        if not data:
            raise Ended(self.reap())
        self._buffer += data

    @property
    def alive(self) -> bool:
        """Whether it may be given a task."""
        return self._popen.poll() is None

    def kill(self) -> None:
        """End the process and all that it started. The thread that talks to it meets `Ended`."""
        with self._ending, suppress(ProcessLookupError, PermissionError):
            # Once its status has been asked for, its number may be another process's.
            if self._popen.returncode is None:
                end_descendants(self._popen.pid)
            os.killpg(self._popen.pid, signal.SIGKILL)

    def close(self, *, at_once: bool = False) -> None:
        """End the process and give back what it holds here.

        Args:
            at_once: Do not let it end by itself first.
        """
        if not at_once:
            with suppress(Ended, subprocess.TimeoutExpired):
                self.send({"exit": True})
                self._popen.wait(_GRACE)
        self.reap()
        self._release()

    def last_words(self) -> str:
        """The last line that a process wrote that did not come up."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"

    def reap(self) -> int:
        """End the process, if it has not, and answer its exit code or minus its signal."""
        self.kill()
        return self._popen.wait()

    def _release(self) -> None:
        self._control.close()
        self._errors.close()
        os.close(self._lifeline)
