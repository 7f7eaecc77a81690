"""Bringing a database to this release's tables."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from aero_core.errors import CatalogError
from aero_sql.database import Database, explain, make_file

#: The newest migration; a test holds it to the files.
HEAD = "0001"
MIGRATIONS = Path(__file__).parent / "migrations"


def prepare(database: Database) -> None:
    """Make or migrate the tables where that is needed; several processes may do so at once.

    Raises:
        CatalogError: The database is of a newer AERO, damaged, or cannot be written.
    """
    make_file(database.path)
    if _revision(database) == HEAD:
        return
    with _exclusive(database.path):
        revision = _revision(database)
        if revision == HEAD:
            return
        if revision is None:
            _begin_file(database)
        _upgrade(database, revision)


def _revision(database: Database) -> str | None:
    """The database's migration, None for an empty one."""
    try:
        with database.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            return None if found is None else str(found)
    except sa.exc.SQLAlchemyError as error:
        raise explain(error, database.path) from error


def _begin_file(database: Database) -> None:
    """Make an empty file one with a write-ahead log, which it stays; refuse a file that is somebody else's."""
    with database.read() as connection:
        if sa.inspect(connection).get_table_names():
            raise CatalogError(
                f"the file {database.path} holds tables of some other program: name another file for the catalog"
            )
    raw = sqlite3.connect(database.path)
    try:
        raw.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise explain(error, database.path) from error
    finally:
        raw.close()


def _upgrade(database: Database, revision: str | None) -> None:
    # A third of a second: only a new or old database pays for it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise CatalogError(
            f"the catalog {database.path} was written by a newer AERO (its tables are of revision {revision}): "
            "upgrade with `pip install --upgrade aero-core`"
        )
    with database.write(wake=False) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """One process at a time, by a lock file beside the database."""
    file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
