"""Sources that fail: one line each, and the next run works once they are mended."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from aero_core.testing.servers import Reply, WebServer
from tests.e2e.program import Project


def ingest(project: Project, url: str, more: str = "") -> None:
    project.write("flows.py", f'from aero_core import ingest\ningest("cases", url={url!r}, every="1d"{more})\n')


def mended(project: Project) -> None:
    """Whatever went wrong, a source that answers makes the first version."""
    project.write("good.csv", "day\n1\n")
    ingest(project, (project.folder / "good.csv").as_uri())
    assert "cases@1" in project.aero("run", "flows.py", "--now").out
    assert project.aero("get", "cases", "-o", "-").out == "day\n1\n"


def test_a_file_that_is_missing(project: Project) -> None:
    ingest(project, (project.folder / "cases.csv").as_uri())
    said = project.fails("run", "flows.py")
    assert f"{project.folder}/cases.csv" in said
    project.write("cases.csv", "day\n")
    assert "cases@1" in project.aero("run", "flows.py", "--now").out


def test_a_server_that_is_not_there(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        ingest(project, f"http://127.0.0.1:{port}/cases.csv")
        done = project.aero("run", "flows.py", code=1)
    why = f"Cannot fetch http://127.0.0.1:{port}/cases.csv: the connection was refused; is the server running?"
    waits = done.err.splitlines()
    assert len(waits) == 3
    assert all(line.startswith(f"wait  cases: {why} (attempt ") for line in waits)
    assert "cases is tried again at 2" in done.out
    assert why in project.aero("why", "cases").out
    mended(project)


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_that_asks_for_time_gets_it(project: Project, web: WebServer, as_date: bool) -> None:
    begun = datetime.now(UTC)
    wish = format_datetime(begun + timedelta(seconds=121), usegmt=True) if as_date else "120"
    web.publish("cases.csv", b"day\n1\n")
    ingest(project, web.script("cases.csv", Reply(status=503, headers={"Retry-After": wish})))
    done = project.aero("run", "flows.py", code=1)
    assert len(web.requests) == 1
    assert (datetime.now(UTC) - begun).total_seconds() < 60
    (run,) = project.json("list", "run")
    again = datetime.fromisoformat(run["not_before"])
    assert run["state"] == "queued"
    assert (again - begun).total_seconds() >= 120
    assert 60 < run["error"]["retry_after"] <= 121
    assert f"cases is tried again at {again:%Y-%m-%d %H:%M:%S} UTC: " in done.out
    assert "the server answers 503 Service Unavailable (it asks to wait 1" in done.out
    project.aero("run", "flows.py", code=1)
    assert len(web.requests) == 1
    assert "cases@1" in project.aero("run", "flows.py", "--now").out


@pytest.mark.parametrize(
    ("reply", "more", "said"),
    [
        (Reply(status=404), "", "404"),
        (Reply(), ', limit="3B"', "limit"),
        (Reply(headers={"Content-Length": "99"}, cut=4), "", ""),
    ],
    ids=["404", "limit", "length"],
)
def test_answers_that_cannot_be_taken(project: Project, web: WebServer, reply: Reply, more: str, said: str) -> None:
    project.write("aero.toml", "[plugins.http]\nretries = 1\nbackoff = 0.01\n")
    web.publish("cases.csv", b"day\n1\n")
    url = web.script("cases.csv", *[reply] * 50)
    ingest(project, url, more)
    line = project.aero("run", "flows.py", code=1).err.splitlines()[-1]
    assert url in line
    assert said in line
    assert project.json("versions", "cases") == []
    mended(project)


def test_a_hostile_file_name_goes_nowhere(project: Project, web: WebServer) -> None:
    name = 'attachment; filename="../../../../etc/owned\x80.csv"'
    headers = {"Content-Disposition": name, "Content-Type": "text/csv"}
    ingest(project, web.publish("x", b"day\n", headers=headers))
    project.aero("run", "flows.py")
    (version,) = project.json("versions", "cases")
    assert ".." not in version["location"]
    assert version["location"].startswith((project.folder / ".aero" / "store").as_uri())
    assert not list(project.folder.parent.rglob("*owned*"))
