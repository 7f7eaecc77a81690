"""Runs through the engine: a no-op analysis, an unchanged poll, from a commit to the dependent's start."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import requests

from aero_core import api
from aero_core.engine import Engine
from aero_core.models import Cause, CauseKind, Run, RunState
from aero_core.testing.servers import WebServer
from tests.benchmarks.figures import Figure, Sizes, milliseconds

FLOWS = """
from pathlib import Path
from aero_core import AeroOutput, analysis, ingest

web = ingest("web", url={url!r}, every="1d")
raw = ingest("raw", url=Path(__file__).with_name("raw.txt"), every="1d")

@analysis(inputs=[raw])
def same(raw):
    return AeroOutput("same", raw)
"""


def measure(folder: Path, sizes: Sizes) -> Iterator[Figure]:
    """All figures of this page."""
    folder.mkdir()
    (folder / "raw.txt").write_text("0")
    flows = folder / "flows.py"
    with WebServer() as server:
        url = server.publish("web.csv", b"day,cases\n" * 1000, etag='"1"')
        flows.write_text(FLOWS.format(url=url))
        with api.open(flows) as aero:
            aero.apply(flows)
            with aero.engine() as engine:
                _check(engine.run_to_rest())
                yield from _no_op(aero, engine, sizes)
                yield from _poll(aero, engine, sizes, url)
                yield from _dependent(aero, engine, sizes, folder / "raw.txt")


def _again(aero: api.Aero, engine: Engine, flow: str) -> list[Run]:
    aero.catalog.queue(flow, Cause(CauseKind.ASKED), "bench")
    return _check(engine.run_to_rest())


def _check(ended: list[Run]) -> list[Run]:
    failed = [(run.flow, run.error) for run in ended if run.state not in (RunState.SUCCEEDED, RunState.UNCHANGED)]
    assert not failed, failed
    return ended


def _no_op(aero: api.Aero, engine: Engine, sizes: Sizes) -> Iterator[Figure]:
    flow = aero.catalog.flow("same").id
    first = milliseconds(lambda: _again(aero, engine, flow), sizes.runs)
    last = milliseconds(lambda: _again(aero, engine, flow), sizes.runs)
    yield Figure("a no-op analysis, asked for, run and committed", first, "ms", 5)
    yield Figure("the same, later", last, "ms", 5)


def _poll(aero: api.Aero, engine: Engine, sizes: Sizes, url: str) -> Iterator[Figure]:
    flow = aero.catalog.flow("web").id
    with requests.Session() as session:
        bare = milliseconds(lambda: session.get(url, headers={"If-None-Match": '"1"'}, timeout=10), sizes.runs)
    poll = milliseconds(lambda: _again(aero, engine, flow), sizes.runs)
    yield Figure("a bare conditional GET on the loopback interface", bare, "ms")
    yield Figure("a poll of an unchanged URL, beyond that", poll - bare, "ms", 3)


def _dependent(aero: api.Aero, engine: Engine, sizes: Sizes, source: Path) -> Iterator[Figure]:
    flow = aero.catalog.flow("raw").id
    claimed, started = [], []
    for number in range(1, sizes.runs + 1):
        source.write_text("x" * number)
        made, dependent = _again(aero, engine, flow)
        assert made.ended_at is not None
        assert dependent.started_at is not None
        claimed.append((dependent.started_at - made.ended_at).total_seconds())
        started.append((dependent.steps[0].started_at - made.ended_at).total_seconds())
    yield Figure("from a commit to the claim of its dependent", statistics.median(claimed) * 1000, "ms")
    yield Figure("from a commit to the dependent's start in its worker", statistics.median(started) * 1000, "ms", 10)
