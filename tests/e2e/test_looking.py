"""The commands that look, on one project that has run twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from aero_core import api
from aero_core.errors import StoreError
from aero_core.testing.servers import WebServer
from tests.e2e.conftest import fill
from tests.e2e.program import Project


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with `notes` at version 2 and `lines` at version 2. Nobody changes it."""
    project = Project(tmp_path_factory.mktemp("looking") / "project")
    fill(project)
    project.aero("run", "flows.py")
    project.write("notes.txt", "one\ntwo\nthree\n")
    project.aero("run", "flows.py", "--now", "--only", "notes")
    project.aero("run", "flows.py")
    before = project.tree()
    yield project
    kept = {name for name in before if ".aero/engines" not in name and "scratch" not in name}
    assert kept <= set(project.tree())


@pytest.fixture(scope="module")
def runs(ran: Project) -> list[Any]:
    return ran.json("list", "run")


KINDS = {
    "data": {"id", "name", "latest", "store", "source", "description", "tags", "rule", "flow_id"},
    "flow": {"id", "spec", "revision", "state", "anchor", "next_tick"},
    "run": {"id", "flow", "flow_id", "state", "cause", "used", "generated", "steps", "error"},
    "prov": {"activity", "flow", "agent", "used", "generated", "bundle_id", "kwargs", "environment"},
    "function": {"flow", "function"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_arrays_of_models(ran: Project, kind: str) -> None:
    listed = ran.json("list", kind)
    assert listed
    for item in listed:
        assert item.keys() >= KINDS[kind]
    lines = ran.aero("list", kind, "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == listed


def test_lists_for_people(ran: Project) -> None:
    out = ran.out("list", "data")
    assert out.splitlines()[0] == "data latest store source description id"
    assert "notes @2 local file:///" in out
    assert "lines @2 local How many lines" in out
    out = ran.out("list", "flow")
    assert "lines ANY active 1 flows.py" in out
    assert "notes INGESTION every 1d active 1 2" in out
    some = ran.aero("list", "run", "--limit", "1")
    assert some.err == "the newest 1, there are others: --limit N shows so many\n"
    assert ran.aero("list", "run", "--limit", "1", "--format", "json").err == ""
    assert ran.aero("list", "run", "--limit", "9").err == ""
    out = " ".join(some.out.split())
    assert len(some.out.splitlines()) == 2
    assert "inputs: notes@2" in out
    assert "lines@2" in out
    assert "notes@2 lines@2" in ran.out("list", "prov")
    assert "lines lines flows.py sha256:" in ran.out("list", "function")


def test_show_answers_to_names_and_unique_prefixes(ran: Project, runs: list[Any]) -> None:
    data = {item["name"]: item for item in ran.json("list", "data")}
    assert ran.json("show", "lines") == [{**data["lines"], "members": []}]
    (notes,) = ran.json("show", data["notes"]["id"][:8])
    assert notes.items() >= data["notes"].items()
    (flow,) = ran.json("show", "lines", "--kind", "flow")
    assert flow["spec"]["name"] == "lines"
    (run,) = ran.json("show", runs[0]["id"][:8])
    assert run.items() >= runs[0].items()
    out = ran.out("show", "lines")
    assert "made by flow lines" in out
    assert "latest @2, 2 B, text/plain" in out
    out = ran.out("show", runs[0]["id"][:8])
    assert "used notes = notes@2" in out
    assert "generated lines@2" in out
    assert "environment Python 3." in out


def test_a_run_keeps_what_reproducing_it_needs(ran: Project, runs: list[Any]) -> None:
    run = runs[0]
    assert [used["data"] + "@" + str(used["number"]) for used in run["used"]] == ["notes@2"]
    assert [step["name"] for step in run["steps"]] == ["pull", "function", "store"]
    assert run["environment"]["python"].startswith("3.")
    assert "aero-core" in run["environment"]["packages"]
    assert run["metrics"].keys() >= {"pull_seconds", "function_seconds", "store_seconds"}
    assert run["agent"]
    assert (ran.folder / ".aero" / run["log"]).read_text() == "counting\n"


def test_versions(ran: Project) -> None:
    versions = ran.json("versions", "notes")
    assert [version["number"] for version in versions] == [2, 1]
    assert versions[0].keys() >= {"checksum", "fingerprint", "size", "media_type", "available_at"}
    assert "@2 2" in ran.out("versions", "notes", "--limit", "1")
    assert ran.refuses("versions", "note", code=3) == "no data is 'note': did you mean notes?"


def test_get(ran: Project, tmp_path: Path) -> None:
    assert ran.aero("get", "notes", "-o", "-").out == "one\ntwo\nthree\n"
    assert ran.aero("get", "notes@1", "-o", "-").out == "one\ntwo\n"
    target = tmp_path / "deep" / "copy.txt"
    done = ran.aero("get", "lines@1", "-o", target)
    assert target.read_text() == "2\n"
    assert done.err == f"{target}: lines@1, 2 B\n"
    assert done.out == ""


def test_get_takes_nothing_away_that_is_no_file(ran: Project, tmp_path: Path) -> None:
    pipe, link, folder = tmp_path / "pipe", tmp_path / "link", tmp_path / "folder"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        ran.aero("get", "lines@1", "-o", pipe)
        assert read.result() == "2\n"
    assert pipe.is_fifo()
    link.symlink_to("copy.txt")
    ran.aero("get", "lines@1", "-o", link)
    assert link.is_symlink()
    assert (tmp_path / "copy.txt").read_text() == "2\n"
    folder.mkdir()
    assert ran.refuses("get", "lines@1", "-o", folder) == f"{folder} is a folder: name the file to write"
    with api.open(ran.folder) as aero, pytest.raises(StoreError, match="folder cannot be written: Is a directory"):
        aero.get("lines@1", folder)


def test_get_as_of_a_time(ran: Project) -> None:
    first = ran.json("versions", "notes")[1]
    got = ran.aero("get", "notes", "--as-of", first["available_at"], "-o", "-")
    assert got.out == "one\ntwo\n"
    with api.open(ran.folder) as aero:
        # Without a zone it is UTC.
        moment = datetime.fromisoformat(first["available_at"]).replace(tzinfo=None)
        assert aero.version("notes", moment)[1].number == 1
    line = ran.refuses("get", "notes", "--as-of", "2020-01-01", "-o", "-", code=3)
    assert line == ("data 'notes' has no version as of 2020-01-01T00:00:00+00:00: `aero versions notes` lists them")
    line = ran.refuses("get", "notes", "--as-of", "yesterday", "-o", "-")
    assert "'yesterday' is no time: expected such as 2026-03-01" in line


@pytest.mark.parametrize(
    ("ref", "code", "said"),
    [
        ("notes@9", 3, "notes@9 does not exist: `aero versions notes` lists them"),
        ("notes@0", 2, "version '0' of notes: expected a number from 1, or 'latest'"),
        ("notes@", 2, "'notes@' names no version: expected such as notes@3"),
        ("nots", 3, "no data is 'nots': did you mean notes?"),
        ("\N{PILE OF POO}", 3, "no data is '\N{PILE OF POO}': `aero list data` lists what there is"),
    ],
)
def test_get_of_nothing(ran: Project, ref: str, code: int, said: str) -> None:
    assert said in ran.refuses("get", ref, "-o", "x", code=code)
    assert not (ran.folder / "x").exists()


def test_get_into_a_folder(ran: Project) -> None:
    assert ". is a folder: name the file to write" in ran.refuses("get", "notes", "-o", ".")


def test_logs(ran: Project, runs: list[Any]) -> None:
    assert ran.aero("logs", "lines").out == "counting\n"
    assert ran.aero("logs", runs[-1]["id"][:8]).out.endswith("wrote nothing\n")
    assert runs[-1]["log"] is None
    written = {run["log"] for run in runs if run["log"]}
    assert {f"logs/{path.name}" for path in (ran.folder / ".aero/logs").iterdir()} == written
    assert "no run or flow is 'line': did you mean lines?" in ran.refuses("logs", "line", code=3)


def test_why_goes_input_by_input(ran: Project) -> None:
    out = ran.out("why", "lines")
    assert "flow lines (ANY)" in out
    assert "because: inputs: notes@2" in out
    assert "now waits for a new version of notes" in out
    assert "input notes: latest @2, last used @2" in out
    (told,) = ran.json("why", "lines")
    assert told["last_run"]["state"] == "succeeded"
    assert [(state["data"], state["latest"], state["consumed"]) for state in told["inputs"]] == [("notes", 2, 2)]
    assert "(every 1d)" in ran.out("why", "notes")


def test_lineage_is_a_tree(ran: Project) -> None:
    first, second = ran.aero("lineage", "lines@1").out.splitlines()
    assert first.startswith("lines@1  by lines, run ")
    assert second.startswith("└── notes@1  by notes, run ")
    assert second.endswith("/notes.txt")
    (node,) = ran.json("lineage", "lines")
    assert (node["data"], node["number"]) == ("lines", 2)
    assert [(below["data"], below["number"]) for below in node["inputs"]] == [("notes", 2)]


def test_show_tells_every_setting_of_a_flow(project: Project) -> None:
    project.write("notes.txt", "one\n")
    project.write(
        "flows.py",
        """\
        from pathlib import Path
        from aero_core import AeroOutput, analysis, ingest

        notes = ingest("notes", url=Path(__file__).with_name("notes.txt"), limit="2MB", rule="text")

        @analysis(inputs=[notes], retries=2, timeout="90s", memory="1GB", rerun=False, readonly_inputs=True,
                  tags=["a", "b"])
        def x(notes):
            return AeroOutput("x", notes)

        @analysis(inputs=[notes])
        def plain(notes):
            return AeroOutput("x", notes)
    """,
    )
    project.aero("apply", "flows.py")
    out = project.out("show", "notes", "--kind", "flow").splitlines()
    assert {"limit 2.0 MB", "rule text"} <= set(out)
    settings = {
        "tags a, b",
        "retries 2",
        "timeout 90 s",
        "memory 1.0 GB",
        "rerun not by a new revision",
        "readonly inputs yes",
    }
    assert settings <= set(project.out("show", "x", "--kind", "flow").splitlines())
    plain = {line.split()[0] for line in project.out("show", "plain", "--kind", "flow").splitlines()}
    assert not plain & {"tags", "retries", "timeout", "memory", "rerun", "readonly", "limit", "rule"}


def test_lineage_says_where_it_is_cut_off(project: Project) -> None:
    project.write(
        "flows.py",
        """\
        from pathlib import Path
        from aero_core import AeroOutput, analysis

        @analysis()
        def a():
            Path("x").write_text("x")
            return AeroOutput("x", "x")

        @analysis(inputs=[a])
        def b(a):
            return AeroOutput("x", a)

        @analysis(inputs=[b])
        def c(b):
            return AeroOutput("x", b)

        @analysis(inputs=[a, b, c], policy="ALL")
        def d(a, b, c):
            return AeroOutput("x", a)
    """,
    )
    project.aero("run", "flows.py", "--now")
    shown = {
        "1": [("a@1", ""), ("b@1", "(more: --depth)"), ("c@1", "(more: --depth)")],
        "2": [("a@1", ""), ("b@1", ""), ("a@1", ""), ("c@1", ""), ("b@1", "(see above)")],
    }
    for depth, expected in shown.items():
        first, *lines = project.aero("lineage", "d", "--depth", depth).out.splitlines()
        assert first.startswith("d@1  by d, run ")
        parts = [line.lstrip("│ ├└─").split("  ") for line in lines]
        assert [(part[0], "".join(part[2:])) for part in parts] == expected
    (node,) = project.json("lineage", "d", "--depth", "1")
    assert [(below["repeated"], below["cut"]) for below in node["inputs"]] == [
        (False, False),
        (False, True),
        (False, True),
    ]


def test_a_version_comes_from_where_its_run_fetched_it(project: Project) -> None:
    project.write("a.csv", "one\n")
    project.write("b.csv", "two\n")
    for name in ("a.csv", "b.csv"):
        project.write(
            "flows.py",
            f"""\
            from pathlib import Path
            from aero_core import ingest
            x = ingest("x", url=Path(__file__).with_name("{name}"))
        """,
        )
        project.aero("run", "flows.py")
    for number, name in enumerate(("a.csv", "b.csv"), start=1):
        url = (project.folder / name).as_uri()
        assert project.aero("lineage", f"x@{number}").out.endswith(f"  from {url}\n")
        (node,) = project.json("lineage", f"x@{number}")
        assert node["source"] == [url]
        assert f"source {url}\n" in project.out("show", node["run_id"])
        assert [p["source"] for p in project.json("list", "prov") if p["activity"] == node["run_id"]] == [[url]]
        assert f"{url} x@{number}" in project.out("list", "prov")


def test_a_run_tells_programs_what_its_revision_was(project: Project) -> None:
    for step in (1, 2):
        project.write(
            "flows.py",
            f"""\
            from pathlib import Path
            from aero_core import AeroOutput, analysis

            @analysis(kwargs={{"step": {step}}})
            def x(step):
                Path("x.txt").write_text(str(step))
                return AeroOutput("x", "x.txt")
        """,
        )
        project.aero("run", "flows.py", "--now")
    records = {record["activity"]: record for record in project.json("list", "prov")}
    versions = reversed(project.json("versions", "x"))
    for step, version in enumerate(versions, start=1):
        (run,) = project.json("show", version["run_id"])
        assert (run["revision"], run["kwargs"], run["source"]) == (step, {"step": step}, [])
        assert run["function"]["digest"].startswith("sha256:")
        out = project.out("show", version["run_id"])
        for shown in (f"kwargs step={step}", f"digest {run['function']['digest']}"):
            assert shown in out
        assert f"bundle {run['function']['location']}\n" in out
        record = records[version["run_id"]]
        assert (record["kwargs"], record["bundle_id"]) == ({"step": step}, run["function"]["bundle_id"])


def test_a_data_tells_how_its_source_was_last_looked_at(project: Project, web: WebServer) -> None:
    url = web.publish("x.csv", b"one\n", etag='"v1"')
    project.write("flows.py", f'from aero_core import ingest\nx = ingest("x", url="{url}")\n')
    for _ in range(2):
        project.aero("run", "flows.py", "--now")
    (data,) = project.json("show", "x")
    (member,) = data["members"]
    assert (member["decided_by"], member["validators"]["etag"]) == ("etag", '"v1"')
    checked = member["checked_at"][:19].replace("T", " ")
    assert f"checked {checked} UTC, decided by etag (etag='\"v1\"'" in project.out("show", "x")


def test_verify_of_sound_bytes(ran: Project) -> None:
    done = ran.aero("verify")
    assert done.out == ""
    assert done.err == "4 versions verified: all as recorded\n"
    found = ran.json("verify", "lines")
    assert [(item["data"], item["number"], item["problem"]) for item in found] == [
        ("lines", 2, None),
        ("lines", 1, None),
    ]


def test_plugins_and_doctor(ran: Project) -> None:
    plugins = {item["name"]: item for item in ran.json("plugins", "list")}
    assert {name: item["status"] for name, item in plugins.items()} == {
        "http": "ok",
        "local": "ok",
        "sql": "ok",
    }
    assert "sql aero-core" in ran.out("plugins", "list")
    checked = ran.json("doctor")
    assert all(item["ok"] for item in checked)
    assert {"AERO", "configuration", "state", "catalog"} <= {item["what"] for item in checked}


def test_no_colours_and_no_bars_outside_of_a_terminal(ran: Project) -> None:
    done = ran.aero("run", "flows.py", "--now")
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.err


def test_verbose_logs(ran: Project) -> None:
    assert ran.aero("list", "data").err == ""
    assert "aero." in ran.aero("-vv", "run", "flows.py", "--now").err
