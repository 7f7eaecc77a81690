"""The example on sources that grow day by day: what changed is made again, and nothing else."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from aero_core import api
from tests.faults.program import Program, check_whole, until

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "outbreaks"
NAMES = ("flu1918", "flu2009", "measles1861", "sars2003")


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy of the example, with no state."""
    folder = tmp_path / "outbreaks"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".aero", "__pycache__"))
    return folder


@pytest.fixture
def replay(example: Path) -> Iterator[ModuleType]:
    """The example's server, as a module."""
    spec = importlib.util.spec_from_file_location("replay", example / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["replay"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["replay"]


def _latest(flow_file: Path) -> dict[str, int]:
    with api.open(flow_file) as aero:
        return {data.name: data.latest or 0 for data in aero.data_list()}


def _runs(flow_file: Path, flow: str) -> int:
    with api.open(flow_file) as aero:
        return len(list(aero.runs(aero.catalog.flow(flow).id)))


def test_every_day_makes_new_cases_estimates_and_a_comparison(example: Path, replay: ModuleType) -> None:
    flows = example / "flows.py"
    with replay.Replay(start=20) as server:
        environment = {"OUTBREAKS_URL": server.url, "OUTBREAKS_EVERY": "0.3s"}
        with Program(example, "up", flows, **environment) as program:
            program.wait_for(r"done +comparison -> comparison.table@1, comparison.plot@1")
            for number in (2, 3):
                server.advance()
                program.wait_for(rf"done +comparison -> .*comparison.plot@{number}")
                latest = _latest(flows)
                assert {latest[f"{kind}_{name}"] for kind in ("cases", "rt") for name in NAMES} == {number}

            # A series that is held back makes no version and no run of what depends on it.
            server.held.add("sars2003")
            before = {flow: _runs(flows, flow) for flow in ("rt_sars2003", "comparison")}
            server.advance()
            moving = [name for name in NAMES if name != "sars2003"]
            until(lambda: all(_latest(flows)[f"rt_{name}"] == 4 for name in moving), "estimates of what moved")
            latest = _latest(flows)
            assert (latest["cases_sars2003"], latest["rt_sars2003"], latest["comparison.plot"]) == (3, 3, 3)
            assert {flow: _runs(flows, flow) for flow in before} == before

            # It goes on: the comparison has waited for it.
            server.held.clear()
            server.advance()
            program.wait_for(r"done +comparison -> .*comparison.plot@4")
            program.signal(signal.SIGTERM)
            assert program.end() == 0
    _check_lineage(flows)


def _check_lineage(flows: Path) -> None:
    """The last comparison is made from the estimates of each series' last day."""
    with api.open(flows) as aero:
        tree = aero.lineage("comparison.plot")
        assert tree.number == 4
        estimates = {parent.data: parent.number for parent in tree.inputs}
        assert set(estimates) == {f"rt_{name}" for name in NAMES}
        assert estimates["rt_sars2003"] == 4
    check_whole(flows, at_rest=False)
