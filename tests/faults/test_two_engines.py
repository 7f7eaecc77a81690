"""Two `aero up` on one catalog: nothing runs twice, and one takes over from the other."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

from aero_core import api
from aero_core.models import RunState
from tests.faults.conftest import Place
from tests.faults.program import Program, check_whole, until


def test_two_engines_share_a_catalog_without_double_runs(place: Place) -> None:
    with Program(place.folder, "up", place.flows) as first, Program(place.folder, "up", place.flows) as second:
        first.wait_for("AERO is up")
        second.wait_for("AERO is up")
        for number in range(6):
            text = "x" * number
            place.publish(text)
            until(partial(_is_doubled, place, text), f"content {number}")
        for program in (first, second):
            program.signal(signal.SIGTERM)
            assert program.end(30) == 0
    check_whole(place.flows, at_rest=False)


def test_the_other_engine_takes_over_within_seconds(place: Place) -> None:
    place.declare("1d")
    place.hold("doubled")
    with Program(place.folder, "up", place.flows) as first:
        until(lambda: place.reached("doubled"), "a function that runs")
        with Program(place.folder, "up", place.flows) as second:
            second.wait_for("AERO is up")
            place.signals.joinpath("doubled").unlink()
            first.kill()
            until(lambda: place.reached("doubled"), "the run's second beginning", 10)
            place.let_go("doubled")
            second.wait_for("done +counted -> counted@1")
            second.signal(signal.SIGTERM)
            assert second.end(20) == 0
    with api.open(place.flows) as aero:
        (done,) = aero.runs(aero.catalog.flow("doubled").id)
    assert (done.state, done.attempt) == (RunState.SUCCEEDED, 1)
    check_whole(place.flows)


def test_an_engine_that_was_idle_notices_the_others_death(place: Place) -> None:
    place.declare("1d")
    with Program(place.folder, "up", place.flows) as first, Program(place.folder, "up", place.flows) as second:
        first.wait_for("AERO is up")
        second.wait_for("AERO is up")
        until(lambda: _latest(place, "counted") == 1, "the first versions")
        place.hold("doubled")
        place.signals.joinpath("doubled").unlink()
        with api.open(place.flows) as aero:
            aero.retry("doubled")
        until(lambda: place.reached("doubled"), "a function that runs")
        holder, other = (first, second) if _runs_in(first, place) else (second, first)
        place.signals.joinpath("doubled").unlink()
        holder.kill()
        until(lambda: place.reached("doubled"), "the run's second beginning", 10)
        place.let_go("doubled")
        other.wait_for("same +doubled")
        other.signal(signal.SIGTERM)
        assert other.end(20) == 0
    check_whole(place.flows)


def _runs_in(program: Program, place: Place) -> bool:
    """Whether the function that was reached last is at work below a program."""
    status = Path(f"/proc/{place.pid('doubled')}/status").read_text()
    return f"PPid:\t{program.pid}\n" in status


def _latest(place: Place, name: str) -> int:
    with api.open(place.flows) as aero:
        return aero.catalog.data(name).latest or 0


def _is_doubled(place: Place, text: str) -> bool:
    return _latest(place, "doubled") > 0 and place.content("doubled") == text * 2
