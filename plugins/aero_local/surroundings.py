"""What a run finds in its process, and what must be put back after it.

A process is shared by runs that know nothing of each other: whatever one of them changed may not
reach the next. Where it cannot be put back the process is retired. Imported modules stay: they are
what makes the next run quick, and the core drops those of a run's own code.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
# Linux counts a process's own data under RLIMIT_DATA and leaves out mapped files, which cost no
# memory of their own. macOS knows both limits and enforces neither.
_LIMIT = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS


class Surroundings:
    """The state of a fresh process.

    Attributes:
        taken: Bytes that it takes for itself, which are not counted as a run's.
    """

    def __init__(self) -> None:
        self.taken = _taken()
        self._folder = Path.cwd()
        self._environment = dict(os.environ)
        self._path = list(sys.path)
        self._arguments = list(sys.argv)
        self._handlers = [(number, signal.getsignal(number)) for number in _SIGNALS]
        self._umask = _umask()
        self._threads = threading.active_count()
        self._loggers = list(logging.root.handlers), logging.root.level

    def restore(self) -> str | None:
        """Put everything back; answer why that is not possible, if it is not."""
        try:
            self._restore()
        except (OSError, ValueError) as problem:
            return f"its state cannot be put back ({problem})"
        if threading.active_count() > self._threads:
            return "its last run left threads"
        return "its last run left processes" if _has_children() else None

    def _restore(self) -> None:
        os.chdir(self._folder)
        if dict(os.environ) != self._environment:
            os.environ.clear()
            os.environ.update(self._environment)
        os.umask(self._umask)
        sys.argv[:] = self._arguments
        sys.path[:] = self._path
        logging.root.handlers[:] = self._loggers[0]
        logging.root.setLevel(self._loggers[1])
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._handlers:
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _umask() -> int:
    value = os.umask(0o077)
    os.umask(value)
    return value


def _has_children() -> bool:
    """Whether a child lives; dead ones that nobody asked for are cleared away."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return False
    return True


@contextmanager
def redirect(log: str, memory: int | None) -> Iterator[None]:
    """Send stdout and stderr, of children too, to a run's log, and limit the run's memory."""
    _attach(_open_log(log), 1, 2)
    before = resource.getrlimit(_LIMIT)
    try:
        if memory is not None:
            resource.setrlimit(_LIMIT, (_lower(memory, before[1]), before[1]))
        yield
    finally:
        resource.setrlimit(_LIMIT, (before[0], resource.getrlimit(_LIMIT)[1]))
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        silence()


def silence() -> None:
    """Read stdin from nowhere, and send stdout and stderr there."""
    _attach(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), 0, 1, 2)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def _attach(descriptor: int, *standard: int) -> None:
    """Make an open file the process's stdin, stdout or stderr."""
    for number in standard:
        os.dup2(descriptor, number)
    # If a run has closed one of the three, the file was opened as just that one.
    if descriptor in standard:
        os.set_inheritable(descriptor, True)
    else:
        os.close(descriptor)
    sys.stdout, sys.stderr = _stream(1), _stream(2)


def _open_log(log: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(log, flags, 0o600)
    except FileNotFoundError:
        Path(log).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(log, flags, 0o600)


def _stream(descriptor: int) -> TextIO:
    """Line by line, so that nothing is lost when the process ends without warning."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _taken() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _lower(limit: int, hard: int) -> int:
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)
