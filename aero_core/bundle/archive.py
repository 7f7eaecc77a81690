"""Bundles as files: one deterministic archive for equal code, unpacked, and verified before each use."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from aero_core.bundle.describe import Description
from aero_core.errors import StoreError
from aero_core.models import Bundle

_ID = re.compile(r"sha256:([0-9a-f]{64})")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_KEPT = "bundle.zip"

#: Size and SHA-256 of each file of a bundle.
_Manifest = Mapping[str, tuple[int, bytes]]
# Of bundles that this process has verified: nothing in a folder that functions can write is evidence.
_manifests: dict[str, _Manifest] = {}


def pack(description: Description, path: Path) -> Bundle:
    """Write a function's code into an archive; equal code makes equal bytes, and so an equal id.

    Args:
        description: The code.
        path: The archive to write. It appears whole, or not at all.

    Raises:
        StoreError: It cannot be written.
    """
    content = _zipped(description.files)
    _replace(path, content)
    return Bundle(
        id="sha256:" + hashlib.sha256(content).hexdigest(),
        digest=description.digest,
        path=str(path),
        entry=description.entry,
        function=description.function,
    )


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from None


def _zipped(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    # Not compressed: what a compressor makes differs between its versions.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    return target.getvalue()


@contextmanager
def unpacked(archive: Callable[[], Path], bundle_id: str, cache: Path) -> Iterator[Path]:
    """A folder with exactly a bundle's files, which is nobody else's for as long as the `with` block lasts.

    Functions can write beside their own file. So a folder is used by one run at a time, and is compared
    with the bundle before each use; one that was changed is unpacked anew.

    Args:
        archive: Brings the bundle. Not called where the cache has it.
        bundle_id: `sha256:<hex>` of the archive.
        cache: Folder for unpacked bundles; several processes may use it at once.

    Raises:
        StoreError: The archive is not the one of that id, names files outside itself, or cannot be
            read or unpacked.
    """
    folder, lock = _free_folder(cache / _hex(bundle_id))
    try:
        _make_whole(folder, archive, bundle_id)
        yield folder
    finally:
        # Not unlocked: what was forked meanwhile, and still runs, keeps the folder to itself.
        with suppress(OSError):
            os.close(lock)


def _free_folder(home: Path) -> tuple[Path, int]:
    """The first folder that nobody uses, and the lock that keeps it so; it may not exist yet."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        number = 0
        while (lock := _lock(home / f"{number}.lock")) is None:
            number += 1
    except OSError as error:
        raise StoreError(f"cannot unpack code into {home}: {error.strerror or error}") from None
    return home / str(number), lock


def _lock(path: Path) -> int | None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return lock


def _make_whole(folder: Path, archive: Callable[[], Path], bundle_id: str) -> None:
    known = _manifests.get(bundle_id)
    if known is not None and _is_whole(folder, known):
        return
    files = _files(folder.with_name(_KEPT), archive, bundle_id)
    known = {name: (len(content), hashlib.sha256(content).digest()) for name, content in files.items()}
    if not _is_whole(folder, known):
        _write(folder, files)
    _manifests[bundle_id] = known


def _is_whole(folder: Path, known: _Manifest) -> bool:
    """Whether a folder holds a bundle's files and nothing else.

    One more could be imported in place of an installed module, or, compiled, in place of its source.
    """
    folders = {str(parent) for name in known for parent in PurePosixPath(name).parents}
    try:
        return not folder.is_symlink() and set(_found(str(folder), "", known, folders)) == known.keys()
    except OSError:
        return False


def _found(folder: str, prefix: str, known: _Manifest, folders: set[str]) -> Iterator[str | None]:
    """The names of the files that are as they should be; None for anything else."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if name in folders and entry.is_dir(follow_symlinks=False):
                yield from _found(entry.path, f"{name}/", known, folders)
            else:
                yield name if name in known and _is_same(entry, *known[name]) else None


def _is_same(entry: os.DirEntry[str], size: int, checksum: bytes) -> bool:
    # By its size first: whatever a function has put there need not be read.
    if not entry.is_file(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_size != size:
        return False
    with Path(entry.path).open("rb", buffering=0) as file:
        return hashlib.sha256(file.read()).digest() == checksum


def _files(kept: Path, archive: Callable[[], Path], bundle_id: str) -> dict[str, bytes]:
    """What is in a bundle, out of the cache's own copy of it where that is undamaged."""
    content = _read(kept, bundle_id) if kept.is_file() else None
    if content is not None:
        return _extracted(content, kept)
    path = archive()
    content = _read(path, bundle_id)
    if content is None:
        raise StoreError(f"the code in {path} is damaged: it is not {bundle_id}")
    files = _extracted(content, path)
    _replace(kept, content)
    return files


def _read(archive: Path, bundle_id: str) -> bytes | None:
    """The bytes of an archive; None if they are not those of that id."""
    try:
        content = archive.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot unpack {archive}: {error.strerror or error}") from None
    return content if hashlib.sha256(content).hexdigest() == _hex(bundle_id) else None


def _extracted(content: bytes, archive: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as source:
            return {_inside(info.filename, archive): source.read(info) for info in source.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise StoreError(f"the code in {archive} is no bundle: {error}", retryable=False) from None


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Unpack into a folder that nobody else uses. What a crash leaves of it is damage to the next use."""
    try:
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    except OSError as error:
        raise StoreError(f"cannot unpack code into {folder}: {error.strerror or error}") from None


def _inside(name: str, archive: Path) -> str:
    path = PurePosixPath(name)
    odd = not path.parts or path.is_absolute() or ".." in path.parts
    if odd or "\\" in name or ":" in path.parts[0]:
        raise StoreError(f"the code in {archive} names {name!r}, outside itself", retryable=False)
    return str(path)


def _hex(bundle_id: str) -> str:
    match = _ID.fullmatch(bundle_id)
    if match is None:
        raise StoreError(f"{bundle_id!r} is no bundle's id: expected sha256:<64 hex digits>", retryable=False)
    return match[1]
