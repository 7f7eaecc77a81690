"""A clean stop: by signal, at once or with runs to finish, and handed back where they do not."""

from __future__ import annotations

import signal

import pytest

from aero_core import api
from aero_core.models import RunState
from tests.faults.conftest import Place
from tests.faults.program import Program, check_whole, run, until

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
def test_an_idle_engine_stops_at_once(place: Place, number: signal.Signals) -> None:
    place.declare("1d")
    with Program(place.folder, "up", place.flows) as program:
        program.wait_for("done +counted")
        program.signal(number)
        assert program.end(5) == 0
        assert program.lines[-1] == "stopped"
    check_whole(place.flows)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_under_way_may_finish(place: Place, number: signal.Signals) -> None:
    place.declare("1d")
    place.hold("doubled")
    with Program(place.folder, "up", place.flows) as program:
        until(lambda: place.reached("doubled"), "a function that runs")
        program.signal(number)
        place.let_go("doubled")
        program.wait_for("done +doubled -> doubled@1")
        assert program.end(20) == 0
        assert not [line for line in program.lines if "counted@1" in line]
    lines = run(place.folder, "run", place.flows)
    assert [line for line in lines if "counted -> counted@1" in line]
    check_whole(place.flows)


def test_a_run_that_does_not_finish_is_handed_back_without_a_counted_attempt(place: Place) -> None:
    place.declare("1d")
    place.hold("doubled")
    with Program(place.folder, "up", place.flows) as program:
        until(lambda: place.reached("doubled"), "a function that runs")
        # Asked again, it does not wait for the run. Two signals of one kind might come as one.
        program.signal(signal.SIGTERM)
        program.signal(signal.SIGINT)
        assert program.end(20) == 0
    with api.open(place.flows) as aero:
        (handed_back,) = aero.runs(aero.catalog.flow("doubled").id)
        assert (handed_back.state, handed_back.attempt, handed_back.holder) == (RunState.QUEUED, 0, None)
    place.let_go("doubled")
    run(place.folder, "run", place.flows)
    with api.open(place.flows) as aero:
        (done,) = aero.runs(aero.catalog.flow("doubled").id)
        assert (done.id, done.state, done.attempt) == (handed_back.id, RunState.SUCCEEDED, 1)
    check_whole(place.flows)


def test_an_interrupted_aero_run_hands_back_too(place: Place) -> None:
    place.declare("1d")
    place.hold("doubled")
    with Program(place.folder, "run", place.flows) as program:
        until(lambda: place.reached("doubled"), "a function that runs")
        program.signal(signal.SIGINT)
        assert program.end(20) == 130
    place.let_go("doubled")
    run(place.folder, "run", place.flows)
    assert place.content("counted") == str(len("firstfirst"))
    check_whole(place.flows)
