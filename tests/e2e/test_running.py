"""run, and the commands that change runs and flows."""

from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.program import AERO, Project, refused, terminal

FLAKY = """\
    from pathlib import Path

    from aero_core import AeroOutput, analysis


    @analysis(retries=2, every="1d", kwargs={{"counter": {counter!r}, "good": {good}}})
    def flaky(counter, good):
        tries = Path(counter)
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        if len(tries.read_text()) < good:
            raise ValueError(f"try {{len(tries.read_text())}} is not good enough")
        tries.with_name("flaky.txt").write_text("made")
        return AeroOutput("flaky", tries.with_name("flaky.txt"))
"""


def looked(project: Project, out: str) -> str:
    """What the command prints that the run said to look with."""
    commands = [line for line in out.splitlines() if line.startswith("Look at it: ")]
    done = project.call(commands[-1].removeprefix("Look at it: "))
    assert done.code == 0, (commands, done.err)
    return done.out


def test_a_first_run_and_a_second(counting: Project) -> None:
    done = counting.aero("run", "flows.py")
    assert done.err == "done  notes -> notes@1 (8 B)\ndone  lines -> lines@1 (2 B)\n"
    out = done.out.splitlines()
    assert out[:3] == ["new       notes", "new       lines", ""]
    assert [line.split()[:2] for line in out[4:6]] == [["notes@1", "notes"], ["lines@1", "lines"]]
    assert "get it" in looked(counting, done.out)
    done = counting.aero("run", "flows.py")
    assert done.err == ""
    first, second = done.out.splitlines()
    assert first.startswith("notes was not due: next at 2")
    assert first.endswith(" UTC (--now runs it anyway)")
    assert second == "lines was not due: waits for a new version of notes"


def test_state_is_private_and_unversioned(counting: Project) -> None:
    counting.aero("apply", "flows.py")
    state = counting.folder / ".aero"
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / ".gitignore").read_text() == "*\n"
    assert list(counting.home.rglob("*")) == []


def test_only_and_now(counting: Project) -> None:
    done = counting.aero("run", "flows.py", "--only", "notes")
    assert done.err == "done  notes -> notes@1 (8 B)\n"
    counting.write("notes.txt", "one\n")
    (run,) = counting.json("run", "flows.py", "--only", "notes", "--now")
    assert [made["number"] for made in run["generated"]] == [2]
    (waiting,) = [run for run in counting.json("list", "run") if run["flow"] == "lines"]
    assert waiting["state"] == "queued"
    done = counting.aero("run", "flows.py", "--only", waiting["flow_id"][:8])
    assert done.err == "done  lines -> lines@1 (2 B)\n"
    done = counting.aero("run", "flows.py", "--now")
    assert done.err.splitlines()[0] == "same  notes: nothing new"


@pytest.mark.parametrize("where", ["above", "away", "flag", "environment"])
def test_the_printed_command_works_wherever_it_is_run(counting: Project, tmp_path: Path, where: str) -> None:
    caller = Project(counting.folder.parent, counting.home)
    env = {"AERO_STATE": str(tmp_path / "state")} if where == "environment" else {}
    flags: list[str] = []
    if where == "away":
        caller = Project(tmp_path / "away", counting.home)
    if where == "flag":
        flags = ["--state", "some where/state"]
    done = caller.aero(*flags, "run", counting.folder / "flows.py", env=env)
    command = done.out.splitlines()[-1].removeprefix("Look at it: ")
    assert command.startswith("aero ")
    seen = caller.call(command, env)
    assert seen.code == 0, (command, seen.err)
    assert "made by flow  lines" in seen.out


def test_retries_are_waited_out(project: Project, tmp_path: Path) -> None:
    counter = tmp_path / "tries"
    project.write("flows.py", FLAKY.format(counter=str(counter), good=3))
    done = project.aero("run", "flows.py")
    waits = [line for line in done.err.splitlines() if line.startswith("wait  flaky: ")]
    assert len(waits) == 2
    assert "ValueError: try 1 is not good enough" in waits[0]
    assert "done  flaky -> flaky@1 (4 B)" in done.err
    (run,) = project.json("list", "run")
    assert (run["state"], run["attempt"]) == ("succeeded", 3)


def test_a_run_that_fails_for_good(project: Project, tmp_path: Path) -> None:
    counter = tmp_path / "tries"
    project.write("flows.py", FLAKY.format(counter=str(counter), good=9))
    done = project.aero("run", "flows.py", code=1)
    assert "FAIL  flaky: ValueError: try 3 is not good enough\n" in done.err
    assert "flaky failed: ValueError: try 3 is not good enough\n" in done.out
    log = looked(project, done.out)
    assert "Traceback" in log
    assert "aero_core" not in log
    assert log.endswith("flaky failed: ValueError: try 3 is not good enough\n")
    assert counter.read_text() == "xxx"
    done = project.aero("run", "flows.py")
    assert done.out.startswith("flaky was not due: its last run failed: ValueError: try 3 is not good enough; it runs ")
    assert done.out.endswith(" UTC, when it is changed or after `aero retry flaky`\n")
    counter.write_text("x" * 9)
    assert "of flaky is queued" in project.out("retry", "flaky")
    assert "flaky@1" in project.out("run", "flows.py")


AT_REST = """\
    from pathlib import Path

    from aero_core import AeroOutput, analysis, ingest

    HERE = Path(__file__).parent
    a = ingest("a", url=HERE / "a.txt")
    b = ingest("b", url=HERE / "b.txt")


    def fail(**inputs):
        raise ValueError("boom")


    def make():
        Path("made.txt").touch()
        return AeroOutput("made", "made.txt")


    analysis(fail, name="none", inputs=[a], policy="NONE")
    analysis(fail, name="any", inputs=[a])
    analysis(fail, name="all", inputs=[a, b], policy="ALL")
    analysis(fail, name="timer", inputs=[a], policy="TIMER")
    analysis(fail, name="alone")
    analysis(make, name="made")
    analysis(fail, name="first", inputs=["all"])
"""


def test_why_nothing_runs(project: Project) -> None:
    project.write("flows.py", AT_REST)
    project.write("a.txt", "1\n")
    project.write("b.txt", "1\n")
    project.aero("run", "flows.py", code=1)
    said = dict(line.split(" was not due: ", 1) for line in project.aero("run", "flows.py").out.splitlines())
    failed = "its last run failed: ValueError: boom; it runs again"
    assert said == {
        "a": "it has no schedule (--now runs it)",
        "b": "it has no schedule (--now runs it)",
        "none": "runs only when asked to (--now runs it)",
        "any": f"{failed} with new input, when it is changed or after `aero retry any`",
        "all": f"{failed} with new input, when it is changed or after `aero retry all`",
        "timer": f"{failed} when it is changed or after `aero retry timer`",
        "alone": f"{failed} when it is changed or after `aero retry alone`",
        "made": "it has no schedule (--now runs it)",
        "first": "waits for a first version of all",
    }
    told = project.out("why", "all").splitlines()
    assert told[2:4] == [
        "error ValueError: boom",
        "now runs again with new input, when it is changed or after `aero retry all`",
    ]
    assert "now it has no schedule (--now runs it)" in project.out("why", "made")
    project.aero("retry", "all")
    project.aero("cancel", "all")
    cancelled = project.out("run", "flows.py", "--only", "all")
    assert cancelled.startswith("all was not due: its last run was cancelled; it runs again with new input, ")


def test_pause_resume_cancel(counting: Project) -> None:
    counting.aero("apply", "flows.py")
    paused = counting.aero("pause", "lines").out
    assert paused == "lines is paused: `aero resume lines` lets it run again\n"
    done = counting.aero("run", "flows.py")
    assert "lines is paused: `aero resume lines` lets it run" in done.out
    assert "lines ANY paused" in counting.out("list", "flow")
    assert "paused: `aero resume lines` lets it run" in counting.out("why", "lines")
    assert counting.aero("resume", "lines").out == "lines is active\n"
    out = counting.out("cancel", "lines")
    assert out.startswith("run ")
    assert out.endswith(" of lines is cancelled")
    assert counting.out("cancel", "lines") == "lines has no run to cancel"
    (run, *_) = counting.json("list", "run")
    assert run["state"] == "cancelled"
    assert "is queued" in counting.out("retry", run["id"][:8])
    assert "lines@1" in counting.out("run", "flows.py")
    for command in ("pause", "resume", "retry", "cancel"):
        assert "did you mean lines?" in counting.refuses(command, "line", code=3)


def test_a_pinned_version_that_is_still_to_come_is_waited_for(counting: Project) -> None:
    edited = (counting.folder / "flows.py").read_text().replace("inputs=[notes]", "inputs=['notes@2']")
    counting.write("flows.py", edited)
    assert "lines was not due: waits for notes@2" in counting.out("run", "flows.py")
    assert "input notes: pinned to @2, which does not exist yet" in counting.out("why", "lines")
    counting.write("notes.txt", "one\ntwo\nthree\n")
    assert "lines@1" in counting.out("run", "flows.py", "--now")


def test_a_clock_that_is_set_back_makes_no_negative_durations(project: Project) -> None:
    text = """\
        import datetime

        import aero_core.jobs.execute as execute
        from aero_core import analysis


        @analysis(outputs=[])
        def late():
            execute.utc_now = lambda: datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    """
    project.write("flows.py", text)
    project.aero("run", "flows.py")
    (run,) = project.json("list", "run")
    assert run["metrics"]
    assert all(run["metrics"][f"{step['name']}_seconds"] >= 0 for step in run["steps"])
    with closing(sqlite3.connect(project.folder / ".aero/catalog.sqlite")) as catalog, catalog:
        catalog.execute("UPDATE run SET ended_at = started_at - 3590 * 1000000")
    assert " 0 ms" in project.out("list", "run")


def test_verify_names_what_is_damaged(counting: Project) -> None:
    counting.aero("run", "flows.py")
    (version,) = counting.json("versions", "notes")
    stored = Path(version["location"].removeprefix("file://"))
    stored.chmod(0o600)
    stored.write_bytes(b"x" + stored.read_bytes()[1:])
    done = counting.aero("verify", code=1)
    assert "notes@1" in done.out
    assert "recorded is sha256:" in done.out
    assert done.err == "2 versions verified: 1 damaged or missing\n"
    said = counting.refuses("get", "notes", "-o", "copy", code=5)
    assert "notes@1 is damaged" in said
    assert not (counting.folder / "copy").exists()
    done = counting.aero("run", "flows.py", "--now", "--only", "lines", code=1)
    assert "FAIL  lines: notes@1 is damaged" in done.err
    stored.unlink()
    (found,) = counting.json("verify", "notes", code=1)
    assert found["problem"].startswith("the bytes of notes@1 are missing from store 'local' (file:///")


def test_commands_find_the_project_from_below_or_say_how(counting: Project, tmp_path: Path) -> None:
    counting.aero("apply", "flows.py")
    below = Project(counting.folder / "deep" / "er", counting.home)
    assert "lines" in below.out("list", "data")
    away = Project(tmp_path / "away", counting.home)
    said = away.refuses("list", "data", code=3)
    assert "--state" in said
    assert "`aero init`" in said
    state = shlex.quote(str(counting.folder / ".aero"))
    assert "lines" in away.call(f"aero --state {state} list data").out
    assert "project ok none here: `aero init` makes one" in away.out("doctor")
    assert "local aero-core" in away.out("plugins", "list")
    said = away.refuses("--state", "nowhere", "list", "data", code=3)
    assert said == f"no state folder at {away.folder / 'nowhere'}: name the one that `aero run` made"
    assert list(away.folder.iterdir()) == []


def test_a_reader_that_has_seen_enough(project: Project) -> None:
    text = "from aero_core import analysis\n@analysis(outputs=[])\ndef much():\n    print('much\\n' * 100_000)\n"
    project.write("flows.py", text)
    project.aero("run", "flows.py")
    done = project.call(["bash", "-o", "pipefail", "-c", f"{AERO} logs much | head -1"])
    assert (done.code, done.out, done.err) == (0, "much\n", "")
    done = project.call(["bash", "-o", "pipefail", "-c", f"{AERO} doctor | true"])
    assert (done.code, done.err) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_takes_nothing(counting: Project) -> None:
    done = counting.call(f'sh -c "{AERO} doctor > /dev/full"')
    assert refused(done, 4).startswith("the disk of AERO's state, or of its output, is full")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_words_that_cannot_be_kept_change_nothing(counting: Project) -> None:
    done = counting.call(f'sh -c "{AERO} run flows.py 2> /dev/full"')
    assert done.code == 0
    assert "lines@1" in done.out
    assert counting.call(f'sh -c "{AERO} show nothing 2> /dev/full"').code == 3


def test_closed_streams(counting: Project) -> None:
    counting.call(f'sh -c "{AERO} run flows.py <&- >&- 2>&-"')
    assert counting.aero("get", "lines", "-o", "-").out == "2\n"


def test_a_working_folder_that_is_gone(project: Project) -> None:
    done = project.call(f'sh -c "rmdir ../project && {AERO} list data"')
    assert refused(done, 3) == "the working folder is not there any more: go to another one"


def test_a_terminal_gets_colours_unless_told_otherwise(counting: Project) -> None:
    shown = terminal(counting, "run", "flows.py")
    assert "done  notes -> notes@1" in shown
    runs = terminal(counting, "list", "run")
    assert "\x1b[32msucceeded" in runs
    assert counting.json("list", "run")[0]["started_at"][:19].replace("T", " ") in runs
    plain = terminal(counting, "list", "run", NO_COLOR="1")
    assert "succeeded" in plain
    assert "\x1b[3" not in plain
