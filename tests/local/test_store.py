from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from aero_core.errors import StoreError
from aero_core.models import Artifact, Location
from aero_core.testing.storing import StoreContract, artifact_of, no_progress
from aero_local import LocalPlugin, store
from aero_local.paths import path_to_url
from tests.local.unprivileged import as_nobody


class TestFolderStore(StoreContract):
    make_plugin = LocalPlugin

    @pytest.fixture
    def base(self, tmp_path: Path) -> str:
        return path_to_url(tmp_path / "my store ü")


def place(folder: Path, artifact: Artifact, **options: Any) -> Location:
    name = artifact.checksum[7:]
    return Location(path_to_url(folder / "d" / name[:2] / name), "local", options)


def fetched(scratch: Path, content: bytes) -> Artifact:
    """Content as the core has it after a fetch."""
    folder = scratch / "fetched" / "0"
    folder.mkdir(parents=True)
    return artifact_of(folder / "content", content)


def test_own_scratch_file_is_linked_and_read_only(tmp_path: Path) -> None:
    artifact = fetched(tmp_path, b"mine")
    location = place(tmp_path / "store", artifact)
    store.store(artifact, location, no_progress)
    stored = Path(location.url.removeprefix("file://")).stat()
    assert stored.st_ino == Path(artifact.path).stat().st_ino
    assert stat.S_IMODE(stored.st_mode) & 0o222 == 0


def test_its_link_is_the_file_itself(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path / "made", b"read in place")
    location = place(tmp_path / "store", artifact)
    plugin = LocalPlugin()
    assert plugin.aero_link(location, 60) is None
    store.store(artifact, location, no_progress)
    assert plugin.aero_link(location, 60) == location.url
    assert plugin.aero_link(Location("mem://elsewhere"), 60) is None


@pytest.mark.parametrize("name", ["made", "fetched/made.csv", "fetched/0/made", "content"])
def test_other_files_are_never_linked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    artifact = artifact_of(tmp_path / name, b"a child may hold this open")
    location = place(tmp_path / "store", artifact)
    store.store(artifact, location, no_progress)
    stored = Path(location.url.removeprefix("file://")).stat()
    assert stored.st_ino != (tmp_path / name).stat().st_ino
    assert stat.S_IMODE(stored.st_mode) & 0o222 == 0


def test_scratch_file_with_other_names_is_not_linked(tmp_path: Path) -> None:
    artifact = fetched(tmp_path, b"mine")
    os.link(artifact.path, tmp_path / "also")
    location = place(tmp_path / "store", artifact)
    store.store(artifact, location, no_progress)
    assert (tmp_path / "also").stat().st_nlink == 2


def test_scratch_file_of_another_size_is_not_linked(tmp_path: Path) -> None:
    artifact = fetched(tmp_path, b"mine")
    Path(artifact.path).write_bytes(b"longer than it was")
    with pytest.raises(StoreError, match="changed before it was stored"):
        store.store(artifact, place(tmp_path / "store", artifact), no_progress)


def test_link_that_cannot_be_made_becomes_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = fetched(tmp_path, b"mine")
    location = place(tmp_path / "store", artifact)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store.store(artifact, location, no_progress)
    assert Path(artifact.path).stat().st_nlink == 1
    assert store.retrieve(location, tmp_path / "b", no_progress).checksum == artifact.checksum


@pytest.mark.parametrize("damage", [b"wh", b"whale"])
def test_damaged_content_is_replaced(tmp_path: Path, damage: bytes) -> None:
    artifact = artifact_of(tmp_path / "new", b"whole")
    location = place(tmp_path / "store", artifact)
    store.store(artifact, location, no_progress)
    stored = Path(location.url.removeprefix("file://"))
    stored.chmod(0o600)
    stored.write_bytes(damage)
    store.store(artifact, location, no_progress)
    assert stored.read_bytes() == b"whole"


def test_storing_again_makes_it_young(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path / "new", b"old")
    location = place(tmp_path / "store", artifact)
    store.store(artifact, location, no_progress)
    stored = Path(location.url.removeprefix("file://"))
    os.utime(stored, (1, 1))
    store.store(artifact, location, no_progress)
    assert stored.stat().st_mtime > 10**9


def test_delete_removes_folders_that_become_empty(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path / "new", b"alone")
    location = place(tmp_path / "store", artifact)
    store.store(artifact, location, no_progress)
    store.delete(location)
    assert list((tmp_path / "store").iterdir()) == []


def test_delete_stops_at_the_store(tmp_path: Path) -> None:
    base = tmp_path / "store"
    artifact = artifact_of(tmp_path / "new", b"flat")
    location = Location(path_to_url(base / "x"), "local", {"url": path_to_url(base)})
    store.store(artifact, location, no_progress)
    store.delete(location)
    assert base.is_dir()


def test_folder_that_is_collected_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = artifact_of(tmp_path / "new", b"late")
    location = place(tmp_path / "store", artifact)
    real = store._make_folder
    removed: list[Path] = []

    def make_and_lose(folder: Path) -> None:
        real(folder)
        if len(removed) < 3:
            folder.rmdir()
            removed.append(folder)

    monkeypatch.setattr(store, "_make_folder", make_and_lose)
    store.store(artifact, location, no_progress)
    assert store.retrieve(location, tmp_path / "b", no_progress).size == 4


def test_leftover_of_a_kill_is_listed(tmp_path: Path) -> None:
    (tmp_path / "store" / "d").mkdir(parents=True)
    (tmp_path / "store" / "d" / ".storing-1").write_bytes(b"half")
    listed = list(store.listing(Location(path_to_url(tmp_path / "store"))))
    assert [item.size for item in listed] == [4]


def test_listing_passes_over_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path)
    listed = list(store.listing(Location(path_to_url(tmp_path))))
    assert [item.url for item in listed] == [path_to_url(tmp_path / "file")]


def test_content_that_was_moved_and_left_a_link_is_listed(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path / "new", b"elsewhere")
    location = place(tmp_path / "store", artifact)
    stored = Path(store.store(artifact, location, no_progress).removeprefix("file://"))
    stored.rename(tmp_path / "moved")
    stored.symlink_to(tmp_path / "moved")
    (listed,) = store.listing(location)
    assert (listed.url, listed.size) == (location.url, artifact.size)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("file:///tmp/x/../../etc/passwd", "out of its store"),
        ("file:///tmp/x/%2E%2E/y", "out of its store"),
        ("file:///tmp/%00", "NUL"),
        ("file://elsewhere/tmp/x", "host"),
        ("file:relative", "not absolute"),
        ("s3://bucket/x", "not a file: URL"),
        ("file:///tmp/a?b", "%3F"),
        ("file://[/tmp", "not a URL"),
    ],
)
def test_hostile_location_is_refused(tmp_path: Path, url: str, word: str) -> None:
    artifact = artifact_of(tmp_path / "new", b"x")
    for call in (
        lambda: store.store(artifact, Location(url), no_progress),
        lambda: store.retrieve(Location(url), tmp_path / "b", no_progress),
        lambda: store.delete(Location(url)),
        lambda: list(store.listing(Location(url))),
    ):
        with pytest.raises(StoreError, match=word) as caught:
            call()
        assert not caught.value.retryable
        assert "\n" not in str(caught.value)


def test_location_outside_of_its_store_is_refused(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path / "new", b"x")
    location = place(tmp_path / "else", artifact, url=path_to_url(tmp_path / "store"))
    with pytest.raises(StoreError, match="out of its store"):
        store.store(artifact, location, no_progress)


def test_folder_without_permission_is_one_clear_line(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path / "new", b"x")
    message = as_nobody(
        f"""
        from aero_local import store
        from aero_core.models import Artifact, Location
        artifact = Artifact({artifact.path!r}, {artifact.checksum!r}, 1)
        try:
            store.store(artifact, Location("file:///aero-test-store/x"), lambda *_: None)
        except Exception as problem:
            print(type(problem).__name__, problem.retryable, problem)
        """,
        tmp_path,
    )
    assert message.startswith("StoreError False")
    assert "has no permission for /aero-test-store" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "word", "retryable"),
    [(28, "the disk is full", True), (30, "read-only", False), (5, "rror", True)],
)
def test_trouble_with_the_disk_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, word: str, retryable: bool
) -> None:
    artifact = artifact_of(tmp_path / "new", b"x")

    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StoreError, match=word) as caught:
        store.store(artifact, place(tmp_path / "store", artifact), no_progress)
    assert caught.value.retryable is retryable
    assert list((tmp_path / "store" / "d").rglob("*.*")) == []


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = artifact_of(tmp_path / "new", b"0123456789" * 100)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    location = place(tmp_path / "store", artifact)
    store.store(artifact, location, no_progress)
    monkeypatch.undo()
    assert store.retrieve(location, tmp_path / "b", no_progress).checksum == artifact.checksum


def test_folder_in_place_of_the_content_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store" / "x").mkdir(parents=True)
    location = Location(path_to_url(tmp_path / "store" / "x"))
    with pytest.raises(StoreError, match="no regular file"):
        store.retrieve(location, tmp_path / "b", no_progress)
    with pytest.raises(StoreError, match="cannot be removed"):
        store.delete(location)


def test_scratch_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    artifact = Artifact(str(tmp_path / "gone"), "sha256:" + "0" * 64, 1)
    with pytest.raises(StoreError, match="gone cannot be stored"):
        store.store(artifact, place(tmp_path / "store", artifact), no_progress)


def test_os_errors_of_progress_pass_through(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path / "new", b"x")
    location = place(tmp_path / "store", artifact)

    def stop(done: int, total: int | None) -> None:
        raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"):
        store.store(artifact, location, stop)
    store.store(artifact, location, no_progress)
    with pytest.raises(TimeoutError, match="enough"):
        store.retrieve(location, tmp_path / "b", stop)


@pytest.mark.parametrize("what", ["listed", "removed"])
def test_locked_folder_is_one_clear_line(tmp_path: Path, what: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x").write_bytes(b"1")
    (tmp_path / "store").chmod(0o500)
    if os.geteuid() == 0:
        os.chown(tmp_path / "store", 65534, 65534)
    (tmp_path / "store").chmod(0o000)
    printed = as_nobody(
        f"""
        from aero_local import store
        from aero_core.models import Location
        try:
            list(store.listing(Location({path_to_url(tmp_path / "store")!r})))
        except Exception as problem:
            print("listed", type(problem).__name__, problem.retryable, problem)
        try:
            store.delete(Location({path_to_url(tmp_path / "store" / "x")!r}))
        except Exception as problem:
            print("removed", type(problem).__name__, problem.retryable, problem)
        """,
        tmp_path,
    )
    (tmp_path / "store").chmod(0o700)
    lines = [line for line in printed.splitlines() if line.startswith(what)]
    assert len(lines) == 1
    assert lines[0].startswith(f"{what} StoreError False")
    assert f"cannot be {what}: user " in lines[0]
