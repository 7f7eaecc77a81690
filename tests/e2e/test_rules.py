"""Fingerprint rules, from a flow file to what a person is told."""

from __future__ import annotations

import pytest

from tests.e2e.program import Project

FLOWS = """\
    from pathlib import Path

    from aero_core import AeroOutput, analysis, ingest

    HERE = Path(__file__).resolve().parent
    ingest("table", url=HERE / "table.csv", rule={"name": "csv", "ignore": ["generated at"]})
    ingest("report", url=HERE / "report.txt", rule={"name": "text", "ignore": "^Generated at "})
    feed = ingest("feed", url=HERE / "feed.json", rule={"name": "json", "ignore": "/generated_at"})


    @analysis(inputs=[feed], outputs=["copy"], rule="json")
    def out(feed):
        text = Path(feed).read_text()
        Path("copy.json").write_text(text.replace("1", "one", 1))
        return AeroOutput("copy", "copy.json")
"""


def publish(project: Project, stamp: str, count: int, feed: str = '{"generated_at": "STAMP", "count": COUNT}') -> None:
    texts = {
        "table.csv": "place,generated at,count\nhere,STAMP,COUNT\nthere,STAMP,4\n",
        "report.txt": "Report\nGenerated at STAMP\nTotal COUNT\n",
        "feed.json": feed,
    }
    for name, text in texts.items():
        project.write(name, text.replace("STAMP", stamp).replace("COUNT", str(count)))


def numbers(project: Project) -> list[int]:
    return [len(project.json("versions", data)) for data in ("table", "report", "feed")]


def test_a_new_stamp_alone_makes_no_version(project: Project) -> None:
    project.write("flows.py", FLOWS)
    publish(project, "monday", 3)
    project.aero("run", "flows.py")
    publish(project, "tuesday", 3)
    said = project.aero("run", "flows.py", "--now").err
    assert numbers(project) == [1, 1, 1], said
    publish(project, "tuesday", 5)
    project.aero("run", "flows.py", "--now")
    assert numbers(project) == [2, 2, 2]


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ("<html>\n", "feed: the content of feed is not JSON: "),
        ("[1]", "out: the content of out.copy is not JSON: "),
    ],
    ids=["source", "output"],
)
def test_content_that_a_rule_cannot_read_is_told_by_name(project: Project, feed: str, said: str) -> None:
    project.write("flows.py", FLOWS)
    publish(project, "monday", 3, feed)
    line = project.fails("run", "flows.py")
    assert line.startswith(said)
    assert "in line 1, byte " in line
    assert "scratch" not in line


def test_a_corrected_rule_brings_in_what_the_old_one_took_for_the_same(project: Project) -> None:
    flows = """\
        from pathlib import Path

        from aero_core import ingest

        ingest("feed", url=Path(__file__).resolve().parent / "feed.json", rule=RULE)
    """
    project.write("flows.py", flows.replace("RULE", '{"name": "json", "ignore": ["/at", "/count"]}'))
    for count in (1, 2):
        project.write("feed.json", f'{{"at": "now", "count": {count}}}')
        project.aero("run", "flows.py", "--now")
    assert len(project.json("versions", "feed")) == 1
    project.write("flows.py", flows.replace("RULE", '{"name": "json", "ignore": "/at"}'))
    project.aero("run", "flows.py", "--now")
    assert len(project.json("versions", "feed")) == 2
    project.aero("run", "flows.py", "--now")
    assert project.json("list", "run", "--limit", "1")[0]["state"] == "unchanged"
