"""The state folder: whether it is there, how it is made, and what is refused in its place."""

from __future__ import annotations

import os
from pathlib import Path

from aero_core.config import CATALOG_FILE, DATA_STORE_FOLDER, STATE_FOLDER, Config, exists
from aero_core.errors import NotFound, StateError

#: What the state folder holds beside the catalog.
FOLDERS = (DATA_STORE_FOLDER, "code", "logs", "engines", "scratch")
IGNORE_ALL = "*\n"


def has_state(config: Config) -> bool:
    """Whether there is a catalog to open, so that opening it makes nothing new."""
    return exists(config.state if config.profile.catalog else config.state / CATALOG_FILE)


def check_named(config: Config) -> None:
    """Refuse a state folder that was named for a look, and is none: it is mistyped, and nothing is made there.

    Raises:
        NotFound: There is no catalog in it.
    """
    # The state folder of a catalog elsewhere holds nothing that has to be there.
    if config.named and not config.profile.catalog and not has_state(config):
        inner = config.state / STATE_FOLDER
        hint = f"did you mean {inner}?" if exists(inner / CATALOG_FILE) else "name the one that `aero run` made"
        raise NotFound(f"no state folder at {config.state}: {hint}")


def make_state(config: Config) -> None:
    """Make the state folder, and the folders in it: mode 0700, with a `.gitignore` of `*`.

    Raises:
        StateError: It cannot be made or written, is a folder of something else, or its catalog has been lost.
    """
    folder = config.state
    catalog, store = folder / CATALOG_FILE, folder / DATA_STORE_FOLDER
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise StateError(
            f"the path {str(folder)!r} is not in UTF-8, and so cannot be recorded: rename its folders, "
            "or name another state folder with --state"
        ) from None
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        ignore = folder / ".gitignore"
        if not catalog.exists():
            _begin_state(folder, ignore)
        if not ignore.exists():
            ignore.write_text(IGNORE_ALL, encoding="utf-8")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
        missing = [folder / name for name in FOLDERS if not (folder / name).is_dir()]
        for inner in missing:
            inner.mkdir(mode=0o700, exist_ok=True)
        if missing:
            # What is stored in them must be found after a power cut.
            _sync(folder)
    except OSError as error:
        raise StateError(
            f"the state folder {folder} cannot be written ({error.strerror}): make it writable, "
            "or name another one with --state"
        ) from None
    # A new catalog is empty for a moment, but versions come after it.
    if catalog.exists() and catalog.stat().st_size == 0 and store.is_dir() and any(store.iterdir()):
        raise StateError(
            f"the catalog {catalog} is empty, though {store} holds versions: restore it from a backup, "
            "or move the state folder away to begin anew"
        )


def check_writable(config: Config) -> None:
    """Refuse a state folder in which no engine could work.

    Raises:
        StateError: It may not write what runs need there.
    """
    for name in ("logs", "engines", "scratch"):
        folder = config.state / name
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise StateError(f"the folder {folder} cannot be written by user {os.geteuid()}: make it writable")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _begin_state(folder: Path, ignore: Path) -> None:
    """Take a folder without a catalog: an empty one becomes private, one that was taken before stays as it is."""
    if not any(folder.iterdir()):
        try:
            folder.chmod(0o700)
        except PermissionError:
            # Another user's, as in a folder shared by a group: nobody but its owner can close it.
            if folder.stat().st_mode & 0o077:
                raise StateError(
                    f"the folder {folder} is open to other users and not yours to close: name another one with --state"
                ) from None
    # Empty while another process writes it.
    elif not ignore.is_file() or ignore.read_text(encoding="utf-8", errors="replace") not in ("", IGNORE_ALL):
        raise StateError(
            f"the folder {folder} holds other things than AERO's state: name a new or empty folder with --state"
        )
