"""Bytes: fetching, storing and reading JSON beside bare streaming loops, and the memory that it takes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec

import ijson
import requests

from aero_core.config import Selection
from aero_core.models import Artifact, Context, Fetched, Location, Rule, SourceMember
from aero_core.plugins import Plugins
from aero_core.testing.servers import WebServer
from tests.benchmarks.figures import Figure, Sizes

P = ParamSpec("P")

_BLOCK = 1 << 20
_PARSED = 1 << 16
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
    plugins.fingerprint(artifact, Rule(), lambda done, total: None)
    plugins.store(artifact, Location((folder / "store" / artifact.checksum[-64:]).as_uri()), lambda done, total: None)


def _stream(url: str, folder: Path) -> None:
    folder.mkdir()
    with requests.get(url, stream=True, timeout=60) as answer, (folder / "content").open("wb") as file:
        for block in answer.iter_content(_BLOCK):
            file.write(block)


def _write_records(path: Path, size: int) -> None:
    """JSON of records with numbers and texts, of so many bytes."""
    chance = random.Random(1)
    with path.open("w") as file:
        written = file.write('{"generated_at": "2026-03-01T06:00:00Z", "items": [')
        while written < size:
            record = {
                "id": written,
                "place": chance.choice(["Chicago", "Cook County", "São Paulo"]),
                "date": f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}",
                "cases": chance.randint(0, 5000),
                "rate": round(chance.uniform(0, 100), 3),
                "position": [chance.uniform(-90, 90), chance.uniform(-180, 180)],
                "confirmed": chance.random() < 0.5,
                "note": None,
                "source": {
                    "name": f"s{chance.randint(0, 99)}",
                    "tags": ["a", "b"],
                    "score": chance.randint(1, 99) * 10,
                },
            }
            written += file.write(f"{json.dumps(record)},\n")
        file.write("null]}")


def _parse(path: Path) -> None:
    with path.open("rb") as file:
        for _ in ijson.basic_parse(file, buf_size=_PARSED):
            pass


def _measure_json(path: Path, megabytes: int) -> Iterator[Figure]:
    _write_records(path, megabytes * _BLOCK)
    plugins = Plugins(Selection(), Context(side="run"))
    artifact = Artifact(str(path), "sha256:0", path.stat().st_size)
    rule = Rule("json", {"ignore": ["/generated_at"]})
    bare, ours = [], []
    for _ in range(_ROUNDS):
        bare.append(_seconds(_parse, path))
        ours.append(_seconds(plugins.fingerprint, artifact, rule, lambda done, total: None))
    yield Figure(f"bare ijson ({ijson.backend}), {megabytes} MiB of records", megabytes / min(bare), "MiB/s")
    yield Figure("fingerprinting the same by the rule json", megabytes / min(ours), "MiB/s")
    yield Figure("time of that, as a multiple of bare ijson's", min(ours) / min(bare), "x", 3)


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
    yield from _measure_json(folder / "records.json", max(1, sizes.megabytes // 5))


def _seconds(action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    began = time.perf_counter()
    action(*args, **kwargs)
    return time.perf_counter() - began


def _peak(url: str, folder: Path) -> float:
    command = [sys.executable, "-c", _MEMORY, url, str(folder)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return float(done.stdout)
