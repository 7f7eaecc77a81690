"""Copying one open file to another: streamed, with the checksum on the way."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
from pathlib import Path

from aero_core.models import Progress

BLOCK = 1 << 20
#: ioctl that makes one file share another's blocks until either is written (btrfs, XFS, bcachefs).
_FICLONE = 0x40049409
_NOT_BY_TRYING_AGAIN = (
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


def lasting(problem: OSError) -> bool:
    """Whether only a person can mend what an operating system's error tells."""
    return problem.errno in _NOT_BY_TRYING_AGAIN


class Guarded:
    """A progress callback that remembers what it raised.

    Who asked for a transfer may end it by any exception, an OSError too: that one must not be
    taken for trouble with a file.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.raised: BaseException | None = None

    def __call__(self, done: int, total: int | None) -> None:
        """Pass on how far the transfer is."""
        try:
            self._progress(done, total)
        except BaseException as problem:
            self.raised = problem
            raise


class TooLarge(Exception):
    """More bytes came than may be taken."""


def copy(source: int, target: int, progress: Progress, total: int, limit: int | None = None) -> tuple[str, int]:
    """Copy all bytes from one descriptor to another.

    Args:
        source: Open for reading, at its start.
        target: Open for writing, empty.
        progress: Called with each block; what it raises passes through.
        total: The size that is expected, for `progress`.
        limit: The most bytes to take.

    Returns:
        The bytes' checksum, `sha256:<hex>`, and their number.

    Raises:
        TooLarge: There are more than `limit`.
    """
    if limit is None and _clone(source, target):
        return read(source, progress, total)
    return _pump(source, target, progress, total, limit)


def read(source: int, progress: Progress, total: int) -> tuple[str, int]:
    """The checksum and size of an open file, as `copy` answers them."""
    return _pump(source, None, progress, total, None)


def _pump(source: int, target: int | None, progress: Progress, total: int, limit: int | None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    block = memoryview(bytearray(BLOCK))
    with open(source, "rb", buffering=0, closefd=False) as reader:
        while count := reader.readinto(block):
            size += count
            if limit is not None and size > limit:
                raise TooLarge
            digest.update(block[:count])
            if target is not None:
                write_all(target, block[:count])
            progress(size, total)
    return f"sha256:{digest.hexdigest()}", size


def write_all(target: int, block: memoryview) -> None:
    """Write a whole block: a full disk shows itself only after a short write."""
    while len(block):
        block = block[os.write(target, block) :]


def _clone(source: int, target: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
