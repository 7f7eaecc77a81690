"""The contract of a plugin that fetches.

Example:
    ```python
    import pytest
    from aero_core.testing.fetching import FetchContract

    class TestGopher(FetchContract):
        @pytest.fixture
        def plugin(self):
            return GopherPlugin()

        @pytest.fixture
        def source(self):
            with gopher_server() as server:
                yield server  # has publish(name, content) and remove(name)
    ```
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pluggy
import pytest

from aero_core import hookspecs
from aero_core.errors import FetchError
from aero_core.models import (
    Family,
    Fetched,
    NotModified,
    Previous,
    Progress,
    SourceMember,
    Validators,
)

#: Its arguments come as JSON on standard input; `plugin` is `module` or `module:name`.
_FRESH = """
import importlib, json, resource, sys
from pathlib import Path
import pluggy
from aero_core import hookspecs
from aero_core.models import Fetched, SourceMember
task = json.load(sys.stdin)
module, _, name = task["plugin"].partition(":")
plugin = importlib.import_module(module)
if name:
    plugin = getattr(plugin, name)
plugin = plugin() if isinstance(plugin, type) else plugin
manager = pluggy.PluginManager(hookspecs.NAMESPACE)
manager.add_hookspecs(hookspecs)
manager.register(plugin)
found = manager.hook.aero_fetch(
    member=SourceMember(task["url"]), target=Path(task["target"]), previous=None, expected=None,
    progress=lambda done, total: None,
)
assert isinstance(found, Fetched), found
manager.hook.aero_shutdown()
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(json.dumps({"checksum": found.artifact.checksum, "peak": peak}))
"""


class Publisher(Protocol):
    """What the `source` fixture gives: a place that the plugin fetches from."""

    def publish(self, name: str, body: bytes, /) -> str:
        """Put content at a name, or change it, and answer its URL."""
        ...

    def remove(self, name: str, /) -> None:
        """Take content away."""
        ...


def silent(_done: int, _total: int | None) -> None:
    """Progress that nobody watches."""


class Fetcher:
    """Calls the plugin's hooks as the core does, whatever arguments they name."""

    def __init__(self, plugin: object, folder: Path) -> None:
        self._manager = pluggy.PluginManager(hookspecs.NAMESPACE)
        self._manager.add_hookspecs(hookspecs)
        self._manager.register(plugin)
        self._folder = folder
        self._count = 0

    @property
    def hook(self) -> Any:
        """All hooks of the plugin."""
        return self._manager.hook

    def target(self) -> Path:
        """A file that does not exist, alone in a folder that does."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        return folder / "target"

    def __call__(
        self,
        url: str,
        *,
        target: Path | None = None,
        previous: Previous | None = None,
        expected: Validators | None = None,
        progress: Progress = silent,
        **member: Any,
    ) -> Fetched | NotModified | None:
        answer: Fetched | NotModified | None = self.hook.aero_fetch(
            member=SourceMember(url, **member),
            target=target or self.target(),
            previous=previous,
            expected=expected,
            progress=progress,
        )
        return answer

    def new(self, url: str, **how: Any) -> Fetched:
        """Fetch what must come as new content."""
        answer = self(url, **how)
        assert isinstance(answer, Fetched), answer
        return answer


def known(fetched: Fetched) -> Previous:
    """What the core knows of a fetch at the next one."""
    return Previous(fetched.validators, fetched.artifact.checksum, fetched.artifact.size)


def checksum(content: bytes) -> str:
    """As artifacts carry it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class FetchContract:
    """Subclass it as `Test...` and give the two fixtures `plugin` and `source`.

    Attributes:
        decided_by: What may decide that content is as before.
        suffixes: Whether names keep their suffix on the way.
        large: Size of the object that must not fill the memory.
        odd_names: Names that the source can publish.
    """

    decided_by: tuple[str, ...] = ("etag", "last-modified", "size", "bytes")
    suffixes: bool = True
    large: int = 100_000_000
    odd_names: tuple[str, ...] = (
        "two words.csv",
        "größe.csv",
        "数据.csv",
        "a+b&c=d;e,f.csv",
        "%41.csv",
    )

    @pytest.fixture
    def plugin(self) -> object:
        """The plugin: a module, or an object that is ready for use."""
        raise NotImplementedError

    @pytest.fixture
    def source(self) -> Publisher:
        """Where it fetches from."""
        raise NotImplementedError

    @pytest.fixture
    def plugin_path(self, plugin: object) -> str:
        """How a fresh process finds the plugin: `module` or `module:name`."""
        if isinstance(plugin, ModuleType):
            return plugin.__name__
        return f"{type(plugin).__module__}:{type(plugin).__qualname__}"

    @pytest.fixture
    def fetch(self, plugin: object, tmp_path: Path) -> Iterator[Fetcher]:
        """The plugin's `aero_fetch`, called as the core does."""
        folder = tmp_path / "fetched"
        folder.mkdir()
        fetcher = Fetcher(plugin, folder)
        yield fetcher
        fetcher.hook.aero_shutdown()

    def test_declares_its_schemes(self, fetch: Fetcher, source: Publisher) -> None:
        scheme = source.publish("data.csv", b"x").partition(":")[0]
        provided = [one for answer in fetch.hook.aero_provides() for one in answer]
        assert scheme in [one.name for one in provided if one.family is Family.FETCH]

    def test_leaves_other_schemes_alone(self, fetch: Fetcher) -> None:
        assert fetch("unheard-of://somewhere/data.csv") is None

    def test_fetches_the_bytes(self, fetch: Fetcher, source: Publisher) -> None:
        content = bytes(range(256)) * 999
        target = fetch.target()
        artifact = fetch.new(source.publish("data.bin", content), target=target).artifact
        assert target.read_bytes() == content
        assert Path(artifact.path) == target
        assert (artifact.checksum, artifact.size) == (checksum(content), len(content))

    def test_fetches_nothing(self, fetch: Fetcher, source: Publisher) -> None:
        target = fetch.target()
        artifact = fetch.new(source.publish("empty.csv", b""), target=target).artifact
        assert target.read_bytes() == b""
        assert (artifact.checksum, artifact.size) == (checksum(b""), 0)

    def test_keeps_the_suffix(self, fetch: Fetcher, source: Publisher) -> None:
        if not self.suffixes:
            pytest.skip("its names have no suffix")
        assert fetch.new(source.publish("data.tar.gz", b"x")).artifact.suffix == ".tar.gz"

    def test_writes_the_target_alone(self, fetch: Fetcher, source: Publisher) -> None:
        target = fetch.target()
        fetch.new(source.publish("data.csv", b"1"), target=target)
        assert list(target.parent.iterdir()) == [target]

    def test_sees_that_nothing_changed(self, fetch: Fetcher, source: Publisher) -> None:
        url = source.publish("data.csv", b"1,2\n")
        before = known(fetch.new(url))
        target = fetch.target()
        answer = fetch(url, previous=before, target=target)
        assert isinstance(answer, NotModified)
        assert answer.decided_by in self.decided_by
        assert list(target.parent.iterdir()) == []

    def test_what_nothing_changed_answers_serves_again(self, fetch: Fetcher, source: Publisher) -> None:
        url = source.publish("data.csv", b"1,2\n")
        first = known(fetch.new(url))
        second = fetch(url, previous=first)
        assert second is not None
        third = Previous(second.validators, first.checksum, first.size)
        assert isinstance(fetch(url, previous=third), NotModified)
        source.publish("data.csv", b"1,2\n3,4\n")
        assert isinstance(fetch(url, previous=third), Fetched)

    @pytest.mark.parametrize("content", [b"3,4\n", b"longer\n", b""])
    def test_sees_a_change(self, fetch: Fetcher, source: Publisher, content: bytes) -> None:
        url = source.publish("data.csv", b"1,2\n")
        before = known(fetch.new(url))
        source.publish("data.csv", content)
        after = fetch.new(url, previous=before)
        assert after.artifact.checksum == checksum(content)
        assert after.decided_by

    def test_an_empty_previous_always_fetches(self, fetch: Fetcher, source: Publisher) -> None:
        fetch.new(source.publish("data.csv", b"1"), previous=Previous())

    def test_a_missing_object_is_a_permanent_error(self, fetch: Fetcher, source: Publisher) -> None:
        url = source.publish("data.csv", b"1")
        source.remove("data.csv")
        with pytest.raises(FetchError) as caught:
            fetch(url)
        assert not caught.value.retryable
        assert str(caught.value)
        assert "\n" not in str(caught.value)

    def test_content_at_the_limit_is_taken(self, fetch: Fetcher, source: Publisher) -> None:
        fetch.new(source.publish("data.csv", b"x" * 1000), limit=1000)

    def test_content_above_the_limit_is_refused(self, fetch: Fetcher, source: Publisher) -> None:
        url = source.publish("data.csv", b"x" * 1001)
        with pytest.raises(FetchError, match="limit") as caught:
            fetch(url, limit=1000)
        assert not caught.value.retryable

    def test_odd_names(self, fetch: Fetcher, source: Publisher) -> None:
        for number, name in enumerate(self.odd_names):
            content = b"%d" % number
            assert fetch.new(source.publish(name, content)).artifact.checksum == checksum(content)

    def test_progress_is_told(self, fetch: Fetcher, source: Publisher) -> None:
        told: list[tuple[int, int | None]] = []
        size = 3_000_000
        url = source.publish("data.bin", bytes(size))
        fetch.new(url, progress=lambda done, total: told.append((done, total)))
        assert told[-1][0] == size
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert {total for _, total in told} <= {None, size}

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, TimeoutError, ValueError])
    def test_what_progress_raises_passes_through(
        self, fetch: Fetcher, source: Publisher, error: type[BaseException]
    ) -> None:
        url, cancelled = source.publish("data.csv", b"x" * 3_000_000), error("cancelled")

        def cancel(_done: int, _total: int | None) -> None:
            raise cancelled

        with pytest.raises(error) as caught:
            fetch(url, progress=cancel)
        assert caught.value is cancelled
        fetch.new(url)

    def test_runs_in_a_fresh_process_in_bounded_memory(
        self, source: Publisher, plugin_path: str, tmp_path: Path
    ) -> None:
        small = self._fresh(source.publish("small.bin", b"x"), plugin_path, tmp_path / "small")
        content = bytes(self.large)
        large = self._fresh(source.publish("large.bin", content), plugin_path, tmp_path / "large")
        assert small["checksum"] == checksum(b"x")
        assert large["checksum"] == checksum(content)
        assert large["peak"] - small["peak"] < min(self.large / 2, 50_000_000)

    def _fresh(self, url: str, plugin_path: str, target: Path) -> dict[str, Any]:
        task = json.dumps({"plugin": plugin_path, "url": url, "target": str(target)})
        command = [sys.executable, "-c", _FRESH]
        done = subprocess.run(command, input=task, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
