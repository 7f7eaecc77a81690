"""An engine killed at any moment: the next one loses nothing, repeats nothing and cleans up."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aero_core import api
from aero_core.models import RunState
from aero_core.testing.servers import Reply
from tests.faults.conftest import Place
from tests.faults.program import Program, check_whole, run, until

LAST = "the last content"


def _while_fetching(place: Place, program: Program) -> None:
    place.web.script("raw.txt", Reply(cut=300_000, hang=True))
    place.publish("second" * 100_000)
    scratch = place.state / "scratch"
    until(lambda: any(_size(path) > 1000 for path in _files(scratch) if "fetched" in path.parts), "half a download")


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, whatever goes while one looks."""
    for path, _, names in os.walk(folder):
        yield from (Path(path, name) for name in names)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _in_a_function(place: Place, program: Program) -> None:
    place.hold("doubled")
    place.publish("second")
    program.wait_for("done +raw -> raw@2")
    place.signals.joinpath("doubled").unlink()
    until(lambda: place.reached("doubled"), "a function that runs")


def _at_the_end_of_a_function(place: Place, program: Program) -> None:
    place.signals.joinpath("written").unlink()
    place.publish("second")
    until(lambda: place.reached("written"), "a function that has written")


def _between_store_and_commit(place: Place, program: Program) -> None:
    before = _stored(place)
    place.publish("second")
    until(lambda: _stored(place) - before, "new bytes in the store")


def _between_commit_and_dependent(place: Place, program: Program) -> None:
    place.publish("second")
    program.wait_for("done +raw -> raw@2")


def _between_dependents(place: Place, program: Program) -> None:
    place.publish("second")
    program.wait_for("done +doubled -> doubled@2")


def _stored(place: Place) -> set[str]:
    return {str(path) for path in _files(place.state / "store")}


MOMENTS = [
    _while_fetching,
    _in_a_function,
    _at_the_end_of_a_function,
    _between_store_and_commit,
    _between_commit_and_dependent,
    _between_dependents,
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__.strip("_"))
def test_an_engine_killed_at_a_moment_loses_nothing(place: Place, moment: Callable[[Place, Program], None]) -> None:
    with Program(place.folder, "up", place.flows) as program:
        program.wait_for("done +counted -> counted@1")
        moment(place, program)
        program.kill()
    for held in place.signals.glob("hold-*"):
        held.unlink()
    _check_after(place)


@contextmanager
def _changing(place: Place) -> Iterator[None]:
    """Publish something new again and again."""
    over = threading.Event()

    def feed() -> None:
        for number in itertools.count():
            if over.wait(0.05):
                return
            place.publish(f"content {number}")

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("seed", range(4))
def test_an_engine_killed_at_any_time_loses_nothing(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    with Program(place.folder, "up", place.flows) as program, _changing(place):
        for _ in range(chance.randint(1, 4)):
            program.wait_for("done +doubled ->")
        # The moment of the kill itself: whatever happens to go on then.
        time.sleep(chance.uniform(0, 0.4))
        program.kill()
    _check_after(place)


def _check_after(place: Place) -> None:
    """The next engine takes over, and ends where an engine would that was never killed."""
    place.publish(LAST)
    # A poll that is taken over is done anew, so that it sees this content as well.
    run(place.folder, "run", place.flows)
    check_whole(place.flows)
    assert place.content("raw") == LAST
    assert place.content("doubled") == LAST * 2
    assert place.content("counted") == str(len(LAST) * 2)


def test_a_dead_engines_runs_are_begun_again_without_a_counted_attempt(place: Place) -> None:
    place.hold("doubled")
    with Program(place.folder, "up", place.flows) as program:
        until(lambda: place.reached("doubled"), "a function that runs")
        program.kill()
    place.let_go("doubled")
    run(place.folder, "run", place.flows)
    with api.open(place.flows) as aero:
        (done,) = aero.runs(aero.catalog.flow("doubled").id)
    assert (done.state, done.attempt, done.fencing) == (RunState.SUCCEEDED, 1, 2)
    check_whole(place.flows)


def test_workers_end_with_their_engine(place: Place) -> None:
    place.hold("doubled")
    with Program(place.folder, "up", place.flows) as program:
        until(lambda: place.reached("doubled"), "a function that runs")
        program.kill()
        until(lambda: not _lives(place.pid("doubled")), "the worker's end", 10)


def test_a_killed_worker_fails_only_its_run(place: Place) -> None:
    place.hold("doubled")
    with Program(place.folder, "up", place.flows) as program:
        until(lambda: place.reached("doubled"), "a function that runs")
        os.kill(place.pid("doubled"), signal.SIGKILL)
        program.wait_for("FAIL +doubled: the function ended its process .*SIGKILL")
        place.let_go("doubled")
        place.publish("second")
        program.wait_for("done +raw -> raw@2")
        program.wait_for("done +doubled -> doubled@1")
        program.wait_for("done +counted -> counted@1")
        program.signal(signal.SIGTERM)
        assert program.end() == 0
    check_whole(place.flows, at_rest=False)


#: Verifies half of a project, and goes on when it is told so.
VERIFYING = """\
from aero_core import api
with api.open("flows.py") as aero:
    findings = aero.verify()
    next(findings)
    print("half", flush=True)
    input()
"""


def test_what_a_killed_verify_left_goes_with_the_next_one(place: Place) -> None:
    run(place.folder, "run", place.flows)
    with subprocess.Popen(
        [sys.executable, "-c", VERIFYING], cwd=place.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as verifying:
        assert verifying.stdout is not None
        assert verifying.stdout.readline() == "half\n"
        left = list(place.state.glob("spare-*"))
        assert len(left) == 1
        run(place.folder, "verify")
        assert list(place.state.glob("spare-*")) == left
        verifying.kill()
    run(place.folder, "get", "raw", "-o", "-")
    assert list(place.state.glob("spare-*")) == []


def _lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
