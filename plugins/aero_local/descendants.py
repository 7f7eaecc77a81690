"""Ending what a process has started, also what has left its process group for a session of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Each round ends all that there is; a further one finds what was started meanwhile. A function that starts
# processes faster than they are ended must not keep the engine.
_ROUNDS = 20


def end_descendants(pid: int) -> None:
    """Kill all descendants of a process that lives and adopts its orphans, and stop it from starting more.

    On Linux alone: elsewhere nobody adopts, and a process that has left the group cannot be told from others.

    Args:
        pid: A child of this process, which is to be ended next.
    """
    if sys.platform != "linux":
        return
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
    ended: set[int] = set()
    for _ in range(_ROUNDS):
        found = set(_descendants(pid)) - ended
        if not found:
            return
        for one in found:
            # One that runs as somebody else cannot be ended from here.
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        ended |= found


def _descendants(pid: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    todo = [pid]
    while todo:
        found = children.get(todo.pop(), [])
        yield from found
        todo += found


def _processes() -> Iterator[tuple[int, int]]:
    """Each process and its parent."""
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal():
            with suppress(OSError):
                # PID (NAME) STATE PARENT ...; a name may hold anything.
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                yield int(name), int(fields[1])
