"""What this machine has: cores, memory, and who works on it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from aero_core.models import Identity

_CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory of the machine, or of the container if that has less; None if unknown."""
    try:
        known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (ValueError, OSError):
        known = []
    known += _container_limits(Path("/proc/self/cgroup"), _CGROUPS)
    return min((size for size in known if size > 0), default=None)


def _container_limits(own: Path, root: Path) -> list[int]:
    """Memory limits of the control groups that this process is in, versions 1 and 2."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            top, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = top / path.strip("/")
        # Inside a container the path is often the host's and the limit stands at the top.
        limits += [_read(place / name) for place in (folder, *folder.parents, top)]
    return [limit for limit in limits if limit > 0]


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def identity() -> Identity:
    """Who runs this process on this host; a user without a passwd entry goes by number."""
    import pwd

    host = socket.gethostname()
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return Identity(issuer=host, subject=str(os.geteuid()))
    full_name = entry.pw_gecos.split(",")[0].strip()
    return Identity(issuer=host, subject=entry.pw_name, name=full_name)
