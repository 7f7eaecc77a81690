"""Who holds a run: an engine's lock file, and the proof that another engine is dead.

A lock file is held locked while its engine lives; the operating system lets go of it when the process ends, however
that happens. A file that can be locked by another process of the same boot proves the holder dead; an absent file
proves nothing, because another container or host may simply not see it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from aero_core.models import Holder, new_id

ENGINES = "engines"
SCRATCH = "scratch"


class Lease:
    """This engine's lock file and scratch folder.

    Attributes:
        holder: What the catalog is told of this engine.
        scratch: Folder for this engine's attempts; goes with the engine.
    """

    def __init__(self, state: Path, agent: str) -> None:
        self._state = state
        identity = new_id()
        folder = state / ENGINES
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{identity}.lock"
        self._file = _make_locked(path)
        self.holder = Holder(identity, boot_id(), str(path), agent)
        self.scratch = state / SCRATCH / identity
        self.scratch.mkdir(mode=0o700, parents=True)

    def close(self) -> None:
        """Remove the scratch folder and let go of the lock."""
        remove_scratch(self.scratch)
        Path(self.holder.lock).unlink(missing_ok=True)
        os.close(self._file)

    def is_dead(self, other: Holder) -> bool:
        """Whether another engine is proved dead."""
        if other.id == self.holder.id or not other.lock or other.boot_id != self.holder.boot_id:
            return False
        return can_lock(Path(other.lock))

    def dead(self) -> list[Path]:
        """Lock files in this state folder whose engines are proved dead."""
        return [
            lock for lock in (self._state / ENGINES).glob("*.lock") if lock.stem != self.holder.id and can_lock(lock)
        ]

    def sweep(self, locks: Iterable[Path]) -> None:
        """Remove what dead engines left: scratch folders, then lock files.

        Args:
            locks: From `dead`; of engines that hold no run any more, whose lock file is the proof that frees it.
        """
        for lock in locks:
            # Held meanwhile: a new engine that has just made its file, and not locked it yet, makes it again.
            with locking(lock) as dead:
                if dead:
                    remove_scratch(self._state / SCRATCH / lock.stem)
                    lock.unlink(missing_ok=True)


def remove_scratch(folder: Path) -> None:
    """Remove a folder and all in it; what cannot be removed stays without a word."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    # A function may have closed a folder to itself, or unpacked one that is read-only.
    with suppress(OSError):
        folder.chmod(0o700)
        for place, names, _ in os.walk(folder):
            for name in names:
                inner = Path(place, name)
                if not inner.is_symlink():
                    inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _make_locked(path: Path) -> int:
    """Make a lock file and lock it, however often another engine sweeps it away in between."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)


def can_lock(path: Path) -> bool:
    """Whether a lock file is there and nobody holds it."""
    with locking(path) as locked:
        return locked


@contextmanager
def locking(path: Path, flags: int = os.O_RDWR) -> Iterator[bool]:
    """Hold a lock file, or a folder opened with other flags, if it is there and nobody else does."""
    try:
        file = os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        yield False
        return
    try:
        yield True
    finally:
        os.close(file)


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Identifies this host and boot: equal ids see the same processes and locks."""
    source = Path("/proc/sys/kernel/random/boot_id")
    if source.exists():
        return source.read_text(encoding="ascii").strip()
    if sys.platform == "darwin":
        answer = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False
        )
        return answer.stdout.strip()
    return ""
