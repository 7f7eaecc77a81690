"""Bounding a run's log while the run writes to it.

Functions, and the programs that they start, write straight into the file, so that nothing is lost with a crash and
nobody waits for a reader. All of them append: the file can be cut from outside at any time, and they go on after it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_END = 4000


class Log:
    """The file that takes a run's output: its beginning up to a limit, and its end.

    Args:
        path: The file.
        limit: Bytes that are kept of the beginning.
    """

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._cut = False

    def hold_down(self) -> None:
        """Cut off what is past the limit, when it is as much again: what comes last is most often kept so."""
        with suppress(OSError):
            if Path(self.path).stat().st_size > 2 * self._limit:
                os.truncate(self.path, self._limit)
                self._cut = True

    def finish(self) -> None:
        """Say at the limit that something is left out, and keep the end, where tracebacks are."""
        with suppress(OSError), Path(self.path).open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= self._limit and not self._cut:
                return
            file.seek(max(self._limit, size - _END))
            end = file.read()
            file.seek(min(size, self._limit))
            file.truncate()
            file.write(b"\n[left out by AERO: a run's log may hold %d bytes, log_limit]\n" % self._limit + end)
