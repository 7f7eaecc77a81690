"""Numbers beyond what databases and systems take, and values nested beyond what Python follows."""

from __future__ import annotations

import pytest

from aero_core import api
from aero_core.errors import InvalidValue
from tests.e2e.conftest import fill
from tests.e2e.program import Done, Project, at_once, refused

LARGE = "99999999999999999999999"
LONG = "9" * 5000


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has run. Nobody changes it."""
    project = Project(tmp_path_factory.mktemp("large") / "project")
    fill(project)
    project.aero("run", "flows.py")
    return project


WORDS = {
    f"get notes@{LARGE} -o x": "version '99999999999999999999999' of notes: expected a number from 1",
    f"get notes@{LONG} -o x": "of notes: expected a number from 1, or 'latest'",
    "get notes -o x --as-of 9999-12-31T23:59:59-14:00": "is out of range: expected a time of the years 1 to 9999",
    "get notes -o x --as-of 0001-01-01T00:00:00+14:00": "is out of range: expected a time of the years 1 to 9999",
    f"list run --limit {LARGE}": "is not in the range 1<=x<=9223372036854775807",
    f"list data --limit {LARGE}": "is not in the range 1<=x<=9223372036854775807",
    f"versions notes --limit {LARGE}": "is not in the range 1<=x<=9223372036854775807",
    "lineage lines --depth 2000": "depth is 2000: expected at most 100",
}


def test_words_of_a_command(ran: Project) -> None:
    def call(words: str) -> Done:
        return ran.aero(*words.split(" "), code=2)

    for words, done in at_once(call, WORDS).items():
        assert WORDS[words] in refused(done)


def test_the_deepest_lineage_and_the_largest_limit_are_taken(ran: Project) -> None:
    assert "notes@1" in ran.out("lineage", "lines", "--depth", "100")
    assert ran.json("versions", "notes", "--limit", str(2**63 - 1))
    with api.open(ran.folder) as aero, pytest.raises(InvalidValue, match="expected at most 100"):
        aero.lineage("lines", 101)


NESTED = "x = []\nfor _ in range({levels}):\n    x = [x]\n"
FLOWS = {
    "memory=2**64": "memory is 18446744073709551616: expected at most 2**60 bytes",
    "memory='99999999999999999999TB'": "memory is '99999999999999999999TB': expected at most 2**60 bytes",
    "memory='9' * 400 + 'GB'": "expected at most 2**60 bytes",
    "memory=10**5000": "memory is a value of type int that cannot be shown: expected at most 2**60 bytes",
    "timeout=2**64": "timeout is 18446744073709551616: expected seconds above 0",
    "timeout=10**5000": "timeout is a value of type int that cannot be shown: expected seconds",
    "every=10**5000": "every is a value of type int that cannot be shown: expected seconds",
    "retries=2**64": "retries is 18446744073709551616: expected a whole number below 2**63",
    "kwargs={'a': 10**5000}": "kwargs['a'] is a number of more than 4000 digits: give it as text",
    "kwargs={'a': x}": "kwargs is more than 100 levels deep: keep it in a file",
    f"inputs={{'a': 'notes@{LARGE}'}}": "expected a number from 1 on",
}


def test_arguments_of_a_flow(ran: Project) -> None:
    numbers = {given: place for place, given in enumerate(FLOWS)}

    def call(given: str) -> Done:
        name = f"f{numbers[given]}.py"
        text = f"@analysis(outputs=[], {given})\ndef g(a=1): pass\n"
        ran.write(name, "from aero_core import analysis\n" + NESTED.format(levels=500) + text)
        return ran.aero("apply", "--dry-run", name, code=2)

    for given, done in at_once(call, FLOWS).items():
        assert FLOWS[given] in refused(done)


def test_kwargs_as_deep_and_long_as_may_be_are_carried(project: Project) -> None:
    text = "@analysis(outputs=[], kwargs={'a': x, 'b': 10**3999})\ndef g(a, b): assert a and b == 10**3999\n"
    project.write("flows.py", "from aero_core import analysis\n" + NESTED.format(levels=98) + text)
    project.aero("run", "flows.py")
    assert project.json("show", "g")[0]["spec"]["argument_sets"][0]["kwargs"]["b"] == 10**3999


SETTINGS = {
    f"[limits]\nruns = {LARGE}": "limits.runs is 99999999999999999999999: expected a whole number below 2**63",
    f"[plugins.local]\nmemory = {LARGE}": "memory is 99999999999999999999999: expected at most 2**60 bytes",
    f"[plugins.local]\nworkers = {LARGE}": "expected a whole number below 2**63",
    "[plugins.local]\nidle_seconds = 1e300": "idle_seconds is 1e+300: expected at most 1e+08",
    "[plugins.http]\nread_timeout = inf": "'read_timeout' must be <= 100000000",
    f"[plugins.http]\nretries = {LARGE}": "expected a whole number below 2**63",
    f"[x]\na = {LONG}": "cannot be read: a number in it has thousands of digits",
    "x = " + "[" * 5000 + "]" * 5000: "cannot be read: lists or tables in it are nested too deeply",
}


@pytest.mark.parametrize("text", SETTINGS, ids=range(len(SETTINGS)))
def test_settings(counting: Project, text: str) -> None:
    counting.write("aero.toml", text)
    done = counting.aero("run", "flows.py", code=2)
    assert SETTINGS[text] in refused(done)
