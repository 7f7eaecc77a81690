"""Bytes: fetching and storing beside a bare streaming loop, and the memory that it takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

from aero_core.config import Selection
from aero_core.models import Artifact, Context, Fetched, Location, Rule, SourceMember
from aero_core.plugins import Plugins
from aero_core.testing.servers import WebServer
from tests.benchmarks.figures import Figure, Sizes

_BLOCK = 1 << 20
_ROUNDS = 3
_MEMORY = """
import re, resource, sys
from pathlib import Path
from tests.benchmarks.throughput import fetch_and_store
fetch_and_store(sys.argv[1], Path(sys.argv[2]))
status = Path("/proc/self/status")
if status.exists():
    # Linux counts the memory of who started a process into the other figure.
    print(int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20))
"""


def fetch_and_store(url: str, folder: Path) -> None:
    """What a run does with the bytes of a source: fetch, fingerprint, store."""
    target = folder / "fetched" / "0" / "content"
    target.parent.mkdir(parents=True)
    plugins = Plugins(Selection(), Context(side="run"))
    fetched = plugins.fetch(SourceMember(url), target, None, None, lambda done, total: None)
    assert isinstance(fetched, Fetched)
    artifact: Artifact = fetched.artifact
    plugins.fingerprint(artifact, Rule())
    plugins.store(artifact, Location((folder / "store" / artifact.checksum[-64:]).as_uri()), lambda done, total: None)


def _stream(url: str, folder: Path) -> None:
    folder.mkdir()
    with requests.get(url, stream=True, timeout=60) as answer, (folder / "content").open("wb") as file:
        for block in answer.iter_content(_BLOCK):
            file.write(block)


def measure(folder: Path, sizes: Sizes) -> Iterator[Figure]:
    """All figures of this page."""
    folder.mkdir()
    large, small = folder / "large", folder / "small"
    with large.open("wb") as file:
        for number in range(sizes.megabytes):
            file.write(number.to_bytes(4, "big") * (_BLOCK // 4))
    small.write_bytes(b"small")
    with WebServer() as server:
        url = server.publish("large.bin", large)
        bare, ours = [], []
        # In turns, so that whatever else the machine does falls upon both.
        for number in range(_ROUNDS):
            bare.append(_seconds(_stream, url, folder / f"bare{number}"))
            ours.append(_seconds(fetch_and_store, url, folder / f"ours{number}"))
        yield Figure(f"a bare streaming loop, {sizes.megabytes} MiB", sizes.megabytes / min(bare), "MiB/s")
        yield Figure("fetching, hashing and storing the same", sizes.megabytes / min(ours), "MiB/s")
        yield Figure("time of that, as a multiple of the bare loop's", min(ours) / min(bare), "x", 1.2)
        peaks = [_peak(server.publish(file.name, file), folder / f"peak-{file.name}") for file in (small, large)]
        yield Figure("memory that it takes beyond that for 5 bytes", peaks[1] - peaks[0], "MiB", 16)


def _seconds(action: Callable[[str, Path], None], url: str, folder: Path) -> float:
    began = time.perf_counter()
    action(url, folder)
    return time.perf_counter() - began


def _peak(url: str, folder: Path) -> float:
    command = [sys.executable, "-c", _MEMORY, url, str(folder)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return float(done.stdout)
