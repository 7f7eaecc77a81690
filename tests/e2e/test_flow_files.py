"""What a flow file can say: all of it in one file, run once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.program import Project

FLOWS = """\
    import json
    import os
    from pathlib import Path

    from aero_core import AeroOutput, PolicyEnum, analysis, ingest

    HERE = Path(__file__).parent


    @ingest(url=HERE / "cases.csv", every="1d", tags=["counts"], description="Cases by day")
    def cases(path):
        rows = [line for line in Path(path).read_text().splitlines() if line]
        Path("cases.csv").write_text("\\n".join(rows) + "\\n")
        return AeroOutput("cases", "cases.csv")


    other = ingest("other", url=(HERE / "other.json").as_uri(), every="0 6 * * *", tz="America/Chicago")


    def write(name, value):
        Path(name).write_text(json.dumps(value))
        return AeroOutput(name, name)


    @analysis(inputs=[cases], outputs=["table", "plot"])
    def board(cases):
        Path("t.csv").write_text("table")
        Path("p.txt").write_text("plot")
        return [AeroOutput("plot", "p.txt"), AeroOutput("table", Path("t.csv"))]


    @analysis(inputs={"series": cases}, outputs=[])
    def looks(series):
        print("looked at", Path(series).suffix)


    @analysis(inputs={"many": [cases, board["plot"]], "named": {"a": cases, "b": board["table"]}})
    def shapes(many, named):
        return write("shapes.json", [
            [Path(p).read_text() for p in many], {k: Path(p).read_text() for k, p in named.items()}])


    @analysis(inputs=["cases@1"], policy="any")
    def pinned(cases, cases_version):
        return write("pinned.json", [Path(cases).read_text(), cases_version])


    def scaled(series, factor, extra=1):
        return write("scaled.json", len(Path(series).read_text()) * factor * extra)


    for n in (2, 3):
        analysis(scaled, name=f"times_{n}", inputs={"series": cases["raw"]}, kwargs={"factor": n})


    @analysis(inputs=[cases], readonly_inputs=True)
    def linked(cases):
        return write("linked.json", [os.path.islink(cases), Path(cases).read_text()])


    @analysis(inputs=[cases])
    def rewrites(cases):
        Path(cases).write_text("scribbled over")
        return AeroOutput("rewrites", cases)


    @analysis(inputs=[cases], policy=PolicyEnum.ANY)
    def grows(cases, previous):
        before = Path(previous).read_text() if previous else ""
        Path("grows.txt").write_text(before + "x")
        return AeroOutput("grows", "grows.txt")


    @analysis(inputs=[cases], policy="ALL")
    def tells(cases, run, cases_version, cases_url):
        return write("tells.json", [run.id, run.flow, dict(run.versions), cases_version, cases_url[:8]])


    @analysis(every="1h", kwargs={"text": "tick"})
    def ticks(text):
        return write("ticks.json", text)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("flows") / "project")
    project.write("cases.csv", "day,n\n\n1,5\n")
    project.write("other.json", "{}")
    # A pin needs its version: what makes it comes first.
    text = project.write("flows.py", FLOWS).read_text()
    start, end = text.index('@analysis(inputs=["cases@1"]'), text.index("def scaled")
    (project.folder / "flows.py").write_text(text[:start] + text[end:])
    project.aero("run", "flows.py")
    project.write("cases.csv", "day,n\n\n1,5\n2,7\n")
    (project.folder / "flows.py").write_text(text)
    project.aero("run", "flows.py", "--now")
    return project


def text(project: Project, ref: str) -> str:
    return project.aero("get", ref, "-o", "-").out


def test_an_ingestion_with_a_body_is_two_data(ran: Project) -> None:
    assert text(ran, "cases.raw@1") == "day,n\n\n1,5\n"
    assert text(ran, "cases@1") == "day,n\n1,5\n"
    assert text(ran, "cases") == "day,n\n1,5\n2,7\n"
    (data,) = ran.json("show", "cases")
    assert (data["tags"], data["description"]) == (["counts"], "Cases by day")


def test_a_cron_flow_waits_for_its_first_tick(ran: Project) -> None:
    runs = [run for run in ran.json("list", "run") if run["flow"] == "other"]
    assert [run["cause"]["kind"] for run in runs] == ["asked"]
    assert "0 6 * * * America/Chicago" in ran.out("list", "flow")


def test_several_outputs_and_none(ran: Project) -> None:
    assert text(ran, "board.table") == "table"
    assert text(ran, "board.plot") == "plot"
    assert ran.aero("logs", "looks").out == "looked at .csv\n"
    assert ran.refuses("show", "looks", "--kind", "data", code=3).startswith("no data is 'looks'")


def test_lists_and_mappings_of_inputs(ran: Project) -> None:
    cases = "day,n\\n1,5\\n2,7\\n"
    assert text(ran, "shapes") == f'[["{cases}", "plot"], {{"a": "{cases}", "b": "table"}}]'


def test_a_pin_stays(ran: Project) -> None:
    assert text(ran, "pinned") == '["day,n\\n1,5\\n", 1]'
    assert "input cases: pinned to @1" in ran.out("why", "pinned")


def test_one_function_for_many_flows(ran: Project) -> None:
    size = len("day,n\n\n1,5\n2,7\n")
    assert text(ran, "times_2") == str(size * 2)
    assert text(ran, "times_3") == str(size * 3)


def test_what_a_function_gets(ran: Project) -> None:
    assert text(ran, "linked") == '[true, "day,n\\n1,5\\n2,7\\n"]'
    assert text(ran, "rewrites") == "scribbled over"
    assert text(ran, "cases") == "day,n\n1,5\n2,7\n"
    assert text(ran, "grows@1") == "x"
    assert text(ran, "grows@2") == "xx"
    run = next(run for run in ran.json("list", "run") if run["flow"] == "tells")
    assert text(ran, "tells") == f'["{run["id"]}", "tells", {{"cases": 2}}, 2, "file:///"]'
    assert text(ran, "ticks") == '"tick"'


def test_previous_is_recorded_as_used(ran: Project) -> None:
    run = next(run for run in ran.json("list", "run") if run["flow"] == "grows")
    used = {(used["parameter"], used["data"], used["number"]) for used in run["used"]}
    assert used == {("cases", "cases", 2), ("previous", "grows", 1)}


def test_nothing_is_damaged_by_what_functions_did(ran: Project) -> None:
    assert ran.aero("verify").err.endswith("all as recorded\n")


EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "outbreaks"
SERIES = ("flu1918", "flu2009", "measles1861", "sars2003")


def test_the_reference_example(project: Project) -> None:
    for path in EXAMPLE.rglob("*"):
        if path.is_file() and ".aero" not in path.parts:
            target = project.folder / path.relative_to(EXAMPLE)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    out = project.aero("run", "flows.py").out
    made = [line.split()[0] for line in out.splitlines() if "@" in line]
    expected = {f"{kind}_{name}@1" for kind in ("cases", "rt") for name in SERIES}
    assert sorted(made) == sorted(expected | {"comparison.table@1", "comparison.plot@1"})
    project.aero("get", "comparison.plot", "-o", "plot.png")
    assert (project.folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    table = text(project, "comparison.table")
    assert [line.split(",")[0] for line in table.splitlines()[1:]] == list(SERIES)
    again = project.aero("run", "flows.py")
    assert again.err == ""
    helper = project.folder / "rt.py"
    helper.write_text(helper.read_text() + "\n\nEDITED = True\n")
    changes = {c["flow"]: c["kind"] for c in project.json("apply", "flows.py")}
    changed = {flow for flow, kind in changes.items() if kind != "unchanged"}
    assert changed == {f"rt_{name}" for name in SERIES}
