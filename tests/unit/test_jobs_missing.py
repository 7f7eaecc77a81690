"""A run whose previous version's bytes may be missing, on stores that can tell and stores that cannot."""

from __future__ import annotations

import hashlib
from pathlib import Path
from textwrap import dedent

import pytest

from aero_core import jobs
from aero_core.converter import structure, unstructure
from aero_core.models import (
    Location,
    PluginNeed,
    Previous,
    Result,
    Rule,
    SourceMember,
    Task,
    TaskFetch,
    TaskOutput,
    TaskPrevious,
)

SHELF = """
import shutil
from datetime import UTC, datetime
from pathlib import Path

from aero_core.errors import StoreError
from aero_core.hookspecs import hookimpl
from aero_core.models import Family, Provides, StoredObject

SHELF = Path(__file__).with_name("shelf")

@hookimpl
def aero_provides():
    return [Provides(Family.STORE, "shelf")]

@hookimpl
def aero_store(artifact, location):
    shutil.copyfile(artifact.path, SHELF)
    return location.url{answered}
"""
LIST = "@hookimpl\ndef aero_list(prefix): "
LISTINGS = {
    "none": "",
    "refused": LIST + "raise StoreError('the shelf cannot be listed')",
    "broken": LIST + "return (1 / 0 for _ in 'x')",
    "there": LIST + "return iter([StoredObject(prefix.url, 4, datetime.now(UTC))])",
    "neighbour": LIST + "return iter([StoredObject(prefix.url + 'x', 4, datetime.now(UTC))])",
    "shorter": LIST + "return iter([StoredObject(prefix.url, 3, datetime.now(UTC))])",
    "empty": LIST + "return iter(())",
}
CONTENT = b"4\n9\n"


def poll(folder: Path, listing: str, answered: str = "") -> Result:
    """A run that looks at a source whose content has its version on the shelf already."""
    shelf = folder / "shelves.py"
    shelf.write_text(dedent(SHELF.format(answered=answered)) + LISTINGS[listing] + "\n")
    source = folder / "cases.txt"
    source.write_bytes(CONTENT)
    found = source.stat()
    checksum = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    validators = {"mtime_ns": str(found.st_mtime_ns), "size": "4", "inode": str(found.st_ino)}
    version = TaskPrevious(3, f"bytes:{checksum}", Location("shelf://a/3"), checksum, 4, ".txt")
    task = Task(
        "run",
        "attempt",
        "cases",
        "id",
        fetches=(TaskFetch(SourceMember(source.as_uri()), Previous(validators, checksum, 4)),),
        outputs=(TaskOutput("", "cases", "id", Rule(), Location("shelf://a"), previous=(version,)),),
        plugins=(PluginNeed("local"), PluginNeed("shelves", module=str(shelf))),
    )
    result = structure(jobs.execute(unstructure(task)), Result)
    assert result.failure is None
    return result


@pytest.mark.parametrize("listing", ["none", "refused", "broken", "there"])
def test_what_cannot_be_told_is_taken_to_be_there(tmp_path: Path, listing: str) -> None:
    result = poll(tmp_path, listing)
    assert result.versions == ()
    assert "restored" not in result.metrics
    assert not (tmp_path / "shelf").exists()


@pytest.mark.parametrize("listing", ["neighbour", "shorter", "empty"])
def test_what_is_missing_is_fetched_and_stored_again(
    tmp_path: Path, listing: str, capfd: pytest.CaptureFixture[str]
) -> None:
    result = poll(tmp_path, listing)
    assert [(new.location, new.restored) for new in result.versions] == [(None, True)]
    assert result.metrics["restored"] == 1
    assert (tmp_path / "shelf").read_bytes() == CONTENT
    assert "the bytes of cases@3 were missing: they are stored again" in capfd.readouterr().err


def test_bytes_that_were_stored_under_another_url_restore_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = poll(tmp_path, "empty", " + '?version=2'")
    assert [new.restored for new in result.versions] == [False]
    assert capfd.readouterr().err == ""
