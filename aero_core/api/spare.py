"""Folders in the state folder for bytes on their way, which go with their process however that ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VERIFY, GET = "verify-", "get-"


@contextmanager
def spare_folder(state: Path, prefix: str) -> Iterator[Path]:
    """A new folder, locked while it is in use; removes those that killed processes have left.

    Args:
        state: The state folder.
        prefix: `VERIFY` or `GET`.
    """
    _sweep(state)
    folder, lock = _make_locked(state, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make_locked(state: Path, prefix: str) -> tuple[Path, int]:
    """Make a folder and lock it, however often another process sweeps it away in between."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=state, prefix=prefix))
        with suppress(FileNotFoundError):
            lock = _open(folder)
            # Where a file system knows no locks nobody can take it for a dead one's either.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _sweep(state: Path) -> None:
    for folder in [*state.glob(f"{VERIFY}*"), *state.glob(f"{GET}*")]:
        with suppress(OSError):
            lock = _open(folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
