from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aero_core.errors import ContentGone, FetchError
from aero_core.models import Fetched, NotModified, Previous, SourceMember
from aero_core.testing.fetching import FetchContract
from aero_local import LocalPlugin, source
from aero_local.paths import path_to_url
from tests.local.unprivileged import as_nobody

LONG_AGO = 1_600_000_000


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def publish(self, name: str, body: bytes, /) -> str:
        (self.path / name).write_bytes(body)
        return path_to_url(self.path / name)

    def remove(self, name: str, /) -> None:
        (self.path / name).unlink()


class TestFileSource(FetchContract):
    decided_by = ("mtime", "bytes")
    odd_names = (*FetchContract.odd_names, "a?b#c", "-", "new\nline", os.fsdecode(b"\xff.csv"))

    @pytest.fixture
    def plugin(self) -> object:
        return LocalPlugin()

    @pytest.fixture
    def source(self, tmp_path: Path) -> Folder:
        (tmp_path / "source").mkdir()
        return Folder(tmp_path / "source")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_bytes(b"1,2\n")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., Any]:
    def call(path: Path, previous: Previous | None = None, expected: Any = None, limit: int = 10**9) -> Any:
        member = SourceMember(path_to_url(path), limit=limit)
        target = tmp_path / "target"
        return source.fetch(member, target, previous, expected, lambda *_: None)

    return call


def known(fetched: Fetched) -> Previous:
    return Previous(fetched.validators, fetched.artifact.checksum, fetched.artifact.size)


def test_tells_what_kind_of_file_it_is(fetch: Any, file: Path) -> None:
    artifact = fetch(file).artifact
    assert (artifact.media_type, artifact.encoding, artifact.suffix) == (
        "text/csv",
        "utf-8",
        ".csv",
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv.gz", b"\x1f\x8b", ("application/gzip", None, ".csv.gz")),
        ("a.tar.xz", b"\xfd7", ("application/x-xz", None, ".tar.xz")),
        ("a.geojson", b"{}", ("application/geo+json", "utf-8", ".geojson")),
        ("A.JSON", b"{}", ("application/json", "utf-8", ".JSON")),
        ("a.txt", "ä".encode("utf-16"), ("text/plain", "utf-16", ".txt")),
        ("a.txt", "ä".encode("utf-32"), ("text/plain", "utf-32", ".txt")),
        ("a.txt", b"\xe4", ("text/plain", None, ".txt")),
        ("a.txt", b"x" * 65535 + "ä".encode(), ("text/plain", "utf-8", ".txt")),
        ("a.png", b"\x89PNG", ("image/png", None, ".png")),
        ("notes.of a meeting", b"x", (None, None, "")),
        ("README", b"x", (None, None, "")),
        (".hidden", b"x", (None, None, "")),
        ("v1.2.csv", b"x", ("text/csv", "utf-8", ".csv")),
    ],
)
def test_name_and_first_bytes_tell_the_kind(
    fetch: Any, tmp_path: Path, name: str, content: bytes, expected: tuple[str | None, ...]
) -> None:
    (tmp_path / name).write_bytes(content)
    artifact = fetch(tmp_path / name).artifact
    assert (artifact.media_type, artifact.encoding, artifact.suffix) == expected


def test_untouched_file_is_not_read(fetch: Any, file: Path, monkeypatch: Any) -> None:
    before = known(fetch(file))
    monkeypatch.setattr(source, "_copy", None)
    assert fetch(file, before) == NotModified(before.validators, "mtime")


def test_touched_file_is_compared_by_its_bytes(fetch: Any, file: Path, tmp_path: Path) -> None:
    before = known(fetch(file))
    os.utime(file, (LONG_AGO + 9, LONG_AGO + 9))
    (tmp_path / "target").unlink()
    answer = fetch(file, before)
    assert isinstance(answer, NotModified)
    assert answer.decided_by == "bytes"
    assert answer.validators != before.validators
    assert not (tmp_path / "target").exists()


def test_file_written_just_now_does_not_vouch_for_itself(fetch: Any, file: Path) -> None:
    file.write_bytes(b"3,4\n")
    stamp = file.stat().st_mtime_ns
    before = known(fetch(file))
    file.write_bytes(b"5,6\n")
    os.utime(file, ns=(stamp, stamp))
    assert isinstance(fetch(file, before), Fetched)


def test_replaced_file_of_equal_time_and_size_is_read(fetch: Any, file: Path) -> None:
    before = known(fetch(file))
    other = file.with_name("new")
    other.write_bytes(b"3,4\n")
    os.utime(other, (LONG_AGO, LONG_AGO))
    other.replace(file)
    assert isinstance(fetch(file, before), Fetched)


def test_expected_content_is_read(fetch: Any, file: Path) -> None:
    validators = fetch(file).validators
    assert isinstance(fetch(file, None, validators), Fetched)


def test_expected_content_that_was_just_written_is_read(fetch: Any, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"1")
    validators = fetch(tmp_path / "new").validators
    os.utime(tmp_path / "new", ns=(0, int(validators["mtime_ns"])))
    assert isinstance(fetch(tmp_path / "new", None, validators), Fetched)


def test_expected_content_that_is_gone_is_refused(fetch: Any, file: Path) -> None:
    validators = fetch(file).validators
    file.write_bytes(b"9,9\n")
    with pytest.raises(ContentGone) as caught:
        fetch(file, None, validators)
    assert not caught.value.retryable


def test_file_that_changes_once_while_it_is_read_is_read_again(file: Path, tmp_path: Path) -> None:
    content = [b"x" * 100]

    def change(*_: Any) -> None:
        if content:
            file.write_bytes(content.pop())

    answer = source.fetch(SourceMember(path_to_url(file)), tmp_path / "target", None, None, change)
    assert isinstance(answer, Fetched)
    assert (tmp_path / "target").read_bytes() == b"x" * 100


@pytest.mark.parametrize("replace", [True, False])
def test_file_that_never_rests_is_a_passing_error(file: Path, tmp_path: Path, replace: bool) -> None:
    count = iter(range(100))

    def change(*_: Any) -> None:
        place = file.with_name("new") if replace else file
        place.write_bytes(b"x" * (10 + next(count)))
        place.replace(file)

    with pytest.raises(FetchError, match="changed while it was read, 3 times") as caught:
        source.fetch(SourceMember(path_to_url(file)), tmp_path / "target", None, None, change)
    assert caught.value.retryable


def test_file_that_grows_over_the_limit_while_it_is_read_is_refused(file: Path, tmp_path: Path) -> None:
    def grow(*_: Any) -> None:
        with file.open("ab") as more:
            more.write(b"x" * 1000)

    with pytest.raises(FetchError, match=r"has \d+ bytes, the limit is 500"):
        source.fetch(SourceMember(path_to_url(file), limit=500), tmp_path / "target", None, None, grow)


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)
        server.bind(path.name)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def below_a_file(path: Path) -> None:
    path.symlink_to(path.with_name("data.csv") / "below")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (folder, "is a folder"),
        (pipe, "is a named pipe"),
        (listening_socket, "is a socket"),
        (device, "is a device"),
        (loop, "cannot be read: "),
        (dangling, "there is no such file"),
        (below_a_file, "a part of its path is no folder"),
        (lambda path: None, "there is no such file"),
    ],
)
@pytest.mark.timeout(20)
def test_what_is_no_file_is_one_clear_line(
    fetch: Any, file: Path, tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    make(tmp_path / "odd")
    with pytest.raises(FetchError, match=words) as caught:
        fetch(tmp_path / "odd")
    assert not caught.value.retryable
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(20)
def test_file_that_becomes_a_pipe_is_not_waited_for(fetch: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = file.stat()
    file.unlink()
    os.mkfifo(file)
    monkeypatch.setattr(Path, "stat", lambda self: found)
    with pytest.raises(FetchError, match="named pipe"):
        fetch(file)


def test_very_long_name_is_one_clear_line(fetch: Any, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"cannot be read: .*long"):
        fetch(tmp_path / ("x" * 300))


def test_file_without_permission_is_one_clear_line(file: Path, tmp_path: Path) -> None:
    file.chmod(0)
    printed = as_nobody(
        f"""
        from pathlib import Path
        from aero_local import source
        from aero_core.models import SourceMember
        try:
            source.fetch(SourceMember({path_to_url(file)!r}), Path("/x"), None, None, print)
        except Exception as problem:
            print(type(problem).__name__, problem.retryable, problem)
        """,
        tmp_path,
    )
    assert printed.startswith("FetchError False")
    assert "has no permission to read it" in printed
    assert printed.count("\n") == 1


def test_trouble_with_the_target_names_it(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"could not be copied to .*/no"):
        source.fetch(SourceMember(path_to_url(file)), tmp_path / "no" / "t", None, None, lambda *_: None)


@pytest.mark.parametrize(
    "url", ["file://data.example.org/x", "file:x", "file:///a%00b", "file:///a?b=c", "file:///a#b"]
)
def test_url_that_names_no_file_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(FetchError) as caught:
        source.fetch(SourceMember(url), tmp_path / "t", None, None, lambda *_: None)
    assert not caught.value.retryable


@pytest.mark.parametrize("form", ["file://localhost{}", "file:{}", "FILE://{}"])
def test_other_spellings_of_a_url(file: Path, tmp_path: Path, form: str) -> None:
    member = SourceMember(form.format(file))
    answer = source.fetch(member, tmp_path / "t", None, None, lambda *_: None)
    assert isinstance(answer, Fetched)
