"""A clean stop: by signal, at once or with runs to finish, and handed back where they do not."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from aero_core import api
from aero_core.engine import Event, EventKind
from aero_core.models import RunState
from tests.faults.conftest import Place
from tests.faults.program import AERO, Program, check_whole, run, until

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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_engine_whose_words_fill_the_disk_goes_on(place: Place) -> None:
    command = ["sh", "-c", 'exec "$@" > /dev/full 2>&1', "sh", str(AERO), "up", str(place.flows)]
    with subprocess.Popen(command, cwd=place.folder) as program:
        until(lambda: place.reached("counted"), "a function that runs")
        place.signals.joinpath("counted").unlink()
        place.publish("second")
        until(lambda: place.reached("counted"), "a function that runs again")
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 0
    check_whole(place.flows, at_rest=False)


def test_in_the_background_of_a_script_too(place: Place) -> None:
    place.declare("1d")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        program = Program(place.folder, "up", place.flows)
    finally:
        signal.signal(signal.SIGINT, before)
    with program:
        program.wait_for("done +counted")
        program.signal(signal.SIGINT)
        assert (program.end(5), program.lines[-1]) == (0, "stopped")


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_aero_run_hands_back_too(place: Place, number: signal.Signals, code: int) -> None:
    place.declare("1d")
    place.hold("doubled")
    with Program(place.folder, "run", place.flows) as program:
        until(lambda: place.reached("doubled"), "a function that runs")
        program.signal(number)
        assert program.end(20) == code
        assert program.lines[-1] == "Error: interrupted"
    with api.open(place.flows) as aero:
        (handed_back,) = aero.runs(aero.catalog.flow("doubled").id)
        assert (handed_back.state, handed_back.attempt, handed_back.holder) == (RunState.QUEUED, 0, None)
    place.let_go("doubled")
    run(place.folder, "run", place.flows)
    assert place.content("counted") == str(len("firstfirst"))
    check_whole(place.flows)


def test_a_signal_breaks_into_nothing_that_the_engine_does(place: Place) -> None:
    place.declare("1d")
    told = []

    def on_event(event: Event) -> None:
        # In the engine's own thread and between its steps, where an exception could leave a lock behind.
        os.kill(os.getpid(), signal.SIGINT)
        told.append(event.kind)

    with api.open(place.flows) as aero:
        aero.apply(place.flows)
        with pytest.raises(KeyboardInterrupt):
            aero.run(on_event=on_event)
        assert EventKind.BEGAN in told
        assert EventKind.WARNING not in told
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        (handed_back,) = aero.runs(aero.catalog.flow("raw").id)
        assert (handed_back.state, handed_back.attempt) == (RunState.QUEUED, 0)
        aero.run()
    check_whole(place.flows)


#: Replaces itself by the real package, the first one that is imported.
CLICK = """\
import os, sys
sys.path.remove(os.path.dirname(__file__))
del sys.modules["click"]
{kill}
import click
"""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["an import", "a plugin", "the flow file"])
def test_a_signal_while_it_starts_stops_it_cleanly(place: Place, moment: str, number: signal.Signals) -> None:
    place.declare("1d")
    kill = f"import os; os.kill(os.getpid(), {int(number)})\n"
    early = place.folder / "early"
    early.mkdir()
    if moment == "an import":
        early.joinpath("click.py").write_text(CLICK.format(kill=kill))
    elif moment == "a plugin":
        place.folder.joinpath("aero.toml").write_text('[plugins]\nmodules = ["site_adapters.py"]\n')
        place.folder.joinpath("site_adapters.py").write_text(kill)
    else:
        place.flows.write_text(place.flows.read_text() + kill)
    with Program(place.folder, "up", place.flows, PYTHONPATH=str(early)) as program:
        assert (program.end(), program.lines) == (0, ["stopped"])
    code = 128 + number
    assert run(place.folder, "run", place.flows, code=code, PYTHONPATH=str(early))[-1] == "Error: interrupted"
    assert not place.state.exists()
