"""The step *store* of a run, by itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from aero_core import jobs
from aero_core.converter import structure, unstructure
from aero_core.models import Artifact, Location, Made, NewVersion, PluginNeed, Report, Rule, Task, TaskOutput


class Storing:
    """The step for one output `cases` under a rule."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports: list[Report] = []

    def __call__(self, content: bytes, rule: Rule, **more: Any) -> NewVersion:
        path = self.folder / "content"
        path.write_bytes(content)
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        artifact = Artifact(str(path), checksum, len(content))
        place = Location((self.folder / "store").as_uri(), "default")
        output = TaskOutput("", "cases", "id", rule, place, **more)
        scratch = str(self.folder / "scratch")
        task = Task("run", "attempt", "f", "id", outputs=(output,), scratch=scratch, plugins=(PluginNeed("local"),))
        made = Made("", str(path), artifact=artifact)
        (version,) = jobs.store(unstructure(task), [unstructure(made)], self.reports.append)
        return structure(version, NewVersion)


@pytest.fixture
def store(tmp_path: Path) -> Storing:
    return Storing(tmp_path)


def test_fingerprinting_is_reported(store: Storing) -> None:
    content = b"[" + b"1," * 100_000 + b"1]"
    store(content, Rule("json"))
    first = store.reports[0]
    assert (first.step, first.total) == ("store", len(content))
    assert 0 < first.done < len(content)
