"""Where a run ran: what reproducing it needs to know."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
from functools import lru_cache

from aero_core.models import Environment


@lru_cache(maxsize=2)
def environment(with_packages: bool = True) -> Environment:
    """This process's Python, system, host, and the versions of installed distributions.

    Args:
        with_packages: Leave the distributions out where no user code ran.
    """
    packages: dict[str, str] = {}
    if with_packages:
        for distribution in importlib.metadata.distributions():
            name = distribution.metadata["Name"]
            if name:
                packages.setdefault(name.lower(), distribution.version)
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        host=socket.gethostname(),
        packages=dict(sorted(packages.items())),
    )
