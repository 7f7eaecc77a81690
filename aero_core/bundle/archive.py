"""Bundles as files: one deterministic archive for equal code, verified and unpacked once."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from aero_core.bundle.describe import Description
from aero_core.errors import StoreError
from aero_core.models import Bundle

_ID = re.compile(r"sha256:([0-9a-f]{64})")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(description: Description, path: Path) -> Bundle:
    """Write a function's code into an archive; equal code makes equal bytes, and so an equal id.

    Args:
        description: The code.
        path: The archive to write. It appears whole, or not at all.

    Raises:
        StoreError: It cannot be written.
    """
    content = _zipped(description.files)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from None
    return Bundle(
        id="sha256:" + hashlib.sha256(content).hexdigest(),
        digest=description.digest,
        path=str(path),
        entry=description.entry,
        function=description.function,
    )


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


def unpacked(cache: Path, bundle_id: str) -> Path | None:
    """The folder of a bundle that was unpacked before, or None.

    Raises:
        StoreError: The id is none.
    """
    folder = cache / _hex(bundle_id)
    return folder if folder.is_dir() else None


def unpack(archive: Path, bundle_id: str, cache: Path) -> Path:
    """Verify an archive and unpack it, unless it was before; several processes may do so at once.

    Returns:
        The folder with the bundle's files, below `cache`.

    Raises:
        StoreError: The archive is not the one of that id, names files outside itself, or cannot be
            read or unpacked.
    """
    folder = unpacked(cache, bundle_id)
    if folder is not None:
        return folder
    folder = cache / _hex(bundle_id)
    try:
        content = archive.read_bytes()
        if hashlib.sha256(content).hexdigest() != _hex(bundle_id):
            raise StoreError(f"the code in {archive} is damaged: it is not {bundle_id}")
        cache.mkdir(parents=True, exist_ok=True)
        # Renamed when complete, so that nobody meets half a bundle.
        scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=cache))
        try:
            _extract(content, scratch, archive)
            _settle(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"cannot unpack {archive}: {error.strerror or error}") from None
    return folder


def _extract(content: bytes, folder: Path, archive: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as source:
            for info in source.infolist():
                target = folder / _inside(info.filename, archive)
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(target, source.read(info))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise StoreError(f"the code in {archive} is no bundle: {error}", retryable=False) from None


def _write(target: Path, content: bytes) -> None:
    # A folder that outlives a power cut without what is in it would be taken for unpacked code for ever.
    with target.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _settle(scratch: Path, folder: Path) -> None:
    scratch.chmod(0o755)
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        # Another process was first, with the same content.


def _inside(name: str, archive: Path) -> Path:
    path = PurePosixPath(name)
    odd = not path.parts or path.is_absolute() or ".." in path.parts
    if odd or "\\" in name or ":" in path.parts[0]:
        raise StoreError(f"the code in {archive} names {name!r}, outside itself", retryable=False)
    return Path(*path.parts)


def _hex(bundle_id: str) -> str:
    match = _ID.fullmatch(bundle_id)
    if match is None:
        raise StoreError(f"{bundle_id!r} is no bundle's id: expected sha256:<64 hex digits>", retryable=False)
    return match[1]
