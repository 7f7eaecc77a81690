"""Versions on their way out: their bytes into a person's file, and the times that people give."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from aero_core.errors import InvalidValue, StoreError
from aero_core.jobs.stored import retrieve
from aero_core.models import Location, Progress, Version
from aero_core.plugins import Plugins


def write_version(
    name: str, version: Version, location: Location, target: Path, plugins: Plugins, progress: Progress
) -> None:
    """Write a version's bytes into a file, which appears whole or not at all.

    Raises:
        StoreError: The bytes are missing, damaged or cannot be read; or the file cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".aero-") as folder:
            arriving = Path(folder) / "content"
            retrieve(name, location, version.checksum, arriving, plugins, progress)
            arriving.chmod(0o666 & ~_umask())
            arriving.replace(target)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}", retryable=False) from None


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
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(f"{text!r} is no time: expected such as 2026-03-01 or 2026-03-01T06:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
