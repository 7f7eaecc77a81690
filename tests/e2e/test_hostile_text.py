"""Text that would steer a terminal: in logs, errors, descriptions and tables."""

from __future__ import annotations

import json

import pytest

from tests.e2e.program import AERO, Project, terminal

FLOWS = r"""
    import sys

    from aero_core import analysis

    TITLE = "\x1b]0;owned\x07\x9b2J\u202e"


    @analysis(outputs=[], description="one" + TITLE + "\ntwo")
    def loud():
        print("\x1b[31mred\x1b[0m and" + TITLE + "\ttab")


    @analysis(outputs=[], description="other")
    def failing():
        raise ValueError("bad" + TITLE)
"""
WRITTEN_OUT = r"\x1b]0;owned\x07\x9b2J\u202e"
RAW = ("\x1b]", "\x07", "\x9b", "\u202e")


@pytest.fixture
def hostile(project: Project) -> Project:
    project.write("flows.py", FLOWS)
    done = project.aero("run", "flows.py", code=1)
    assert not [character for character in RAW if character in done.out + done.err]
    assert f"FAIL  failing: ValueError: bad{WRITTEN_OUT}" in done.err
    assert f"failing failed: ValueError: bad{WRITTEN_OUT}" in done.out
    return project


def test_hostile_text_does_not_reach_a_terminal(hostile: Project) -> None:
    for words in (["logs", "loud"], ["logs", "failing"], ["list", "run"], ["show", "loud"], ["why", "failing"]):
        shown = terminal(hostile, *words)
        assert not [character for character in RAW if character in shown], words
    assert "\x1b[31mred\x1b[0m and" + WRITTEN_OUT + "\ttab\r\n" in terminal(hostile, "logs", "loud")
    plain = terminal(hostile, "logs", "loud", NO_COLOR="1")
    assert "\x1b" not in plain
    assert plain.startswith("red and")
    assert f"description  one{WRITTEN_OUT}\n" in hostile.aero("show", "loud").out
    assert f"bad{WRITTEN_OUT}" in hostile.aero("list", "run").out


def test_programs_get_what_was_written(hostile: Project) -> None:
    done = hostile.call(f"{AERO} logs loud")
    assert done.out == "\x1b[31mred\x1b[0m and\x1b]0;owned\x07\x9b2J\u202e\ttab\n"
    text = hostile.aero("list", "flow", "--format", "json").out
    assert not [character for character in RAW if character in text]
    assert json.loads(text)[1]["spec"]["description"] == "one\x1b]0;owned\x07\x9b2J\u202e\ntwo"
