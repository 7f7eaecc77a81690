"""Folders in the state folder for bytes on their way, which go with their process however that ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aero_core.engine.lease import locking

_PREFIX = "spare-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


@contextmanager
def spare_folder(state: Path) -> Iterator[Path]:
    """A new folder in the state folder, locked while in use; removes those that killed processes have left."""
    for left in state.glob(f"{_PREFIX}*"):
        with locking(left, _FOLDER) as dead:
            if dead:
                shutil.rmtree(left, ignore_errors=True)
    folder, lock = _make_locked(state)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make_locked(state: Path) -> tuple[Path, int]:
    """Make a folder and lock it, however often another process sweeps it away in between."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=state, prefix=_PREFIX))
        with suppress(FileNotFoundError):
            lock = os.open(folder, _FOLDER | os.O_CLOEXEC)
            # Where a file system knows no locks nobody can take it for a dead one's either.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)
