"""Projects to call `aero` in, and a server to ingest from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aero_core.testing.servers import WebServer
from tests.e2e.program import Project

FLOWS = """\
    from pathlib import Path

    from aero_core import AeroOutput, analysis, ingest

    notes = ingest("notes", url=Path(__file__).with_name("notes.txt"), every="1d")


    @analysis(inputs=[notes], description="How many lines")
    def lines(notes):
        print("counting")
        count = len(Path(notes).read_text().splitlines())
        Path("lines.txt").write_text(f"{count}\\n")
        return AeroOutput("lines", "lines.txt")
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path / "project")


@pytest.fixture
def counting(project: Project) -> Project:
    """A project with a small flow file, which has not run."""
    fill(project)
    return project


def fill(project: Project) -> None:
    """Write the small flow file and its source."""
    project.write("flows.py", FLOWS)
    project.write("notes.txt", "one\ntwo\n")


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A server on the loopback interface."""
    with WebServer() as server:
        yield server
