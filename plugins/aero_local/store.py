"""Folders of this machine as stores: `file:` URLs, content-addressed by the core.

A location is written under a temporary name in its folder and renamed, so that it is there in
whole or not at all. A store that is killed leaves a temporary name behind, which is listed and
collected like any other garbage.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from aero_core.errors import StoreError
from aero_core.models import Artifact, Location, Progress, StoredObject
from aero_local.copying import Guarded, copy, fsync_folder, lasting, read
from aero_local.paths import media_type_of, path_to_url, suffix_of, url_to_path

T = TypeVar("T")

#: What AERO itself fetched lies in scratch at `fetched/N/content`: nobody else can hold it open.
FETCHED, CONTENT = "fetched", "content"
_TEMPORARY = ".storing-"
# A folder that is empty for a moment may be removed by somebody's collecting, however often.
_ATTEMPTS = 100
_READ_ONLY = 0o444
_ADVICE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}


def store(artifact: Artifact, location: Location, progress: Progress) -> str:
    """Put a file at a location; see `aero_core.hookspecs.aero_store`."""
    target = _path(location)
    guarded = Guarded(progress)
    try:
        if not _is_there(target, artifact, guarded):
            _put(artifact, target, guarded)
        fsync_folder(target.parent)
    except OSError as problem:
        if problem is guarded.raised:
            raise
        raise _explained(f"{artifact.path} cannot be stored as {target}", problem) from problem
    progress(artifact.size, artifact.size)
    return location.url


def retrieve(location: Location, target: Path, progress: Progress) -> Artifact:
    """Copy a location's bytes; see `aero_core.hookspecs.aero_retrieve`."""
    path = _path(location)
    guarded = Guarded(progress)
    try:
        checksum, size = _retrieve(path, target, guarded)
    except OSError as problem:
        if problem is guarded.raised:
            raise
        missing = isinstance(problem, (FileNotFoundError, NotADirectoryError))
        if missing and str(problem.filename) == str(path):
            raise StoreError(f"{path} is not in the store", retryable=False) from None
        raise _explained(f"{path} cannot be copied to {target}", problem) from problem
    return Artifact(
        path=str(target),
        checksum=checksum,
        size=size,
        media_type=media_type_of(path.name),
        suffix=suffix_of(path.name),
    )


def link(location: Location) -> str | None:
    """The `file:` URL of stored bytes, or None where there are none."""
    path = _path(location)
    return path_to_url(path) if path.is_file() else None


def delete(location: Location) -> bool:
    """Remove a location and the folders that it leaves empty; True when it is gone."""
    path = _path(location)
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:
        return True
    except OSError as problem:
        raise _explained(f"{path} cannot be removed", problem) from problem
    base = _base(location)
    # A location is <store>/<data>/<two digits>/<name>: what lies above these two is not ours.
    for folder in path.parents[:2]:
        if folder == base:
            break
        try:
            folder.rmdir()
        except OSError:
            break
    return True


def listing(prefix: Location) -> Iterator[StoredObject]:
    """All regular files below a location, or the one that is there; a folder that is not there is empty."""
    path = _path(prefix)
    try:
        # Followed, as `retrieve` does: what somebody moved elsewhere and left a link to is there.
        itself = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as problem:
        raise _explained(f"{path} cannot be listed", problem) from problem
    if stat.S_ISREG(itself.st_mode):
        yield _object(prefix.url, itself)
        return
    pending = [path]
    while pending:
        folder = pending.pop()
        try:
            entries = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as problem:
            raise _explained(f"{folder} cannot be listed", problem) from problem
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif (found := _listed(entry)) is not None:
                    yield found


def _listed(entry: os.DirEntry[str]) -> StoredObject | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return _object(path_to_url(entry.path), found) if stat.S_ISREG(found.st_mode) else None


def _object(url: str, found: os.stat_result) -> StoredObject:
    return StoredObject(url, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _path(location: Location) -> Path:
    """The path of a location, which must lie in its store whatever its URL says."""
    path = url_to_path(location.url, StoreError)
    base = _base(location)
    if ".." in path.parts or (base is not None and not path.is_relative_to(base)):
        raise StoreError(f"{location.url!r} leads out of its store", retryable=False)
    return path


def _base(location: Location) -> Path | None:
    url = location.options.get("url")
    if isinstance(url, str) and url.startswith("file:"):
        return url_to_path(url, StoreError)
    return None


def _is_there(target: Path, artifact: Artifact, progress: Progress) -> bool:
    """Whether the very content is stored already; then its age begins anew.

    A version is about to name it: collecting leaves young objects alone, and what somebody damaged is written again.
    """
    try:
        found = target.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != artifact.size:
            return False
        stored = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    try:
        if read(stored, progress, found.st_size)[0] != artifact.checksum:
            return False
    finally:
        os.close(stored)
    try:
        os.utime(target)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    return True


def _put(artifact: Artifact, target: Path, progress: Progress) -> None:
    temporary = target.with_name(_TEMPORARY + uuid.uuid4().hex)
    try:
        if not _link(artifact, temporary):
            _copy(artifact, temporary, progress)
        temporary.replace(target)
    finally:
        # Also after the rename: between two names of one file it does nothing.
        temporary.unlink(missing_ok=True)


def _link(artifact: Artifact, temporary: Path) -> bool:
    """Give AERO's own scratch file a second name, where that is safe and the file systems can."""
    source = Path(artifact.path)
    if (source.parent.parent.name, source.name) != (FETCHED, CONTENT):
        return False
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size != artifact.size:
            return False
        os.fchmod(descriptor, found.st_mode & _READ_ONLY)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        _in_folder(temporary, lambda: os.link(source, temporary, follow_symlinks=False))
    except OSError:
        # Another device, no links there, or a limit: the copy that follows tells what is wrong.
        return False
    return True


def _copy(artifact: Artifact, temporary: Path, progress: Progress) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    source = os.open(artifact.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writer = _in_folder(temporary, lambda: os.open(temporary, flags, _READ_ONLY))
        try:
            checksum, size = copy(source, writer, progress, artifact.size)
            os.fsync(writer)
        finally:
            os.close(writer)
    finally:
        os.close(source)
    if checksum != artifact.checksum:
        raise StoreError(
            f"{artifact.path} changed before it was stored: it has {size} bytes of {checksum}, "
            f"expected {artifact.size} of {artifact.checksum}"
        )


def _in_folder(path: Path, make: Callable[[], T]) -> T:
    """Make a file, and its folder if need be; again if somebody removes the empty folder first."""
    for _ in range(_ATTEMPTS):
        try:
            return make()
        except FileNotFoundError:
            with suppress(FileNotFoundError):
                _make_folder(path.parent)
    return make()


def _make_folder(folder: Path) -> None:
    """Make a folder and the ones above it, durably."""
    try:
        folder.mkdir()
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def _retrieve(path: Path, target: Path, progress: Progress) -> tuple[str, int]:
    source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is no regular file", retryable=False)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        writer = os.open(target, flags, 0o666)
        try:
            return copy(source, writer, progress, found.st_size)
        finally:
            os.close(writer)
    finally:
        os.close(source)


def _explained(what: str, problem: OSError) -> StoreError:
    why = _ADVICE.get(problem.errno or 0) or problem.strerror or str(problem)
    if isinstance(problem, PermissionError) and problem.filename is not None:
        why = f"user {os.geteuid()} has no permission for {os.fspath(problem.filename)}"
    return StoreError(f"{what}: {why}", retryable=not lasting(problem))
