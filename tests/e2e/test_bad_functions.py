"""Functions that go wrong, all in one run: each is told apart, and harms no other."""

from __future__ import annotations

import random

import pytest

from tests.e2e.program import AERO, Done, Project, one_line, without_search

START = """\
import os, signal, sys, time
from pathlib import Path
from aero_core import AeroOutput, analysis, ingest
notes = ingest("notes", url=Path(__file__).with_name("notes.txt"))
"""
BAD = {
    "folder": ("Path('d').mkdir(); return AeroOutput('x', 'd')", "is the folder d: answer a file"),
    "link": (
        "Path('l').symlink_to('/etc/hosts'); return AeroOutput('x', 'l')",
        "is the symbolic link l: answer the file itself",
    ),
    "nothing": ("return None", "answered nothing, but its flow makes one data"),
    "number": ("return 7", "answered int: answer an AeroOutput(name, path), or a list of them"),
    "missing": ("return AeroOutput('x', 'none')", "a file that does not exist: write it before"),
    "raises": ("raise ValueError('no\\nway')", "ValueError: no"),
    "half": (r"raise ValueError('a \ud800')", r"ValueError: a \ud800"),
    "unspeakable": ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()", "Odd"),
    "unusual": ("raise BaseException('odd')", "BaseException: odd"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "closes_its_output_and_raises": (
        "sys.stdout.close(); sys.stderr.close(); raise ValueError('mine')",
        "ValueError: mine",
    ),
    "has_no_output_and_raises": ("sys.stdout = sys.stderr = None; raise ValueError('mine')", "ValueError: mine"),
    "exits": ("sys.exit(3)", "the function called sys.exit(3)"),
    "ends": ("os._exit(3)", "the function ended its process (exit code 3)"),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "the function ended its process (SIGKILL)"),
    "hungry": ("x = bytearray(3 * 10**9); return None", "reached its memory limit"),
    "hungry_a_little": ("x = bytearray(50_000_000); return None", "reached its memory limit"),
    "slow": ("time.sleep(600)", "the function took longer than its timeout of 1 s"),
    "undeclared": ("return AeroOutput('b', notes)", "answered output 'b', which its flow does not declare"),
    "forgets": ("return []", "did not answer output 'a', which its flow declares"),
}
MORE = {
    "hungry": ", memory='1GB'",
    "hungry_a_little": ", memory='20MB'",
    "slow": ", timeout=1",
    "undeclared": ", outputs=['a']",
    "forgets": ", outputs=['a']",
}


def flow(name: str, body: str) -> str:
    return f"\n\n@analysis(inputs=[notes]{MORE.get(name, '')})\ndef {name}(notes):\n    {body}\n"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Done]:
    project = Project(tmp_path_factory.mktemp("bad") / "project")
    project.write("notes.txt", "one\n")
    bodies = "".join(flow(name, body) for name, (body, _) in BAD.items())
    good = flow("good", "return AeroOutput('good', notes)")
    (project.folder / "flows.py").write_text(START + bodies + good)
    return project, project.aero("run", "flows.py", code=1)


@pytest.mark.parametrize("name", BAD)
def test_one_line_tells_what_went_wrong(ran: tuple[Project, Done], name: str) -> None:
    _, done = ran
    (line,) = [line for line in done.err.splitlines() if line.startswith(f"FAIL  {name}: ")]
    assert BAD[name][1] in one_line(line + "\n", "FAIL  ")


def test_the_others_ran(ran: tuple[Project, Done]) -> None:
    project, done = ran
    assert "done  good -> good@1" in done.err
    assert len(done.err.splitlines()) == len(BAD) + 2
    failed = [run for run in project.json("list", "run") if run["state"] == "failed"]
    assert {run["flow"] for run in failed} == set(BAD)
    assert {run["error"]["kind"] for run in failed} == {
        "function",
        "outputs",
        "crash",
        "memory",
        "timeout",
    }
    for run in failed:
        assert run["environment"]["executor"] == "local"
        steps = [step["name"] for step in run["steps"]]
        assert steps[:2] == ["pull", "function"]
        assert all(step["started_at"] <= step["ended_at"] for step in run["steps"])
        assert run["metrics"].keys() == {f"{step}_seconds" for step in steps}
    slow = next(run for run in failed if run["flow"] == "slow")
    assert slow["metrics"]["function_seconds"] >= 1
    assert "environment executor local" in project.out("show", slow["id"])
    log = project.aero("logs", "raises").out
    assert "raise ValueError" in log
    assert 'File "' in log


def test_mended_they_run(ran: tuple[Project, Done]) -> None:
    project, _ = ran
    text = (project.folder / "flows.py").read_text()
    for name, (body, _) in BAD.items():
        key = "a" if "outputs" in MORE.get(name, "") else "x"
        text = text.replace(f"    {body}\n", f"    return AeroOutput('{key}', notes)\n")
    (project.folder / "flows.py").write_text(text)
    done = project.aero("run", "flows.py")
    assert done.err.count("done  ") == len(BAD)
    assert "failed" not in done.out
    assert project.aero("verify").err.endswith("all as recorded\n")


REWRITES = """
import helper


@analysis(inputs=[notes])
def first(notes):
    return answer("first", notes)


@analysis(inputs=[notes])
def second(notes):
    return answer("second", notes)


def answer(name, notes):
    import late

    here = Path(helper.__file__)
    text = f"{helper.WORD} {late.WORD} {len(list(here.parent.iterdir()))} " + Path(notes).read_text()
    Path("out").write_text(text)
    for file in (here, here.with_name("late.py"), Path(__file__)):
        file.write_text("WORD = 'wrong'")
    here.with_name("json.py").write_text("1 / 0")
    return AeroOutput(name, "out")
"""


def test_a_function_that_rewrites_its_code_changes_no_later_run(project: Project) -> None:
    (project.folder / "flows.py").write_text(START + REWRITES)
    project.write("aero.toml", "[plugins.local]\nworkers = 1\n")
    project.write("helper.py", "WORD = 'right'\n")
    project.write("late.py", "WORD = 'as well'\n")
    for number in range(2):
        project.write("notes.txt", f"{number}\n")
        # One worker process does both runs; the next call's is another.
        project.aero("run", "flows.py", "--now")
        for flow in ("first", "second"):
            assert project.aero("get", flow, "-o", "-").out == f"right as well 3 {number}\n"


OUTPUT = (
    START
    + """

@analysis(inputs=[notes])
def redirects(notes):
    sys.stdout = sys.stderr = open("log.txt", "w")
    print("to a file of its own")
    sys.stdout.close()
    return AeroOutput("redirects", "log.txt")


@analysis(inputs=[notes])
def closes(notes):
    sys.stdout.close()
    return AeroOutput("closes", notes)
"""
)


def test_a_function_may_do_with_its_output_what_it_likes(project: Project) -> None:
    project.write("notes.txt", "one\n")
    (project.folder / "flows.py").write_text(OUTPUT)
    project.aero("run", "flows.py")
    assert project.aero("get", "redirects", "-o", "-").out == "to a file of its own\n"


SETS = """
from aero_core import AeroOutput, analysis


@analysis
def sets():
    import decimal
    import random

    decimal.getcontext().prec = 3
    random.seed(1)
    with open("out", "w") as file:
        file.write("set")
    return AeroOutput("sets", "out")


@analysis(inputs=["sets"])
def reads(sets):
    import decimal
    import random

    with open("out", "w") as file:
        file.write(f"{decimal.getcontext().prec} {random.random()}")
    return AeroOutput("reads", "out")
"""


def test_what_one_function_sets_in_python_reaches_no_other(project: Project) -> None:
    project.write("aero.toml", "[plugins.local]\nworkers = 1\n")
    (project.folder / "flows.py").write_text(SETS)
    project.aero("run", "flows.py")
    precision, number = project.aero("get", "reads", "-o", "-").out.split()
    assert precision == "28"
    assert number != str(random.Random(1).random())


CLOSING = (
    START
    + """

@analysis(inputs=[notes])
def closes_folders(notes):
    for name, mode in (("read-only", 0o500), ("closed", 0)):
        folder = Path(name)
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "file").write_text("left")
        folder.chmod(mode)
    return AeroOutput("closes_folders", notes)
"""
)


def test_folders_that_a_function_has_closed_go_with_its_run(project: Project) -> None:
    project.write("notes.txt", "one\n")
    (project.folder / "flows.py").write_text(CLOSING)
    done = project.call([str(AERO), "run", "flows.py"], before=without_search)
    assert done.code == 0, done
    left = [path.name for path in (project.folder / ".aero" / "scratch").iterdir()]
    assert left == ["code"]
