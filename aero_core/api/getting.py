"""Versions on their way out: their bytes into a person's file, and the times that people give."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from aero_core.api.spare import spare_folder
from aero_core.errors import InvalidValue, StoreError
from aero_core.jobs.stored import retrieve
from aero_core.models import Location, Progress, Version
from aero_core.plugins import Plugins


def write_version(
    name: str, version: Version, location: Location, target: Path, spare: Path, plugins: Plugins, progress: Progress
) -> None:
    """Write a version's bytes into a file, which appears whole or not at all; into a device or pipe as they are.

    Args:
        name: What messages call the version.
        version: Its checksum is compared.
        location: Where its bytes are.
        target: The file.
        spare: A folder of AERO's own, for bytes on their way into what is no file.
        plugins: Serve the location.
        progress: Called with bytes done and in all.

    Raises:
        StoreError: The bytes are missing, damaged or cannot be read; or the file cannot be written.
    """
    try:
        # Never put another file in its place: that would take /dev/null from the whole machine.
        written_into = target.exists() and not target.is_file()
        place = target.resolve()
        if not written_into:
            place.parent.mkdir(parents=True, exist_ok=True)
        with spare_folder(spare) if written_into else _folder_in(place.parent) as folder:
            arriving = folder / "content"
            retrieve(name, location, version.checksum, arriving, plugins, progress)
            if written_into:
                with arriving.open("rb") as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
                return
            arriving.chmod(0o666 & ~_umask())
            arriving.replace(place)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}", retryable=False) from None


@contextmanager
def _folder_in(place: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=place, prefix=".aero-") as folder:
        yield Path(folder)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def parse_time(text: str) -> datetime:
    """A time from ISO 8601 text; without a zone it is UTC.

    Raises:
        InvalidValue: It is no time.
    """
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError:
        raise InvalidValue(f"{text!r} is no time: expected such as 2026-03-01 or 2026-03-01T06:00:00Z") from None


def in_utc(moment: datetime) -> datetime:
    """A time in UTC; without a zone it is that already.

    Raises:
        InvalidValue: In UTC it is before the year 1 or after 9999.
    """
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise InvalidValue(f"{moment.isoformat()} is out of range: expected a time of the years 1 to 9999") from None
