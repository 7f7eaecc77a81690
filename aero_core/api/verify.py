"""Verifying: are the stored bytes still those that were recorded?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from attrs import frozen

from aero_core.api.spare import spare_folder
from aero_core.config import Config
from aero_core.errors import AeroError
from aero_core.jobs.stored import ALL, retrieve
from aero_core.models import Data, Location, Progress, Standing, Version
from aero_core.plugins import Plugins


@frozen
class Finding:
    """One verified version; `problem` is None when its bytes are as recorded."""

    data: str
    number: int
    location: str
    size: int | None
    problem: str | None = None


def verify_versions(
    config: Config,
    plugins: Plugins,
    chosen: Iterable[Data],
    versions: Callable[[str], Iterator[Version]],
    progress: Progress | None,
) -> Iterator[Finding]:
    """Read each version's bytes through a scratch file and compare; purged and reference versions have none."""
    with spare_folder(config.state) as folder:
        for data in chosen:
            for version in versions(data.id):
                if version.standing is not Standing.PURGED and version.checksum is not None:
                    location = config.location(version.location, version.store)
                    name = f"{data.name}@{version.number}"
                    problem = _problem(name, location, version.checksum, folder / "content", plugins, progress)
                    yield Finding(data.name, version.number, location.url, version.size, problem)


def _problem(
    name: str, location: Location, checksum: str, target: Path, plugins: Plugins, progress: Progress | None
) -> str | None:
    target.unlink(missing_ok=True)
    try:
        retrieve(name, location, checksum, target, plugins, progress or (lambda done, total: None))
    except AeroError as error:
        return str(error).removesuffix(ALL)
    return None
