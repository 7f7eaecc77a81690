"""The step *store* of a run, by itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from aero_core import jobs
from aero_core.converter import structure, unstructure
from aero_core.errors import FetchError
from aero_core.models import (
    Artifact,
    Location,
    Made,
    NewVersion,
    PluginNeed,
    Report,
    Rule,
    Task,
    TaskOutput,
    TaskPrevious,
)


class Storing:
    """The step for one output `cases` under a rule."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plugin = PluginNeed("local")
        self.reports: list[Report] = []

    def __call__(self, content: bytes, rule: Rule, **more: Any) -> NewVersion:
        path = self.folder / "content"
        path.write_bytes(content)
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        artifact = Artifact(str(path), checksum, len(content))
        place = Location((self.folder / "store").as_uri(), "default")
        output = TaskOutput("", "cases", "id", rule, place, **more)
        scratch = str(self.folder / "scratch")
        task = Task("run", "attempt", "f", "id", outputs=(output,), scratch=scratch, plugins=(self.plugin,))
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


def test_an_error_tells_whose_content_it_is(store: Storing) -> None:
    with pytest.raises(FetchError, match=r"^the content of cases is not JSON: [^/]* in line 2, byte 1$") as caught:
        store(b"[1,\nx]", Rule("json"))
    assert not caught.value.retryable


SITE = """
from aero_core.errors import FetchError
from aero_core.hookspecs import hookimpl
from aero_core.models import Family, Provides

@hookimpl
def aero_provides():
    return [Provides(Family.FINGERPRINT, "mine"), Provides(Family.STORE, "file")]

@hookimpl
def aero_fingerprint(rule):
    raise FetchError("no header", retryable=True)
"""


def test_an_error_of_other_words_tells_it_too(store: Storing) -> None:
    (store.folder / "site.py").write_text(SITE)
    store.plugin = PluginNeed("site", module=str(store.folder / "site.py"))
    with pytest.raises(FetchError, match=r"^the content of cases: no header$") as caught:
        store(b"1", Rule("mine"))
    assert caught.value.retryable


@pytest.mark.parametrize(("old", "number"), [(b"[1, 2]", 3), (b"[1,2", None)], ids=["equal", "unreadable"])
def test_the_old_version_is_digested_under_a_new_rule(store: Storing, old: bytes, number: int | None) -> None:
    """One that the new rule cannot read differs from the new content."""
    kept = store(old, Rule())
    assert kept.location is not None
    previous = TaskPrevious(3, kept.fingerprint, Location(kept.location, "default"), kept.checksum, kept.size)
    new = store(b"[1,2]", Rule("json"), previous=(previous,))
    assert (new.previous_number, new.location is None) == (number, number == 3)
    assert new.previous_fingerprint == (new.fingerprint if number else None)
