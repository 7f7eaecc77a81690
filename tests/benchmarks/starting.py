"""How long a person waits for the command line to say anything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figures import Figure, Sizes, milliseconds

AERO = Path(sys.executable).with_name("aero")


def measure(folder: Path, sizes: Sizes) -> Iterator[Figure]:
    """All figures of this page."""
    folder.mkdir()

    def start(*command: str | Path) -> float:
        return milliseconds(
            lambda: subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True), sizes.starts
        )

    bare = start(sys.executable, "-c", "pass")
    yield Figure("a bare Python", bare, "ms")
    yield Figure("import aero_core, beyond that", start(sys.executable, "-c", "import aero_core") - bare, "ms")
    yield Figure("aero --version, beyond that", start(AERO, "--version") - bare, "ms")
    yield Figure("aero --help, beyond that", start(AERO, "--help") - bare, "ms")
