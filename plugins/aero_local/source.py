"""Files of this machine as sources: `file:` URLs."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from aero_core.errors import ContentGone, FetchError
from aero_core.models import (
    Artifact,
    Fetched,
    NotModified,
    Previous,
    Progress,
    SourceMember,
    Validators,
)
from aero_local.copying import Guarded, TooLarge, copy, lasting
from aero_local.paths import media_type_of, sniff_encoding, suffix_of, url_to_path

_KEYS = ("mtime_ns", "size", "inode")
_ATTEMPTS = 3
# A file may be written again within one tick of its file system's clock (2 s on the coarsest) and
# show the same mtime, so what was written this lately does not vouch for its content next time.
_UNSETTLED_NS = 2 * 10**9
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def fetch(
    member: SourceMember,
    target: Path,
    previous: Previous | None,
    expected: Validators | None,
    progress: Progress,
) -> Fetched | NotModified:
    """Copy a file, or say that it is as before; see `aero_core.hookspecs.aero_fetch`."""
    path = url_to_path(member.url, FetchError)
    guarded = Guarded(progress)
    for _ in range(_ATTEMPTS):
        try:
            answer = _fetch_once(path, member, target, previous, expected, guarded)
        except OSError as problem:
            if problem is guarded.raised:
                raise
            raise _explained(path, target, problem) from problem
        if answer is not None:
            return answer
    raise FetchError(
        f"{path} changed while it was read, {_ATTEMPTS} times: have its writer make it under "
        "another name and rename it when it is done"
    )


def _fetch_once(
    path: Path,
    member: SourceMember,
    target: Path,
    previous: Previous | None,
    expected: Validators | None,
    progress: Progress,
) -> Fetched | NotModified | None:
    """One try; None when the file changed meanwhile."""
    source, before = _open(path)
    try:
        validators = _validators(before)
        if expected is not None and not _same(validators, expected):
            raise ContentGone(f"{path} is not what it was: it was replaced or written to since it was recorded")
        known = previous.validators if previous is not None and expected is None else {}
        if _same(validators, known) and "unsettled" not in known:
            return NotModified(known, "mtime")
        if before.st_size > member.limit:
            raise FetchError(
                f"{path} has {before.st_size} bytes, the limit is {member.limit}: raise it with limit=",
                retryable=False,
            )
        checksum, size = _copy(source, target, before.st_size, progress)
        if size != before.st_size or not _unchanged(path, source, before):
            target.unlink()
            return None
    finally:
        os.close(source)
    if expected is None and previous is not None and checksum == previous.checksum:
        target.unlink()
        return NotModified(validators, "bytes")
    media_type = media_type_of(path.name)
    artifact = Artifact(
        path=str(target),
        checksum=checksum,
        size=size,
        media_type=media_type,
        encoding=sniff_encoding(target, media_type),
        suffix=suffix_of(path.name),
    )
    return Fetched(artifact, validators, "bytes")


def _open(path: Path) -> tuple[int, os.stat_result]:
    """Open a regular file and nothing else, without ever waiting for a pipe's other end."""
    _must_be_file(path, path.stat())
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        _must_be_file(path, found)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, found


def _must_be_file(path: Path, found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kind = next((name for test, name in _KINDS if test(found.st_mode)), "no regular file")
    raise FetchError(f"{path} is {kind}: a file: source is one regular file", retryable=False)


def _copy(source: int, target: Path, total: int, progress: Progress) -> tuple[str, int]:
    """Copy as many bytes as there were; with more of them coming it might never end."""
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        return copy(source, writer, progress, total, limit=total)
    except TooLarge:
        return "", -1
    finally:
        os.close(writer)


def _validators(found: os.stat_result) -> dict[str, str]:
    values = {
        "mtime_ns": str(found.st_mtime_ns),
        "size": str(found.st_size),
        "inode": str(found.st_ino),
    }
    if time.time_ns() - found.st_mtime_ns < _UNSETTLED_NS:
        values["unsettled"] = "yes"
    return values


def _same(one: Validators, other: Validators) -> bool:
    return all(one.get(key) == other.get(key) for key in _KEYS)


def _unchanged(path: Path, source: int, before: os.stat_result) -> bool:
    """Whether neither the file that was read nor the file of that name is another than before."""
    marks = _validators(before)
    return all(_same(marks, _validators(now)) for now in (os.fstat(source), path.stat()))


def _explained(path: Path, target: Path, problem: OSError) -> FetchError:
    if problem.filename is None or str(problem.filename) == str(target):
        return FetchError(f"{path} could not be copied to {target.parent}: {problem.strerror}")
    advice = {
        "FileNotFoundError": "there is no such file",
        "NotADirectoryError": "a part of its path is no folder",
        "PermissionError": f"user {os.geteuid()} has no permission to read it",
    }.get(type(problem).__name__, problem.strerror or str(problem))
    return FetchError(f"{path} cannot be read: {advice}", retryable=not lasting(problem))
