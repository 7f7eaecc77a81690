"""A version's bytes where they were stored: are they there, and are they those that were recorded?"""

from __future__ import annotations

from pathlib import Path

from aero_core.errors import StoreError
from aero_core.models import Artifact, Location, Progress, TaskPrevious
from aero_core.plugins import Plugins

#: Ends the messages of `retrieve`.
ALL = "; `aero verify` lists all"


def is_whole(version: TaskPrevious, plugins: Plugins) -> bool:
    """Whether a version's bytes are there in their number; yes for a version that never had any stored."""
    return version.checksum is None or is_stored(version.location, version.size, plugins)


def is_stored(location: Location, size: int | None, plugins: Plugins) -> bool:
    """Whether there is an object at a location, of that size if one is given; yes where its store cannot tell."""
    try:
        there = [found.size for found in plugins.stored(location) if found.url == location.url]
    # A store need not be able to list, and whatever a listing fails by, a run goes on without it.
    except Exception:  # noqa: BLE001
        return True
    return any(size is None or found == size for found in there)


def retrieve(
    name: str, location: Location, checksum: str | None, target: Path, plugins: Plugins, progress: Progress
) -> Artifact:
    """Stream a version's bytes into a file, and compare them with what was recorded.

    Args:
        name: The version, as `cases@3`.
        location: Where it was stored.
        checksum: What was recorded; None where nothing was.
        target: The file.
        plugins: Serve the store.
        progress: Called with bytes done and in all.

    Raises:
        StoreError: They cannot be read, are missing or damaged: which version, where, and what to do.
    """
    try:
        artifact = plugins.retrieve(location, target, progress)
    except StoreError as error:
        if error.retryable:
            raise
        if is_stored(location, None, plugins):
            raise StoreError(f"{name} cannot be read: {error}", retryable=False) from None
        store = f"store {location.store!r}" if location.store else "their store"
        raise StoreError(
            f"the bytes of {name} are missing from {store} ({location.url}): {_again(name)}, "
            f"or restore them from a backup{ALL}",
            retryable=False,
        ) from None
    if checksum is not None and artifact.checksum != checksum:
        raise StoreError(
            f"{name} is damaged: {location.url} has {artifact.checksum}, recorded is {checksum}; "
            f"restore it from a backup, or remove it there and {_again(name)}{ALL}",
            retryable=False,
        )
    return artifact


def _again(name: str) -> str:
    data = name.partition("@")[0]
    # With a dot it may be one of several outputs, whose flow has the name before it.
    flow = "FLOW" if "." in data else data
    return f"run the flow that makes it (`aero run FILE --only {flow} --now`) while its source still has that content"
