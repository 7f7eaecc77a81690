"""Flow files and command lines that cannot be: one line each, and nothing done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.program import AERO, Done, Project, at_once, refused

START = """\
from pathlib import Path
from aero_core import AeroOutput, analysis, ingest
notes = ingest("notes", url=Path(__file__).with_name("notes.txt"))
"""
FUNCTION = "def f(notes):\n    return AeroOutput('f', notes)\n"

FILES = {
    "syntax": ("x = (", "flows.py:4: SyntaxError: '(' was never closed"),
    "raises": ("1 / 0", "flows.py:4: ZeroDivisionError: division by zero"),
    "import": ("import nowhere", "flows.py:4: ModuleNotFoundError: No module named 'nowhere'"),
    "exits": ("import sys; sys.exit()", "flows.py:4 ends the program while it is read"),
    "twice": ('ingest("notes", url="file:///x")', "flow 'notes' is declared twice, first in line 3"),
    "unknown": (
        f"@analysis(inputs={{'notes': 'note'}})\n{FUNCTION}",
        "flow 'f': no data is 'note': did you mean notes?",
    ),
    "parameter": (f"@analysis(inputs={{'data': notes}})\n{FUNCTION}", "no parameter 'data'"),
    "policy": (f"@analysis(inputs=[notes], policy='some')\n{FUNCTION}", "policy is 'some'"),
    "cron": ('ingest("x", url="file:///x", every="99 * * * *")', "'99 * * * *'"),
    "store": ('ingest("x", url="file:///x", store="s3")', "no store is named 's3': add [stores.s3]"),
    "rule": ('ingest("x", url="file:///x", rule="xml")', "no plugin serves fingerprint 'xml'"),
    "option": (
        'ingest("x", url="file:///x", rule={"name": "json", "ignroe": "/a"})',
        "flow 'x': fingerprint rule 'json' has no option 'ignroe' (given as '/a'): its options are ignore",
    ),
    "expression": (
        f"@analysis(inputs=[notes], rule={{'name': 'text', 'ignore': '('}})\n{FUNCTION}",
        "flow 'f': fingerprint rule 'text': option ignore is '(': expected a regular expression",
    ),
    "scheme": ('ingest("x", url="gopher://x/y")', "no plugin serves fetch 'gopher'"),
    "password": ('ingest("x", url="https://me:secret@x/y")', "carries a user name or password"),
    "self": (f"@analysis(inputs={{'notes': 'f'}})\n{FUNCTION}", "flows make a cycle: f <- f"),
    "dots": ('ingest("../x", url="file:///x")', "a flow cannot be named '../x'"),
    "nul": ('ingest("a\\0b", url="file:///x")', "a flow cannot be named 'a\\x00b'"),
    "long": ('ingest("x" * 300, url="file:///x")', "at most 200 characters"),
    "emoji": ('ingest("\N{PILE OF POO}", url="file:///x")', "a flow cannot be named '\N{PILE OF POO}'"),
    "word": ("analysis(notes)", "analysis was given <ingest 'notes'"),
    "output": (f"@analysis(inputs=[notes], outputs=['a/b'])\n{FUNCTION}", "an output cannot be named"),
    "kwargs": (f"@analysis(inputs=[notes], kwargs={{'x': set()}})\n{FUNCTION}", "kwargs['x'] is set()"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What `aero` says to each file."""
    folder = tmp_path_factory.mktemp("files")

    def run(case: str) -> Done:
        project = Project(folder / case)
        project.write("notes.txt", "one\n")
        (project.folder / "flows.py").write_text(START + FILES[case][0] + "\n")
        done = project.call([str(AERO), "run", "flows.py"])
        assert not (project.folder / ".aero").exists()
        return done

    return at_once(run, FILES)


@pytest.mark.parametrize("case", FILES)
def test_a_flow_file_that_cannot_be(told: dict[str, Done], case: str) -> None:
    assert FILES[case][1] in refused(told[case])


def test_mended_it_runs(counting: Project) -> None:
    good = (counting.folder / "flows.py").read_text()
    counting.aero("run", "flows.py")
    counting.write("flows.py", good + "\nx = (\n")
    counting.refuses("run", "flows.py")
    counting.write("flows.py", good + '\ningest("bad/name", url="file:///x")\n')
    counting.refuses("run", "flows.py")
    counting.write("flows.py", good + '\ningest("notes2", url="file:///x", store="s3")\n')
    counting.refuses("run", "flows.py")
    counting.write("flows.py", good + '\ningest("notes2", url="file:///x", rule={"name": "csv", "any": 1})\n')
    assert "option 'any'" in counting.refuses("run", "flows.py")
    counting.write("flows.py", good)
    counting.write("notes.txt", "one\n")
    assert "lines@2" in counting.out("run", "flows.py", "--now")
    assert len(counting.json("list", "flow")) == 2


def test_files_that_are_none(project: Project) -> None:
    said = project.refuses("run", "missing.py")
    assert said == "there is no flow file missing.py: `aero init` writes a first one"
    project.write("text.txt", "x")
    assert "a flow file's name ends in .py" in project.refuses("run", "text.txt")
    assert ". is a folder: name the flow file in it" in project.refuses("run", ".")
    (project.folder / "link.py").symlink_to("link.py")
    assert "link.py" in project.refuses("run", "link.py")
    assert not (project.folder / ".aero").exists()
    project.write("empty.py", "")
    (project.folder / "binary.py").write_bytes(b"\xff\xfe\x00\x01")
    assert "binary.py" in project.refuses("run", "binary.py")
    assert "empty.py declares no flows" in project.refuses("run", "empty.py")
    project.write("good.py", START)
    assert "there is no flow file missing.py" in project.refuses("apply", "good.py", "missing.py")
    assert not (project.folder / ".aero").exists()


def test_only_what_the_file_declares(counting: Project) -> None:
    before = counting.tree()
    said = counting.refuses("run", "flows.py", "--only", "line", code=3)
    assert said == "the file declares no flow 'line': it has notes, lines"
    assert counting.tree() == before


WORDS = {
    "run --nwo x.py": "No such option '--nwo'. Did you mean '--now'?: `aero run --help`",
    "lst data": "No such command 'lst'. Did you mean 'list'?: `aero --help`",
    "list daat": "'daat' is not one of 'data', 'flow', 'run', 'prov', 'function'",
    "run": "Missing argument 'FILE...': `aero run --help`",
    "run x.py --only": "Option '--only' requires an argument: `aero run --help`",
    "get notes": "Missing option '-o' / '--output': `aero get --help`",
    "list data --format xml": "'xml' is not one of 'table', 'json', 'jsonl'",
}


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What `aero` says to each command line."""
    project = Project(tmp_path_factory.mktemp("words") / "project")
    found = at_once(lambda words: project.call([str(AERO), *words.split()]), WORDS)
    assert not list(project.folder.iterdir())
    return found


@pytest.mark.parametrize("words", WORDS)
def test_command_lines_that_cannot_be(answered: dict[str, Done], words: str) -> None:
    assert WORDS[words] in refused(answered[words])


def test_paths_and_words_that_are_no_text(project: Project) -> None:
    half = os.fsdecode(b"\xff")
    try:
        project.write(f"{half}.py", START)
    except OSError:
        pytest.skip("the file system takes names in UTF-8 only")
    assert "the path '\\udcff.py' is not in UTF-8" in project.refuses("run", f"{half}.py")
    assert not (project.folder / ".aero").exists()
    assert "udcffx' is not in UTF-8" in project.refuses("init", f"{half}x")
    assert not (project.folder / f"{half}x").exists()
    project.write("flows.py", START)
    said = project.refuses("--state", half, "apply", "flows.py", code=4)
    assert said.endswith(" rename its folders, or name another state folder with --state")
    project.aero("apply", "flows.py")
    assert project.refuses("show", half).startswith("'\\udcff' has half a character")


def test_unreadable(project: Project, tmp_path: Path) -> None:
    (project.folder / "gone.py").symlink_to(tmp_path / "nowhere.py")
    assert "gone.py" in project.refuses("run", "gone.py")
