"""init, apply, and when registering makes a new revision."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from aero_core import api
from aero_core.errors import InvalidValue
from tests.e2e.program import Project

TWO = """\
    from helper import shout

    from aero_core import AeroOutput, analysis, ingest
    from pathlib import Path

    HERE = Path(__file__).parent
    notes = ingest("notes", url=HERE / "notes.txt", every="1d")


    @analysis(inputs=[notes])
    def loud(notes):
        Path("loud.txt").write_text(shout(Path(notes).read_text()))
        return AeroOutput("loud", "loud.txt")


    @analysis(inputs=[notes])
    def quiet(notes):
        Path("quiet.txt").write_text(Path(notes).read_text().lower())
        return AeroOutput("quiet", "quiet.txt")
"""


@pytest.fixture
def two(project: Project) -> Project:
    """Two analyses, one of which imports a module beside the flow file."""
    project.write("flows.py", TWO)
    project.write("helper.py", "def shout(text):\n    return text.upper()\n")
    project.write("notes.txt", "One\n")
    return project


def edit(project: Project, name: str, old: str, new: str) -> None:
    path = project.folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def plan(project: Project, *flags: str) -> dict[str, tuple[str, list[str]]]:
    changes = project.json("apply", "flows.py", *flags)
    return {change["flow"]: (change["kind"], change["fields"]) for change in changes}


def test_init_writes_what_runs_as_it_says(project: Project) -> None:
    out = project.aero("init", "my flows").out
    assert {path.name for path in (project.folder / "my flows").iterdir()} == {
        "aero.toml",
        "flows.py",
        "notes.txt",
    }
    command = out.splitlines()[-1].removeprefix("Run it: ")
    done = project.call(command)
    assert done.code == 0, done.err
    assert "lines@1" in done.out
    again = done.out.splitlines()[-1].removeprefix("Look at it: ")
    done = project.call(again)
    assert "made by flow  lines" in done.out, (again, done.err)
    said = project.refuses("init", "my flows")
    assert said == ("my flows/aero.toml is there already: name another folder, or edit what is there")


def test_init_in_a_folder_of_any_name(project: Project) -> None:
    folder = 'a "b" \\c'
    project.aero("init", folder)
    assert "new lines" in project.out("apply", f"{folder}/flows.py")


def test_a_dry_run_touches_nothing(two: Project) -> None:
    before = two.tree()
    out = two.out("apply", "flows.py", "--dry-run")
    assert out.splitlines() == ["change flow what", "new notes", "new loud", "new quiet"]
    assert two.tree() == before
    assert list(two.home.rglob("*")) == []


def test_a_dry_run_leaves_a_used_project_as_it_is(two: Project) -> None:
    two.aero("apply", "flows.py")
    edit(two, "flows.py", ".lower()", ".casefold()")
    before = two.tree()
    assert plan(two, "--dry-run")["quiet"] == ("changed", ["code"])
    assert two.tree() == before
    assert plan(two)["quiet"] == ("changed", ["code"])
    assert plan(two)["quiet"] == ("unchanged", [])


def test_what_changed_is_told_and_only_content_makes_revisions(two: Project) -> None:
    two.aero("run", "flows.py")
    edit(two, "flows.py", 'every="1d"', 'every="2d", tags=["daily"]')
    edit(
        two, "flows.py", "\n\n@analysis(inputs=[notes])\ndef loud", "\n# another\n\n@analysis(inputs=[notes])\ndef loud"
    )
    assert plan(two, "--dry-run") == {
        "notes": ("updated", ["every", "tags"]),
        "loud": ("unchanged", []),
        "quiet": ("unchanged", []),
    }
    out = two.aero("run", "flows.py").out
    assert "made" not in out
    edit(two, "flows.py", "text().lower()", "text().lower() + '.'")
    out = two.out("run", "flows.py")
    assert "changed quiet: code" in out
    assert "quiet@2 quiet" in out
    assert "loud was not due: waits for a new version of notes" in out
    edit(two, "helper.py", "upper()", "upper() + '!'")
    out = two.out("run", "flows.py")
    assert "changed loud: code" in out
    assert "loud@2 loud" in out
    assert "quiet@" not in out
    assert {flow["spec"]["name"]: flow["revision"] for flow in two.json("list", "flow")} == {
        "notes": 1,
        "loud": 2,
        "quiet": 2,
    }


def test_gone_flows_are_disabled_by_prune_alone(two: Project) -> None:
    two.aero("apply", "flows.py")
    text = (two.folder / "flows.py").read_text()
    (two.folder / "flows.py").write_text(text[: text.rindex("@analysis")])
    assert "gone quiet stays; --prune disables it" in two.out("apply", "flows.py")
    assert "quiet ANY active" in two.out("list", "flow")
    out = two.out("apply", "flows.py", "--prune", "--dry-run")
    assert "gone quiet would be disabled" in out
    assert "gone quiet disabled" in two.out("apply", "flows.py", "--prune")
    assert "quiet ANY disabled" in two.out("list", "flow")
    (two.folder / "flows.py").write_text(text)
    assert "quiet enabled again" in two.out("apply", "flows.py")


def test_a_moved_flow_file_keeps_its_flows(two: Project) -> None:
    two.aero("run", "flows.py")
    (two.folder / "flows.py").rename(two.folder / "renamed.py")
    done = two.out("apply", "renamed.py")
    assert "updated loud file (no rerun)" in done
    assert len(two.json("list", "flow")) == 3


def test_a_moved_project_keeps_its_bytes_and_its_code(two: Project) -> None:
    two.aero("run", "flows.py")
    there = Project(two.folder.parent / "elsewhere" / "renamed project", two.home)
    shutil.copytree(two.folder, there.folder, dirs_exist_ok=True)
    shutil.rmtree(two.folder)
    assert "all as recorded" in there.aero("verify").err
    assert there.aero("get", "loud", "-o", "-").out == "ONE\n"
    assert "elsewhere/renamed%20project/.aero/store/" in there.out("show", "loud")
    there.aero("retry", "loud")
    assert "same loud: nothing new" in " ".join(there.aero("run", "flows.py").err.split())


def test_a_plan_names_no_id_of_what_is_not_made(two: Project) -> None:
    assert {change["flow_id"] for change in two.json("apply", "flows.py", "--dry-run")} == {""}


def test_adopting_flows_of_another_file(two: Project) -> None:
    two.aero("apply", "flows.py")
    (two.folder / "other.py").write_text((two.folder / "flows.py").read_text() + "# a copy\n")
    said = two.refuses("apply", "other.py")
    assert "is made by flow 'notes' of flows.py already" in said
    assert "--adopt flows.py" in said
    before = two.json("list", "flow")
    for more in ([], ["--dry-run"]):
        said = two.refuses("apply", "other.py", "--adopt", "flow.py", *more, code=3)
        assert said == "no flow is of 'flow.py', nothing is adopted: there are flows of flows.py"
    assert two.json("list", "flow") == before
    two.aero("apply", "other.py", "--adopt", "flows.py")
    assert {flow["spec"]["origin"] for flow in two.json("list", "flow")} == {"other.py"}


def test_cycles_through_two_files_are_refused(project: Project) -> None:
    text = """\
        from aero_core import AeroOutput, analysis
        @analysis(inputs={{"before": "{used}"}})
        def {made}(before):
            return AeroOutput("x", before)
    """
    project.write("one.py", text.format(used="second", made="first"))
    project.write("two.py", text.format(used="first", made="second"))
    said = project.refuses("apply", "one.py")
    assert "flow 'first': no data is 'second'" in said
    said = project.refuses("apply", "one.py", "two.py")
    assert "flows make a cycle: " in said
    assert "`previous`" in said
    assert not (project.folder / ".aero").exists()


def test_registering_from_a_program_ends_in_the_same_records(two: Project, tmp_path: Path) -> None:
    two.aero("run", "flows.py")
    program = Project(tmp_path / "program", two.home)
    program.write("notes.txt", "One\n")
    program.write("aero.toml", 'project = ""\n')
    program.write(
        "program.py",
        """\
        from pathlib import Path

        import aero_core.api
        from aero_core import AeroOutput, analysis, ingest

        notes = ingest("notes", url=Path(__file__).resolve().parent / "notes.txt", every="1d")


        def loud(notes):
            Path("loud.txt").write_text(Path(notes).read_text().upper())
            return AeroOutput("loud", "loud.txt")


        if __name__ == "__main__":
            with aero_core.api.open() as aero:
                aero.register(notes, analysis(loud, inputs=[notes]))
                for run in aero.run():
                    print(run.flow, run.state.value)
                print(aero.get("loud", "copy.txt").number)
        """,
    )
    done = program.call(f"{shlex.quote(str(python()))} program.py")
    assert done.out == "notes succeeded\nloud succeeded\n1\n", done.err
    assert (program.folder / "copy.txt").read_text() == "ONE\n"
    ours, theirs = (
        {item["name"]: shape(item) for item in p.json("list", "data") if item["name"] != "quiet"}
        for p in (program, two)
    )
    assert ours == theirs
    runs, others = ({run["flow"]: run for run in p.json("list", "run")} for p in (program, two))
    for name in ("notes", "loud"):
        assert runs[name].keys() == others[name].keys()
        assert runs[name]["cause"] == others[name]["cause"]
        assert [step["name"] for step in runs[name]["steps"]] == [step["name"] for step in others[name]["steps"]]
    assert "loud ANY active 1 api" in program.out("list", "flow")
    edit(program, "program.py", 'if __name__ == "__main__":', "if True:")
    edit(program, "program.py", ".upper()", ".upper() + '!'")
    done = program.call(f"{shlex.quote(str(python()))} program.py")
    assert done.out == "loud failed\n1\n", done.err
    (run, *_) = program.json("list", "run")
    assert "put what opens it below if __name__ == '__main__':" in run["error"]["message"]
    assert "put what opens it below" in program.refuses("apply", "program.py")


def python() -> Path:
    import sys

    return Path(sys.executable)


def shape(data: dict[str, object]) -> dict[str, object]:
    own = {"id", "flow_id", "created_at", "source"}
    return {key: value for key, value in data.items() if key not in own}


def test_two_projects_in_one_command(project: Project) -> None:
    for name in ("a", "b"):
        project.write(f"{name}/flows.py", f'from aero_core import ingest\ningest("{name}", url="file:///{name}")\n')
    project.write("a/aero.toml", "")
    project.write("b/aero.toml", "")
    before = project.tree()
    for words in (("apply",), ("apply", "--dry-run"), ("run",), ("up",)):
        said = project.refuses(*words, "a/flows.py", "b/flows.py")
        assert said == (
            f"b/flows.py is of the project in {project.folder / 'b'}, and not of the one in {project.folder / 'a'}: "
            "call aero for each project"
        )
    assert project.tree() == before
    (project.folder / "b" / "aero.toml").unlink()
    project.aero("apply", "b/flows.py")
    assert "is of the project in" in project.refuses("apply", "a/flows.py", "b/flows.py")
    (project.folder / "a" / "aero.toml").rename(project.folder / "aero.toml")
    project.aero("apply", "a/flows.py", "b/flows.py")


def test_settings_for_a_folder_that_has_state(project: Project) -> None:
    project.write("mine.py", 'from aero_core import ingest\ningest("mine", url="file:///mine")\n')
    project.aero("apply", "mine.py")
    project.aero("init")
    assert project.out("apply", "mine.py", "flows.py").splitlines()[1] == "unchanged mine"


def test_a_project_that_got_another_name(project: Project) -> None:
    project.write("mine.py", 'from aero_core import ingest\ningest("mine", url="file:///mine")\n')
    project.write("aero.toml", 'project = "old"\n')
    project.aero("apply", "mine.py")
    project.write("aero.toml", 'project = "new"\n')
    said = project.refuses("apply", "mine.py", "--adopt", "mine.py")
    assert said == (
        "flow 'mine': data 'mine' is made by flow 'mine' of mine.py, of project 'old', already: "
        'if they are the same, set project = "old" in aero.toml; else rename one'
    )


@pytest.mark.parametrize("folder", ["é 😀 x", 'a"b\\c', "with\x7fdel"])
def test_init_in_a_folder_with_any_name(project: Project, folder: str) -> None:
    project.aero("init", folder)
    assert "lines@1" in project.aero("run", f"{folder}/flows.py").out


PRINTING = """
    import os, sys
    from aero_core import ingest

    print("printed")
    os.write(1, b"written\\n")
    os.system("echo called")
    ingest("notes", url="file:///nowhere/notes.txt", policy="none")
"""


@pytest.mark.parametrize("words", [["apply", "flows.py"], ["run", "flows.py"]])
def test_what_a_flow_file_prints_is_no_part_of_the_answer(project: Project, words: list[str]) -> None:
    project.write("flows.py", PRINTING)
    done = project.aero(*words, "--format", "json")
    assert isinstance(json.loads(done.out), list)
    assert set(done.err.split()) >= {"printed", "written", "called"}
    assert "printed" in project.aero(*words).err


def test_only_declarations_can_be_registered(project: Project) -> None:
    with api.open(state=project.folder / ".aero") as aero, pytest.raises(InvalidValue, match="register was given 5"):
        aero.register(5)  # type: ignore[arg-type]
