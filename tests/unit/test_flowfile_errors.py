"""What a person reads when a flow file is wrong: one line, where, what and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aero_core.errors import FlowFileError
from aero_core.flowfile import load_flow_file

HEAD = """\
from pathlib import Path
from aero_core import analysis, ingest
def rt(cases, window=7): ...
def none(): ...
cases = ingest("cases", url="https://example.org/a")
two = analysis(none, name="two", outputs=["a", "b"])
mute = analysis(none, name="mute", outputs=[])
"""
LINE = HEAD.count("\n") + 1


def complaint(path: str | Path) -> str:
    with pytest.raises(FlowFileError) as caught:
        load_flow_file(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


NAMES = "use letters, digits, '_' and '-', with '.' between parts, at most 200 characters"
PATHS = 'use Path(__file__).parent / "..." or its .as_uri()'
WRONG = {
    # Names.
    'ingest("a b", url="mem:x")': "a flow cannot be named 'a b': " + NAMES,
    'ingest("../a", url="mem:x")': "a flow cannot be named '../a': " + NAMES,
    'ingest("a\\0", url="mem:x")': "a flow cannot be named 'a\\x00': " + NAMES,
    'ingest("\U0001f600", url="mem:x")': "a flow cannot be named '\U0001f600': " + NAMES,
    'ingest(7, url="mem:x")': "a flow cannot be named 7: " + NAMES,
    # Sources.
    'ingest("a")': "flow 'a': url is missing: say where the data come from",
    "@ingest\ndef f(path): ...": "@ingest needs a source: write @ingest(url=...)",
    'ingest("a", url="data/a.csv")': "flow 'a': url is 'data/a.csv', without a scheme: for a file " + PATHS,
    'ingest("a", url="C:\\\\a.csv")': "flow 'a': url is 'C:\\\\a.csv', without a scheme: for a file " + PATHS,
    'ingest("a", url=Path("a.csv"))': "flow 'a': url is the relative path 'a.csv': " + PATHS,
    'ingest("a", url="file:a.csv")': "flow 'a': url is 'file:a.csv', no path on this machine: " + PATHS,
    'ingest("a", url="file://host/a")': "flow 'a': url is 'file://host/a', no path on this machine: " + PATHS,
    'ingest("a", url="https:///a")': "flow 'a': url is 'https:///a', without a host",
    'ingest("a", url="https://x:port/")': "flow 'a': url is 'https://x:port/': Port could not be "
    "cast to integer value as 'port'",
    'ingest("a", url="https://me:pass@x.org/a")': "flow 'a': url of x.org carries a user name or "
    "password: take it out, a flow file and its record are read by others",
    'ingest("a", url="https://x.org/a\\n")': "flow 'a': url is 'https://x.org/a\\n': expected no "
    "blanks or control characters, write %20 for a blank",
    'ingest("a", url=["https://x.org/a"])': "flow 'a': url is ['https://x.org/a']: expected such "
    "as 'https://example.org/a.csv'",
    # Half characters.
    **{
        call: f"flow 'a': {what}, which has half a character (a surrogate) in it: take it out"
        for call, what in {
            r'ingest("a", url="mem:\udc80")': r"url is 'mem:\udc80'",
            r'ingest("a", url="mem:x", description="\ud800")': r"description is '\ud800'",
            r'ingest("a", url="mem:x", store="\ud800")': r"store is '\ud800'",
            r'ingest("a", url="mem:x", rule={"name": "csv", "ignore": ["\ud800"]})': r"rule['ignore'][0] is '\ud800'",
            r'analysis(rt, name="a", inputs=[cases], kwargs={"window": "\ud800"})': r"kwargs['window'] is '\ud800'",
            r'analysis(rt, name="a", inputs=[cases], kwargs={"\ud800": 7})': r"kwargs, a key, is '\ud800'",
            r'analysis(rt, name="a", inputs={"cases": {"\ud800": cases}})': r"inputs['cases'], a key, is '\ud800'",
        }.items()
    },
    r'ingest("\ud800", url="mem:x")': r"a flow cannot be named '\ud800': " + NAMES,
    r'ingest("a", url="mem:x", tags=["\ud800"])': r"flow 'a': tags has '\ud800': expected text",
    r'ingest("a", url="mem:x", every="\ud800")': r"flow 'a': every is '\ud800': expected seconds, text such as "
    "'15m' or '1d', or a cron expression such as '0 6 * * *'",
    r'analysis(rt, name="a", inputs=["\ud800"])': r"flow 'a': an input's data cannot be named '\ud800': " + NAMES,
    # Other arguments.
    'ingest("a", url="mem:x", every="1x")': "flow 'a': every is '1x': expected seconds, text such "
    "as '15m' or '1d', or a cron expression such as '0 6 * * *'",
    'ingest("a", url="mem:x", tz="Mars")': "flow 'a': tz is 'Mars': expected a time zone such as "
    "'UTC' or 'America/Chicago'",
    'ingest("a", url="mem:x", policy="any")': "flow 'a': policy is ANY, which is not one of "
    "an ingestion: expected INGESTION, INGESTION_EVENT, TIMER, NONE",
    'ingest("a", url="mem:x", limit="big")': "flow 'a': limit is 'big': expected bytes above 0, "
    "or text such as '500MB' or '2GiB'",
    'ingest("a", url="mem:x", rule=5)': "flow 'a': rule is 5: expected 'bytes', 'json', 'csv' or "
    "'text', or such as {'name': 'csv', 'ignore': ['updated']}",
    'ingest("a", url="mem:x", retries=-1)': "flow 'a': retries is -1: expected a whole number, 0 or more",
    'ingest("a", url="mem:x", timeout="soon")': "flow 'a': timeout is 'soon': expected seconds "
    "above 0, or text such as '30s', '15m', '6h', '1d'",
    'ingest("a", url="mem:x", tags="x")': "flow 'a': tags is 'x': expected a list such as ['one', 'two']",
    'ingest("a", url="mem:x", tags=["x", 5])': "flow 'a': tags has 5: expected text",
    'ingest("a", url="mem:x", store=5)': "flow 'a': store is 5: expected text",
    'ingest("a", url="mem:x", evry="1d")': "TypeError: ingest() got an unexpected keyword argument 'evry'",
    '@ingest("a", url="mem:x")\ndef f(): ...': "flow 'a': f has no parameter: its first one receives the raw file",
    '@ingest("a", url="mem:x")\ndef f(path, other): ...': "flow 'a': parameter 'other' of f is "
    "given by nothing: name it in inputs or kwargs, or give it a default",
    '@ingest("a", url="mem:x")\ndef f(path, /): ...': "flow 'a': parameter 'path' of f cannot be "
    "given by name: take the '/' out",
    'analysis(none, rerun="no")': "flow 'none': rerun is 'no': expected True or False",
    'analysis(none, policy="all")': "flow 'none': policy is ALL, which needs inputs: there are none",
    'analysis(none, policy="sometimes")': "flow 'none': policy is 'sometimes': expected one of "
    "NONE -1, INGESTION 0, TIMER 1, ANY 2, ALL 3, INGESTION_EVENT 4",
    'analysis(none, outputs="a")': "flow 'none': outputs is 'a': expected a list such as ['one', 'two']",
    'analysis(none, outputs=["a", "a"])': "flow 'none': outputs names 'a' twice",
    'analysis(none, outputs=["a/b"])': "flow 'none': an output cannot be named 'a/b': use letters, "
    "digits, '_' and '-', with '.' between parts, at most 200 characters",
    # Functions.
    "analysis([cases])": "analysis was given list as its function: write inputs= before inputs",
    "analysis(lambda: 0)": "it cannot run a lambda: define it with def at the top of the file",
    'analysis(lambda: 0, name="x")': "flow 'x': it cannot run a lambda: define it with def at the top of the file",
    "analysis(len, inputs={})": "flow 'len': it needs a Python function, not "
    "builtin_function_or_method <built-in function len>: define it with def at the top of the file",
    "analysis(dict)": "flow 'dict': it needs a Python function, not a class: define it with def at the top of the file",
    "def outer():\n    def inner(): ...\n    return inner\nanalysis(outer())": "flow 'inner': it "
    "cannot run outer.<locals>.inner, an inner function: define it with def at the top of the file",
    # Inputs and parameters.
    "analysis(rt, inputs=[two])": "flow 'rt': flow 'two' makes several data: say which, such as two['a']",
    "analysis(rt, inputs=[mute])": "flow 'rt': flow 'mute' makes no data, so it cannot be an input",
    'analysis(rt, inputs={"cases": two["c"]})': "flow 'two' has no output 'c': it has 'a', 'b'",
    'analysis(rt, inputs={"cases": cases["c"]})': "flow 'cases' has no output 'c': it has none by name",
    "analysis(rt, inputs=[two['a']])": "flow 'rt': rt has no parameter for the input 'two.a': "
    "name one 'a', or give inputs={'PARAMETER': ...} (it has 'cases', 'window')",
    "analysis(rt, inputs=['x-1.5'])": "flow 'rt': rt has no parameter for the input 'x-1.5': "
    "it is no parameter's name, give inputs={'PARAMETER': ...} (it has 'cases', 'window')",
    "analysis(rt, inputs=[cases, 'x.cases'])": "flow 'rt': inputs 'cases' and 'x.cases' would "
    "both be parameter 'cases': give inputs={'PARAMETER': ...}",
    "analysis(rt, inputs={'case': cases})": "flow 'rt': rt has no parameter 'case' for the input "
    "of that name: it has 'cases', 'window'",
    "analysis(rt, inputs={'cases': []})": "flow 'rt': inputs gives parameter 'cases' no data",
    "analysis(rt, inputs={5: cases})": "flow 'rt': inputs has the key 5: expected a parameter's name",
    "analysis(rt, inputs={'cases': {5: cases}})": "flow 'rt': inputs['cases'] has the key 5: expected text",
    "analysis(rt, inputs=[rt])": "flow 'rt': inputs has rt: expected a declared flow, one of its "
    "outputs, or a data's name or id",
    "analysis(rt, inputs=5)": "flow 'rt': inputs is 5: expected a list of data, or a mapping of parameters to data",
    "analysis(rt, inputs=['cases@latest'])": "flow 'rt': input 'cases@latest' is pinned to "
    "'latest': expected a number from 1 on",
    "analysis(rt, inputs=['cases@0'])": "flow 'rt': input 'cases@0' is pinned to '0': expected a number from 1 on",
    "analysis(rt, inputs=['a/b'])": "flow 'rt': an input's data cannot be named 'a/b': " + NAMES,
    "analysis(rt)": "flow 'rt': parameter 'cases' of rt is given by nothing: name it in inputs or "
    "kwargs, or give it a default",
    "analysis(rt, inputs=[cases], kwargs={'windw': 1})": "flow 'rt': rt has no parameter 'windw' "
    "for the argument of that name: it has 'cases', 'window'",
    "analysis(rt, inputs=[cases], kwargs={'cases': 1})": "flow 'rt': parameter 'cases' is given "
    "by inputs and by kwargs",
    "analysis(rt, inputs=[cases], kwargs={'run': 1})": "flow 'rt': parameter 'run' is given by "
    "the run: not by arguments",
    "analysis(rt, inputs=[cases], kwargs={'cases_url': 1})": "flow 'rt': parameter 'cases_url' is "
    "given by the run: not by arguments",
    "analysis(rt, inputs={'previous': cases})": "flow 'rt': parameter 'previous' is given by the run: not by inputs",
    "analysis(rt, inputs=[cases], kwargs=[1])": "flow 'rt': kwargs is [1]: expected a mapping of parameters to values",
    "analysis(rt, inputs=[cases], kwargs={'window': [1, float('nan')]})": "flow 'rt': "
    "kwargs['window'][1] is nan (float): expected text, a finite number, true, false, None, "
    "or lists and mappings of these",
    "analysis(rt, inputs=[cases], kwargs={'window': Path('a')})": "flow 'rt': kwargs['window'] is "
    "PosixPath('a') (PosixPath): expected text, a finite number, true, false, None, "
    "or lists and mappings of these",
    "analysis(rt, inputs=[cases], kwargs={'window': {1: 2}})": "flow 'rt': kwargs['window'] has "
    "the key 1: expected text",
    # Declarations that do not fit together.
    "analysis(inputs=[cases])": "analysis(...) is over no function: put one below it, or give a name",
    'ingest("cases", url="mem:x")': "flow 'cases' is declared twice, first in line 5: give one of them another name",
    'ingest("two.a", url="mem:x")': "data 'two.a' would be made by both flow 'two' and flow "
    "'two.a': rename one of them",
    "cases()": "<ingest 'cases', from https://example.org/a, makes cases> has no function to call",
    "later = analysis(inputs=[])\nanalysis(rt, inputs=[later])": "flow 'rt': analysis(...) has no "
    "name here: put it over a function, or give name=",
    # Whatever else a file may do.
    "1 / 0": "ZeroDivisionError: division by zero",
    "raise BaseException('odd')": "BaseException: odd",
    "raise KeyError": "KeyError",
    "raise ValueError('one\\ntwo')": "ValueError: one",
    "def f(:": "SyntaxError: invalid syntax",
    "x = (": "SyntaxError: '(' was never closed",
    "import nothing_here": "ModuleNotFoundError: No module named 'nothing_here': install it in "
    "the Python that runs aero, or put it beside the flow file",
    "raise SystemExit(1)": "ends the program while it is read: put that below if __name__ == '__main__':",
}
ENDS = {"def outer()": 3, "later =": 1}


@pytest.mark.parametrize("text", WRONG)
def test_what_a_person_reads(tmp_path: Path, text: str) -> None:
    Path("flows.py").write_text(HEAD + text + "\n")
    line = LINE + next((more for start, more in ENDS.items() if text.startswith(start)), 0)
    joint = " " if text.startswith("raise SystemExit") else ": "
    # Newer Pythons add a guess of their own.
    told = complaint("flows.py").removesuffix(". Did you mean 'every'?")
    assert told == f"flows.py:{line}{joint}{WRONG[text]}"


def test_long_values_are_cut(tmp_path: Path) -> None:
    Path("flows.py").write_text(HEAD + "ingest('x' * 10000, url='mem:x')\n")
    assert len(complaint("flows.py")) < 300
    Path("flows.py").write_text(HEAD + "raise ValueError('x' * 10000)\n")
    assert len(complaint("flows.py")) < 600


def test_the_line_is_that_of_a_helper_where_it_fails_there(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "rt.py").write_text("def f():\n    return 1 / 0\n")
    (tmp_path / "sub" / "flows.py").write_text("import rt\nrt.f()\n")
    assert complaint("sub/flows.py") == "sub/rt.py:2: ZeroDivisionError: division by zero"
    (tmp_path / "sub" / "rt.py").write_text("def f(:\n")
    assert complaint("sub/flows.py") == "sub/rt.py:1: SyntaxError: invalid syntax"


def test_the_line_is_the_persons_where_it_fails_in_a_library(tmp_path: Path) -> None:
    Path("flows.py").write_text("import json\n\njson.loads('{')\n")
    assert complaint("flows.py").startswith("flows.py:3: JSONDecodeError: Expecting property name")


def test_no_such_file(tmp_path: Path) -> None:
    assert complaint("flow.py") == ("there is no flow file flow.py: `aero init` writes a first one")


def test_a_folder(tmp_path: Path) -> None:
    assert complaint(".") == ". is a folder: name the flow file in it"


def test_no_python_file(tmp_path: Path) -> None:
    Path("flows.txt").write_text("x = 1")
    os.mkfifo("pipe.py")
    for name in ("flows.txt", "pipe.py"):
        assert complaint(name) == f"{name} is no Python file: a flow file's name ends in .py"


def test_unreadable(tmp_path: Path) -> None:
    Path("flows.py").write_text("x = 1")
    Path("flows.py").chmod(0)
    with without_rights(tmp_path):
        assert complaint("flows.py") == "cannot read flows.py: Permission denied"


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """As nobody, where the tests run as root, who may read anything."""
    if os.geteuid() != 0:
        yield
        return
    for step in (folder, *folder.parents):
        if not step.stat().st_mode & 0o001:
            step.chmod(step.stat().st_mode | 0o011)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_odd_names(tmp_path: Path) -> None:
    assert complaint("a\0b.py") == "cannot read 'a\\x00b.py': no file name holds a NUL character"
    assert complaint("x" * 300 + ".py").endswith("x.py': File name too long")
    Path("loop.py").symlink_to("loop.py")
    assert complaint("loop.py").startswith("cannot read 'loop.py': ")


def test_other_bytes(tmp_path: Path) -> None:
    Path("flows.py").write_bytes(b"x = '\xff'\n")
    assert complaint("flows.py") == "flows.py is not UTF-8 text: save it as UTF-8"
    Path("flows.py").write_bytes(b"x = '\0'\n")
    assert complaint("flows.py").startswith("flows.py")


def test_no_flows(tmp_path: Path) -> None:
    Path("flows.py").write_text("x = 1\n")
    assert complaint("flows.py") == ("flows.py declares no flows: call ingest(...) or use @analysis(...)")


def test_ctrl_c_is_not_the_files_error(tmp_path: Path) -> None:
    Path("flows.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_flow_file("flows.py")
