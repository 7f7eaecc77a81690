"""Runs that go wrong where they happen: what `execute` answers of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aero_core import jobs
from aero_core.bundle import describe, pack
from aero_core.converter import structure, unstructure
from aero_core.flowfile import load_flow_file
from aero_core.models import (
    CodeRef,
    Failure,
    Location,
    PluginNeed,
    Result,
    Rule,
    SourceMember,
    Task,
    TaskFetch,
    TaskOutput,
)

FLOWS = """
import sys
from aero_core import AeroOutput, analysis, errors

@analysis(outputs=[])
def f():
    {body}
"""


def failure(folder: Path, body: str) -> Failure:
    """How a run of a function ends."""
    (folder / "flows.py").write_text(FLOWS.format(body=body))
    function = load_flow_file(folder / "flows.py").declarations[0].function
    assert function is not None
    bundle = pack(describe(function, folder), folder / "bundle.zip")
    code = CodeRef(bundle.id, Location((folder / "bundle.zip").as_uri()), bundle.entry, bundle.function)
    task = Task("run", "attempt", "f", "id", code=code, plugins=(PluginNeed("local"),))
    result = structure(jobs.execute(unstructure(task)), Result)
    assert [step.name for step in result.steps] == ["pull", "function"]
    assert result.failure is not None
    return result.failure


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise KeyboardInterrupt('enough')", "KeyboardInterrupt: enough"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("import signal; signal.raise_signal(signal.SIGINT)", "KeyboardInterrupt"),
        ("sys.exit(3)", "the function called sys.exit(3)"),
        ("sys.exit(type('Odd', (), {'__repr__': lambda self: 1 / 0})())", "the function called sys.exit()"),
    ],
)
def test_whatever_a_function_raises_is_its_failure(tmp_path: Path, body: str, message: str) -> None:
    found = failure(tmp_path, body)
    assert (found.kind, found.message, found.retryable) == ("function", message, False)


PLUGIN = """
import sys
from aero_core.hookspecs import hookimpl
from aero_core.models import Family, Provides

@hookimpl
def aero_provides():
    return [Provides(Family.FETCH, "odd")]

@hookimpl
def aero_fetch(member):
    {body}
"""


def look(folder: Path, body: str) -> Result:
    """A run that looks at a source by a plugin."""
    (folder / "odd.py").write_text(PLUGIN.format(body=body))
    task = Task(
        "run",
        "attempt",
        "cases",
        "id",
        fetches=(TaskFetch(SourceMember("odd://source")),),
        outputs=(TaskOutput("", "cases", "id", Rule(), Location(folder.as_uri())),),
        plugins=(PluginNeed("local"), PluginNeed("odd", module=str(folder / "odd.py"))),
    )
    return structure(jobs.execute(unstructure(task)), Result)


def test_a_plugin_that_exits_is_not_taken_for_the_function(tmp_path: Path) -> None:
    found = look(tmp_path, "sys.exit(3)").failure
    assert found is not None
    assert (found.kind, found.message) == ("plugin", "plugin 'odd' failed in aero_fetch: SystemExit: 3")


def test_an_interrupt_of_another_step_passes_through(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        look(tmp_path, "raise KeyboardInterrupt")


@pytest.mark.parametrize(
    ("body", "start", "size"),
    [
        ("raise ValueError('x' * 5_000_000)", "ValueError: xx", 5_000_012),
        ("sys.exit('x' * 5_000_000)", "the function called sys.exit('xx", 5_000_032),
        ("raise errors.FetchError('x' * 5_000_000)", "xx", 5_000_000),
        ("return AeroOutput('x' * 5_000_000, 'out')", "function 'f' answered output 'xx", 5_000_081),
    ],
)
def test_a_message_without_end_is_cut(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], body: str, start: str, size: int
) -> None:
    found = failure(tmp_path, body)
    assert found.message.startswith(start)
    assert found.message.endswith(f"xx… ({size} characters in all)")
    assert len(found.message) < 1100
    text = capfd.readouterr().err
    assert text == (found.traceback or "")
    assert len(text) < 21_000


def test_a_traceback_without_end_keeps_both_ends(tmp_path: Path) -> None:
    body = "e = ValueError('x' * 5_000_000)\n    e.add_note('the end')\n    raise e"
    text = failure(tmp_path, body).traceback or ""
    assert text.startswith("Traceback (most recent call last):\n")
    assert "raise e" in text
    assert "characters in all)" in text
    assert text.endswith("the end\n")
