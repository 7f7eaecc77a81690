"""A project whose functions tell where they are, and a source on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from aero_core import api
from aero_core.testing.servers import WebServer

FLOWS = '''\
"""Three flows in a row, the second of which can be held."""

import os
import time
from pathlib import Path

from aero_core import AeroOutput, analysis, ingest

SIGNALS = Path({signals!r})


def tell(what):
    """Say in a file that something has been reached; wait while it is to be held."""
    arriving = SIGNALS / f"{{what}}.{{os.getpid()}}"
    arriving.write_text(str(os.getpid()))
    arriving.replace(SIGNALS / what)
    while (SIGNALS / f"hold-{{what}}").exists():
        time.sleep(0.01)


raw = ingest("raw", url={url!r}, every="{every}")


@analysis(inputs=[raw])
def doubled(raw):
    tell("doubled")
    Path("doubled.txt").write_text(Path(raw).read_text() * 2)
    tell("written")
    return AeroOutput("doubled", "doubled.txt")


@analysis(inputs=[doubled])
def counted(doubled):
    tell("counted")
    Path("counted.txt").write_text(str(len(Path(doubled).read_text())))
    return AeroOutput("counted", "counted.txt")
'''


@frozen
class Place:
    """A project in a folder, its source, and the folder where its functions tell where they are."""

    web: WebServer
    folder: Path
    signals: Path

    @property
    def flows(self) -> Path:
        return self.folder / "flows.py"

    @property
    def state(self) -> Path:
        return self.folder / ".aero"

    def publish(self, text: str) -> None:
        self.web.publish("raw.txt", text.encode(), etag=f'"{hash(text)}"')

    def declare(self, every: str = "0.1s") -> None:
        url = self.web.url("raw.txt")
        self.flows.write_text(FLOWS.format(signals=str(self.signals), url=url, every=every))

    def hold(self, what: str) -> None:
        (self.signals / f"hold-{what}").touch()

    def let_go(self, what: str) -> None:
        (self.signals / f"hold-{what}").unlink()

    def reached(self, what: str) -> bool:
        return (self.signals / what).exists()

    def pid(self, what: str) -> int:
        """The process that has reached something."""
        return int((self.signals / what).read_text())

    def content(self, data: str) -> str:
        """The latest version's text."""
        target = self.folder / f"{data}.out"
        with api.open(self.flows) as aero:
            aero.get(data, target)
        return target.read_text()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A project with content `first` at its source, polled ten times a second."""
    (tmp_path / "project").mkdir()
    (tmp_path / "signals").mkdir()
    with WebServer() as web:
        made = Place(web, tmp_path / "project", tmp_path / "signals")
        made.publish("first")
        made.declare()
        yield made
