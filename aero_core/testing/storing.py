"""The contract of a plugin that stores.

Example:
    ```python
    import pytest
    from aero_core.testing.storing import StoreContract

    class TestVault(StoreContract):
        make_plugin = VaultPlugin

        @pytest.fixture
        def base(self):
            return "vault://test/store"
    ```
"""

# ruff: noqa: ARG001 - progress is told two things, and not all need both

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pluggy
import pytest

from aero_core import hookspecs
from aero_core.errors import StoreError
from aero_core.models import JSON, Artifact, Location, Progress, StoredObject, utc_now

_LARGE = 96 << 20
_MEMORY = 24 << 20
_BLOCK = 1 << 20
_PATIENCE = 60.0


def hooks_of(plugin: object) -> Any:
    """The hooks of one plugin, to be called with all arguments of their specs."""
    manager = pluggy.PluginManager(hookspecs.NAMESPACE)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    return manager.hook


def no_progress(done: int, total: int | None) -> None:
    """Take note of nothing."""


def artifact_of(path: Path, content: bytes, suffix: str = "") -> Artifact:
    """A new file with some content, as an artifact."""
    path.write_bytes(content)
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Artifact(str(path), checksum, len(content), suffix=suffix)


class StoreContract:
    """What every store does.

    Attributes:
        make_plugin: Makes the plugin, ready for use, with no arguments; also in other processes,
            so it must be found by its name in a module.
        shared: Whether several processes reach the same store.
    """

    make_plugin: ClassVar[Callable[[], object]]
    shared: ClassVar[bool] = True

    @pytest.fixture
    def base(self) -> str:
        """URL below which this test stores, without a slash at its end. Override it."""
        raise NotImplementedError

    @pytest.fixture
    def options(self) -> Mapping[str, JSON]:
        """The store's options, as `[stores.NAME]` would have them."""
        return {}

    @pytest.fixture
    def hooks(self) -> Any:
        return hooks_of(type(self).make_plugin())

    @pytest.fixture
    def place(self, base: str, options: Mapping[str, JSON]) -> Callable[[Artifact], Location]:
        """Where the core would have an artifact stored."""

        def location(artifact: Artifact, data: str = "3f1c") -> Location:
            name = artifact.checksum.removeprefix("sha256:")
            url = f"{base}/{data}/{name[:2]}/{name}{artifact.suffix}"
            return Location(url, "test", options)

        return location

    @pytest.mark.parametrize("content", [b"", b"one\n", bytes(range(256)) * 5000])
    def test_comes_back_as_it_was(self, hooks: Any, place: Any, tmp_path: Path, content: bytes) -> None:
        artifact = artifact_of(tmp_path / "new", content)
        back = _round_trip(hooks, artifact, place(artifact), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        assert (back.checksum, back.size) == (artifact.checksum, len(content))
        assert back.path == str(tmp_path / "back")

    @pytest.mark.parametrize("suffix", ["", ".csv", ".tar.gz", ".JSON"])
    def test_answers_a_url_to_find_it_by(
        self, hooks: Any, place: Any, options: Mapping[str, JSON], tmp_path: Path, suffix: str
    ) -> None:
        artifact = artifact_of(tmp_path / "new", b"found again", suffix)
        url = _store(hooks, artifact, place(artifact))
        assert isinstance(url, str)
        back = _retrieve(hooks, Location(url, "test", options), tmp_path / "back")
        assert back.checksum == artifact.checksum

    @pytest.mark.parametrize("name", ["with blank", "100%", "ümläut", "a#b?c", "-dash", "new\nline"])
    def test_local_names_may_be_odd(self, hooks: Any, place: Any, tmp_path: Path, name: str) -> None:
        artifact = artifact_of(tmp_path / name, b"odd")
        _round_trip(hooks, artifact, place(artifact), tmp_path / f"back {name}")
        assert (tmp_path / f"back {name}").read_bytes() == b"odd"

    def test_storing_again_changes_nothing(
        self, hooks: Any, place: Any, base: str, options: Mapping[str, JSON], tmp_path: Path
    ) -> None:
        artifact = artifact_of(tmp_path / "new", b"twice")
        first = _store(hooks, artifact, place(artifact))
        assert _store(hooks, artifact, place(artifact)) == first
        assert len(_listed(hooks, base, options)) == 1

    def test_leaves_the_artifact_alone(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"still here")
        _store(hooks, artifact, place(artifact))
        assert (tmp_path / "new").read_bytes() == b"still here"

    def test_writing_to_the_artifact_later_harms_nothing(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"stored")
        _store(hooks, artifact, place(artifact))
        with (tmp_path / "new").open("r+b") as file:
            file.write(b"change")
        _retrieve(hooks, place(artifact), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"stored"

    def test_writing_to_what_was_retrieved_harms_nothing(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"stored")
        _round_trip(hooks, artifact, place(artifact), tmp_path / "back")
        (tmp_path / "back").write_bytes(b"mine")
        assert _retrieve(hooks, place(artifact), tmp_path / "more").checksum == artifact.checksum

    def test_content_that_is_not_the_artifacts_is_refused(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"promised")
        (tmp_path / "new").write_bytes(b"not this")
        with pytest.raises(StoreError) as caught:
            _store(hooks, artifact, place(artifact))
        assert caught.value.retryable
        _assert_nothing(hooks, place(artifact), tmp_path)

    def test_nothing_there_is_a_lasting_error(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        location = place(artifact_of(tmp_path / "new", b"never stored"))
        with pytest.raises(StoreError) as caught:
            _retrieve(hooks, location, tmp_path / "back")
        assert not caught.value.retryable
        assert "\n" not in str(caught.value)

    def test_delete(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"short-lived")
        _store(hooks, artifact, place(artifact))
        assert hooks.aero_delete(location=place(artifact)) is True
        _assert_nothing(hooks, place(artifact), tmp_path)

    def test_deleting_twice_or_nothing_is_no_error(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"gone")
        assert hooks.aero_delete(location=place(artifact)) is True
        assert hooks.aero_delete(location=place(artifact)) is True

    def test_deleting_one_leaves_the_others(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        one = artifact_of(tmp_path / "one", b"one")
        other = artifact_of(tmp_path / "other", b"other")
        for artifact in (one, other):
            _store(hooks, artifact, place(artifact))
        hooks.aero_delete(location=place(one))
        assert _retrieve(hooks, place(other), tmp_path / "back").checksum == other.checksum

    def test_can_be_stored_again_after_a_delete(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"phoenix")
        _store(hooks, artifact, place(artifact))
        hooks.aero_delete(location=place(artifact))
        _round_trip(hooks, artifact, place(artifact), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"phoenix"

    def test_lists_url_size_and_age(
        self, hooks: Any, place: Any, base: str, options: Mapping[str, JSON], tmp_path: Path
    ) -> None:
        artifacts = [artifact_of(tmp_path / str(n), b"x" * n) for n in (1, 20, 300)]
        urls = {_store(hooks, artifact, place(artifact)): artifact.size for artifact in artifacts}
        listed = _listed(hooks, base, options)
        assert {item.url: item.size for item in listed} == urls
        for item in listed:
            assert abs(utc_now() - item.modified_at) < timedelta(minutes=5)

    def test_lists_what_lies_below_and_no_more(
        self, hooks: Any, place: Any, base: str, options: Mapping[str, JSON], tmp_path: Path
    ) -> None:
        artifact = artifact_of(tmp_path / "new", b"shared")
        mine = _store(hooks, artifact, place(artifact, "aaaa"))
        _store(hooks, artifact, place(artifact, "aaaab"))
        assert [item.url for item in _listed(hooks, f"{base}/aaaa", options)] == [mine]

    def test_lists_one_object_by_its_own_location(
        self, hooks: Any, place: Any, options: Mapping[str, JSON], tmp_path: Path
    ) -> None:
        artifact = artifact_of(tmp_path / "new", b"asked for")
        url = _store(hooks, artifact, place(artifact))
        _store(hooks, artifact, place(attrs.evolve(artifact, suffix=".csv")))
        assert [(item.url, item.size) for item in _listed(hooks, url, options)] == [(url, artifact.size)]
        hooks.aero_delete(location=place(artifact))
        assert _listed(hooks, url, options) == []

    def test_an_empty_listing_is_no_error(self, hooks: Any, base: str, options: Mapping[str, JSON]) -> None:
        assert _listed(hooks, f"{base}/nothing", options) == []

    def test_tells_its_progress(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"p" * 3_000_000)
        for call in (
            lambda progress: _store(hooks, artifact, place(artifact), progress),
            lambda progress: _retrieve(hooks, place(artifact), tmp_path / "back", progress),
        ):
            told: list[tuple[int, int | None]] = []
            call(lambda *numbers, told=told: told.append(numbers))
            done = [number for number, _ in told]
            assert done == sorted(done)
            assert done[-1] == artifact.size

    def test_what_progress_raises_passes_through(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"p" * 3_000_000)
        with pytest.raises(_Stop):
            _store(hooks, artifact, place(artifact), _stop)
        _store(hooks, artifact, place(artifact))
        with pytest.raises(_Stop):
            _retrieve(hooks, place(artifact), tmp_path / "back", _stop)

    def test_a_link_is_a_url_or_none(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = artifact_of(tmp_path / "new", b"linked")
        _store(hooks, artifact, place(artifact))
        link = hooks.aero_link(location=place(artifact), seconds=60)
        assert link is None or ":" in link

    def test_memory_does_not_grow_with_the_file(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        artifact = _large(tmp_path / "large")
        tracemalloc.start()
        try:
            back = _round_trip(hooks, artifact, place(artifact), tmp_path / "back")
            assert tracemalloc.get_traced_memory()[1] < _MEMORY
        finally:
            tracemalloc.stop()
        assert back.checksum == artifact.checksum

    def test_many_processes_store_at_once(
        self, hooks: Any, place: Any, base: str, options: Mapping[str, JSON], tmp_path: Path
    ) -> None:
        if not self.shared:
            pytest.skip("the store belongs to one process")
        artifacts = [artifact_of(tmp_path / str(n), b"%d" % n * 300_000) for n in range(4)]
        work = [(artifact, place(artifact)) for artifact in artifacts]
        with _Children(4, _store_all, type(self).make_plugin, work) as outcomes:
            assert outcomes == ["done"] * 4
        for artifact in artifacts:
            back = _retrieve(hooks, place(artifact), tmp_path / "back")
            assert back.checksum == artifact.checksum
        assert len(_listed(hooks, base, options)) == len(artifacts)

    def test_a_kill_in_the_middle_leaves_nothing_partial(self, hooks: Any, place: Any, tmp_path: Path) -> None:
        if not self.shared:
            pytest.skip("the store belongs to one process")
        artifact = artifact_of(tmp_path / "new", b"k" * 20_000_000)
        _kill_while_storing(type(self).make_plugin, artifact, place(artifact))
        _assert_nothing(hooks, place(artifact), tmp_path)
        back = _round_trip(hooks, artifact, place(artifact), tmp_path / "back")
        assert back.checksum == artifact.checksum


class _Stop(Exception):
    pass


def _stop(done: int, total: int | None) -> None:
    raise _Stop


def _store(hooks: Any, artifact: Artifact, location: Location, progress: Progress = no_progress) -> Any:
    return hooks.aero_store(artifact=artifact, location=location, progress=progress)


def _retrieve(hooks: Any, location: Location, target: Path, progress: Progress = no_progress) -> Artifact:
    back = hooks.aero_retrieve(location=location, target=target, progress=progress)
    assert isinstance(back, Artifact)
    return back


def _round_trip(hooks: Any, artifact: Artifact, location: Location, target: Path) -> Artifact:
    _store(hooks, artifact, location)
    return _retrieve(hooks, location, target)


def _listed(hooks: Any, url: str, options: Mapping[str, JSON]) -> list[StoredObject]:
    listed: Iterator[StoredObject] = hooks.aero_list(prefix=Location(url, "test", options))
    return list(listed)


def _assert_nothing(hooks: Any, location: Location, folder: Path) -> None:
    with pytest.raises(StoreError):
        _retrieve(hooks, location, folder / "nothing")


def _large(path: Path) -> Artifact:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(_LARGE // _BLOCK):
            block = number.to_bytes(4, "big") * (_BLOCK // 4)
            file.write(block)
            digest.update(block)
    return Artifact(str(path), f"sha256:{digest.hexdigest()}", _LARGE)


class _Children:
    """Processes that begin at the same moment, and what each of them answered."""

    def __init__(self, count: int, target: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._answers: Any = context.Queue()
        # Kept: a process lets go of its arguments when it is started, before it has taken them.
        self._barrier = context.Barrier(count)
        self._processes = [
            context.Process(target=target, args=(self._barrier, self._answers, *arguments)) for _ in range(count)
        ]

    def __enter__(self) -> list[str]:
        for process in self._processes:
            process.start()
        return [self._answers.get(timeout=_PATIENCE) for _ in self._processes]

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.join(_PATIENCE)


def _store_all(
    barrier: Any,
    answers: Any,
    make_plugin: Callable[[], object],
    work: list[tuple[Artifact, Location]],
) -> None:
    hooks = hooks_of(make_plugin())
    barrier.wait(_PATIENCE)
    try:
        for artifact, location in work * 3:
            _store(hooks, artifact, location)
    except Exception as problem:  # noqa: BLE001 - the parent shows it
        answers.put(repr(problem))
    else:
        answers.put("done")


def _kill_while_storing(make_plugin: Callable[[], object], artifact: Artifact, location: Location) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_store_and_hang, args=(there, make_plugin, artifact, location))
    process.start()
    there.close()
    assert here.poll(_PATIENCE), "the store told no progress"
    process.kill()
    process.join(_PATIENCE)


def _store_and_hang(
    line: Connection, make_plugin: Callable[[], object], artifact: Artifact, location: Location
) -> None:
    def hang(done: int, total: int | None) -> None:
        line.send_bytes(os.fsencode(str(done)))
        line.recv_bytes()

    _store(hooks_of(make_plugin()), artifact, location, hang)
