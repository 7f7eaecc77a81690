"""Connections, transactions, the clock and waking: all that differs between databases is here."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from aero_core.errors import AeroError, CatalogError, InvalidValue
from aero_sql import schema

#: How often a waiting thread looks whether another process has written, in seconds.
LOOK = 0.1
#: File systems on which SQLite's write-ahead log is not safe, as the kernel names them.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "pvfs2"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph-fuse", "fuse.rclone", "fuse.s3fs", "9p"}
)
#: Bytes that SQLite needs to open a database with a write-ahead log.
INDEX_SIZE = 32 * 1024
MOUNTS = Path("/proc/self/mounts")

_BUMP = sa.update(schema.pulse).values(position=schema.pulse.c.position + 1)
_POSITION = sa.select(schema.pulse.c.position)


class Database:
    """One SQLite file. Each thread holds one connection; writers begin with BEGIN IMMEDIATE."""

    def __init__(self, url: str, busy_timeout: float, mounts: Path = MOUNTS) -> None:
        self.path = path_of(url)
        refuse_network(self.path, mounts)
        self._timeout = busy_timeout
        self._local = threading.local()
        # Weak: a thread's connection ends with the thread.
        self._all: weakref.WeakSet[sa.Connection] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._changed = threading.Condition()
        self._writes = 0
        self._closed = False
        # Made of parts: a path may hold characters that mean something in a URL.
        address = sa.URL.create("sqlite", database=str(self.path))
        self.engine = sa.create_engine(address, poolclass=NullPool, connect_args=self._arguments())
        event.listen(self.engine, "connect", self._prepare)
        event.listen(self.engine, "begin", _begin)

    def _arguments(self) -> dict[str, object]:
        # Closing happens in another thread than use; every use is by the one thread that holds it.
        return {"timeout": self._timeout, "isolation_level": None, "check_same_thread": False}

    def _prepare(self, connection: sqlite3.Connection, record: object) -> None:
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    def connection(self) -> sa.Connection:
        """The calling thread's own connection."""
        if self._closed:
            raise CatalogError(f"the catalog {self.path} is closed")
        found: sa.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = self.engine.connect()
            self._local.connection = found
            with self._guard:
                self._all.add(found)
        return found

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view, without a lock."""
        with self._explained():
            connection = self.connection()
            connection.info["begin"] = "BEGIN"
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, wake: bool = True) -> Iterator[sa.Connection]:
        """A transaction that writes; with `wake` it grows the position that engines wait for."""
        with self._explained():
            connection = self.connection()
            # A transaction that reads first and writes later could not be retried by SQLite: lock at once.
            connection.info["begin"] = "BEGIN IMMEDIATE"
            with connection.begin():
                connection.info["woken"] = False
                yield connection
                if wake:
                    self.wake(connection)
        if connection.info["woken"]:
            with self._changed:
                self._writes += 1
                self._changed.notify_all()

    def wake(self, connection: sa.Connection) -> None:
        """Let the transaction grow the position that engines wait for."""
        connection.info["woken"] = True
        connection.execute(_BUMP)

    def now(self) -> datetime:
        """The catalog's clock: this machine's, on which all users of the file are."""
        return datetime.now(UTC)

    def position(self) -> int:
        """How far the pulse is."""
        with self.read() as connection:
            return int(connection.execute(_POSITION).scalar_one())

    def wait(self, since: int, timeout: float) -> int:
        """Wait for the pulse to pass `since`: told by this process, or seen in SQLite's own change counter."""
        deadline = time.monotonic() + timeout
        while not self._closed:
            seen = self._data_version()
            with self._changed:
                state = (seen, self._writes)
            # Kept from call to call: who waits again and again looks into the tables only when something has changed.
            known: tuple[tuple[int, int], int] | None = getattr(self._local, "pulse", None)
            if known is None or known[0] != state:
                known = self._local.pulse = (state, self.position())
            left = deadline - time.monotonic()
            if known[1] > since or left <= 0:
                return max(since, known[1])
            with self._changed:
                if self._writes == state[1]:
                    self._changed.wait(min(LOOK, left))
        return since

    def _data_version(self) -> int:
        with self._explained():
            raw = self.connection().connection.driver_connection
            if not isinstance(raw, sqlite3.Connection):
                raise CatalogError(f"the catalog {self.path} is closed")
            return int(raw.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close all threads' connections."""
        self._closed = True
        with self._changed:
            self._changed.notify_all()
        with self._guard:
            for connection in list(self._all):
                connection.close()
        self.engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise explain(error.orig or error, self.path) from error
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        except UnicodeEncodeError as error:
            raise InvalidValue(
                f"{_shown(error)} has half a character (a surrogate) in it: no catalog keeps it"
            ) from None


def _shown(error: UnicodeEncodeError) -> str:
    text = ascii(error.object)
    return text if len(text) <= 80 else text[:77] + "..."


def explain(error: BaseException, path: Path) -> AeroError:
    """A database error as one line with what to do."""
    text = str(error)
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return CatalogError(
            f"the catalog {path} is damaged ({text}): restore it from a backup, or move it away to begin anew "
            "(stored files stay)"
        )
    if "full" in text or (("I/O error" in text or "unable to open" in text) and _is_full(path)):
        return CatalogError(f"the disk of the catalog {path} is full: make room", retryable=True)
    if "readonly" in text or "unable to open" in text or "attempt to write" in text:
        return CatalogError(f"the catalog {path} cannot be opened for writing ({text}): check the folder's permissions")
    if "locked" in text or "busy" in text:
        return CatalogError(f"the catalog {path} is locked by another process for too long: try again", retryable=True)
    return CatalogError(f"the catalog {path} failed: {text}")


def _is_full(path: Path) -> bool:
    """Whether there is no room for the log's index: SQLite then speaks of an I/O error, or of a file not opened."""
    try:
        return shutil.disk_usage(path.parent).free < INDEX_SIZE
    except OSError:
        return False


def path_of(url: str) -> Path:
    """The file of a `sqlite:///` URL.

    Raises:
        CatalogError: It names none.
    """
    prefix = "sqlite:///"
    if not url.startswith(prefix) or len(url) == len(prefix):
        raise CatalogError(f"catalog URL {url!r}: expected sqlite:////absolute/path/catalog.sqlite")
    return Path(unquote(url[len(prefix) :], errors="surrogateescape")).expanduser().absolute()


def refuse_network(path: Path, mounts: Path) -> None:
    """Refuse a network file system, also behind a link: SQLite's log corrupts there when several hosts write.

    Raises:
        CatalogError: The file would lie on one.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    place = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        parts = line.split()
        if len(parts) >= 3:
            point = parts[1].replace("\\040", " ")
            inside = place == point or place.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, parts[2]
    if kind in NETWORK_FILE_SYSTEMS:
        raise CatalogError(
            f"the catalog {path} would lie on a network file system ({kind} at {best}), where SQLite is not safe: "
            'set catalog = "sqlite:////local/path/catalog.sqlite" in [profiles.default] of aero.toml'
        )


def make_file(path: Path) -> None:
    """Make the database file with mode 0600, if it is not there, and its folders with 0700.

    Raises:
        CatalogError: The folder cannot be written.
    """
    try:
        # One by one: `parents=True` would leave those above to the process's umask.
        for folder in reversed(path.parents):
            folder.mkdir(exist_ok=True, mode=0o700)
        # Only one that is not there: closing any descriptor of a database drops the locks that this process holds
        # on it, and other processes would remove the log that a catalog here still writes to.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise CatalogError(
            f"the catalog {path} cannot be opened ({error.strerror}): check the folder's permissions, or name another"
        ) from None


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.info.get("begin", "BEGIN"))
