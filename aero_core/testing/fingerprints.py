"""The contract of a plugin that serves a fingerprint rule.

Example:
    ```python
    from aero_core.models import Rule
    from aero_core.testing.fingerprints import FingerprintContract

    class TestWords(FingerprintContract):
        make_plugin = WordsPlugin
        rule = Rule("words", {"ignore": ["the"]})
        same = [(b"the cat", b"cat the")]
        different = [(b"a cat", b"a dog")]
        unreadable = [bytes([255])]

        def write_large(self, path, records):
            path.write_bytes(b"twenty characters of " * 5 * records)
    ```
"""

# ruff: noqa: ARG001 - progress is told two things, and not all need both

from __future__ import annotations

import hashlib
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from aero_core.errors import FetchError, InvalidValue
from aero_core.models import Artifact, Progress, Rule
from aero_core.testing.storing import hooks_of, no_progress

_FEW, _MANY = 1_000, 30_000
# Room for buffers that have a fixed size; less than a file of many records takes.
_ROOM = 1 << 19


class FingerprintContract:
    """What every rule does.

    Attributes:
        make_plugin: Makes the plugin, ready for use, with no arguments.
        rule: The rule under test, with options.
        same: Pairs of contents that count as the same.
        different: Pairs of contents that do not.
        unreadable: Contents that the rule cannot read.
    """

    make_plugin: ClassVar[Callable[[], object]]
    rule: ClassVar[Rule]
    same: ClassVar[Sequence[tuple[bytes, bytes]]] = ()
    different: ClassVar[Sequence[tuple[bytes, bytes]]] = ()
    unreadable: ClassVar[Sequence[bytes]] = ()

    def write_large(self, path: Path, records: int) -> None:
        """Write content of so many records, at least 100 bytes each. Override it."""
        raise NotImplementedError

    @pytest.fixture
    def hooks(self) -> Any:
        return hooks_of(type(self).make_plugin())

    @pytest.fixture
    def digest(self, hooks: Any, tmp_path: Path) -> Callable[[bytes], str]:
        """The digest of some content under the rule."""

        def made(content: bytes) -> str:
            path = tmp_path / "content"
            path.write_bytes(content)
            return digest_of(hooks, path, self.rule)

        return made

    def test_equal_content_has_equal_digests(self, digest: Any) -> None:
        for pair in (*self.same, *self.different):
            for content in pair:
                assert digest(content) == digest(content)

    def test_a_digest_is_one_word(self, digest: Any) -> None:
        for one, _ in (*self.same, *self.different):
            assert isinstance(digest(one), str)
            assert digest(one).isascii()
            assert digest(one).isalnum()

    def test_what_does_not_count_changes_nothing(self, digest: Any) -> None:
        for one, other in self.same:
            assert digest(one) == digest(other), f"{one!r} and {other!r} count as the same"

    def test_what_counts_changes_the_digest(self, digest: Any) -> None:
        for one, other in self.different:
            assert digest(one) != digest(other), f"{one!r} and {other!r} differ"

    def test_neither_name_nor_place_counts(self, hooks: Any, tmp_path: Path) -> None:
        one, other = tmp_path / "a.csv", tmp_path / "folder with blank" / "ümläut"
        other.parent.mkdir()
        self.write_large(one, 10)
        shutil.copyfile(one, other)
        assert digest_of(hooks, one, self.rule) == digest_of(hooks, other, self.rule)

    def test_the_file_is_left_alone(self, hooks: Any, tmp_path: Path) -> None:
        path = tmp_path / "content"
        self.write_large(path, 10)
        before = path.read_bytes()
        path.chmod(0o400)
        digest_of(hooks, path, self.rule)
        assert path.read_bytes() == before

    def test_unreadable_content_is_a_lasting_error(self, digest: Any, tmp_path: Path) -> None:
        for content in self.unreadable:
            with pytest.raises(FetchError) as caught:
                digest(content)
            assert not caught.value.retryable
            assert "\n" not in str(caught.value)
            assert str(tmp_path) not in str(caught.value), "a path in the run's scratch folder tells nothing"

    def test_an_unknown_option_is_named(self, hooks: Any, tmp_path: Path) -> None:
        path = tmp_path / "content"
        self.write_large(path, 1)
        rule = Rule(self.rule.name, {**self.rule.options, "no_such_option": 7})
        with pytest.raises(InvalidValue, match=r"no_such_option.*7"):
            digest_of(hooks, path, rule)
        with pytest.raises(InvalidValue, match=r"no_such_option.*7"):
            hooks.aero_check_rule(rule=rule)

    def test_its_options_are_taken_at_registration(self, hooks: Any) -> None:
        hooks.aero_check_rule(rule=self.rule)

    def test_another_rule_is_none_of_its_business(self, hooks: Any, tmp_path: Path) -> None:
        path = tmp_path / "content"
        self.write_large(path, 1)
        assert _fingerprint(hooks, _artifact(path), Rule("no-such-rule")) is None

    def test_progress_tells_bytes_of_the_file(self, hooks: Any, tmp_path: Path) -> None:
        """A rule that needs not read the file tells nothing."""
        path = tmp_path / "content"
        self.write_large(path, _FEW)
        told: list[tuple[int, int | None]] = []
        _fingerprint(hooks, _artifact(path), self.rule, lambda done, total: told.append((done, total)))
        size = path.stat().st_size
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert all(0 <= done <= size for done, _ in told)
        assert {total for _, total in told} <= {size, None}

    @pytest.mark.parametrize("cancelled", [RuntimeError("stop"), OSError("stop"), ValueError("stop")])
    def test_what_progress_raises_passes_through(self, hooks: Any, tmp_path: Path, cancelled: Exception) -> None:
        path = tmp_path / "content"
        self.write_large(path, _FEW)
        told = []

        def cancel(done: int, total: int | None) -> None:
            told.append(done)
            raise cancelled

        try:
            _fingerprint(hooks, _artifact(path), self.rule, cancel)
        except Exception as caught:  # noqa: BLE001 - it may be any, and must be the very same
            assert caught is cancelled
        else:
            assert not told

    def test_memory_does_not_grow_with_the_file(self, hooks: Any, tmp_path: Path) -> None:
        few, many = (self._peak(hooks, tmp_path / str(n), n) for n in (_FEW, _MANY))
        assert (tmp_path / str(_MANY)).stat().st_size > 4 * _ROOM
        assert many < few + _ROOM

    def _peak(self, hooks: Any, path: Path, records: int) -> int:
        self.write_large(path, records)
        artifact = _artifact(path)
        if records == _FEW:
            # What the rule loads when it is first used is not the file's.
            _fingerprint(hooks, artifact, self.rule)
        tracemalloc.start()
        try:
            _fingerprint(hooks, artifact, self.rule)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def digest_of(hooks: Any, path: Path, rule: Rule) -> str:
    """A file's digest under a rule."""
    answer = _fingerprint(hooks, _artifact(path), rule)
    assert isinstance(answer, str)
    return answer


def _fingerprint(hooks: Any, artifact: Artifact, rule: Rule, progress: Progress = no_progress) -> Any:
    return hooks.aero_fingerprint(artifact=artifact, rule=rule, progress=progress)


def _artifact(path: Path) -> Artifact:
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return Artifact(str(path), f"sha256:{checksum}", path.stat().st_size)
