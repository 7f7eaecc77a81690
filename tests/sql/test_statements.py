"""The statements of the SQL catalog: none grows with history, and each suits PostgreSQL as well."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql

import aero_sql
from aero_core.models import PolicyEnum, RunState
from aero_core.testing.catalog_world import (
    ASKED,
    ENGINE,
    PLENTY,
    RARELY,
    World,
    analysis,
    check,
    source,
)
from aero_sql import schema
from aero_sql.catalog import SqlCatalog
from aero_sql.migrate import HEAD, MIGRATIONS

#: Tables that grow for ever: a statement of a cycle must not go through them.
GROWING = "version|run|run_used|run_generated|used|generated|outbox"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    catalog = SqlCatalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    yield catalog
    catalog.close()


@pytest.fixture
def world(catalog: SqlCatalog) -> World:
    """An ingestion, an analysis of it, and a crowd of flows beside."""
    world = World(catalog)
    world.register(source("x", policy=PolicyEnum.NONE), analysis("a", "x"))
    world.register(*(source(f"s{n}", schedule=RARELY, policy=PolicyEnum.INGESTION_EVENT) for n in range(30)))
    return world


def cycle(world: World, text: str) -> None:
    """A poll with new content, and the analysis that it starts."""
    world.catalog.queue(world.flow("x").id, ASKED, "ada")
    (poll,) = world.catalog.begin(ENGINE, PLENTY)
    world.commit(poll, text, members=(check("https://example.org/x.csv"),))
    (run,) = world.catalog.begin(ENGINE, PLENTY)
    world.catalog.launched(run.run.id, run.run.fencing, "job")
    world.catalog.heartbeat(ENGINE, [run.run.id])
    world.commit(run, text)
    world.catalog.begin(ENGINE, PLENTY)
    world.catalog.next_due()
    world.catalog.holders()
    data_id = poll.flow.spec.outputs[0].data_id
    world.catalog.latest(data_id)
    world.catalog.version(data_id, 1)
    world.catalog.versions(data_id, limit=10)
    world.catalog.readers(data_id, 1)
    world.catalog.run(run.run.id)
    world.catalog.list_runs(limit=10)
    world.catalog.list_runs(limit=10, flow_id=run.flow.id)
    world.catalog.list_runs(states=(RunState.QUEUED, RunState.RUNNING))
    world.catalog.explain(run.flow.id)
    world.catalog.outbox(10**6)
    world.catalog.mark_collecting(["file:///garbage"])


@contextmanager
def steps_of(catalog: SqlCatalog) -> Iterator[list[int]]:
    """Counts the steps of SQLite's machine, in tens: what a statement costs, whatever the clock says."""
    count = [0]

    def step() -> int:
        count[0] += 1
        return 0

    with catalog._db.read() as connection:
        raw = _raw(connection)
    raw.set_progress_handler(step, 10)
    yield count
    raw.set_progress_handler(None, 0)


def _raw(connection: Any) -> sqlite3.Connection:
    core = getattr(connection, "connection", connection)
    raw = getattr(core, "driver_connection", None) or core.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def test_a_cycle_costs_the_same_after_many(catalog: SqlCatalog, world: World) -> None:
    def cost(text: str) -> int:
        with steps_of(catalog) as count:
            cycle(world, text)
        return count[0]

    for turn in range(12):
        cycle(world, f"first {turn}")
    few = cost("few")
    for turn in range(300):
        world.make("x", f"more {turn}")
        world.commit(world.claim("a"), f"more {turn}")
    assert cost("many") < few * 1.25


def test_no_statement_goes_through_a_table_that_grows(catalog: SqlCatalog, world: World) -> None:
    seen: dict[str, Any] = {}

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if re.match(r"SELECT|UPDATE|DELETE", statement):
            seen[statement] = parameters[0] if many else parameters

    sa.event.listen(catalog._db.engine, "before_cursor_execute", note)
    for text in ("one", "two", "three"):
        cycle(world, text)
    sa.event.remove(catalog._db.engine, "before_cursor_execute", note)
    assert len(seen) > 20
    raw = sqlite3.connect(catalog._db.path)
    scans = []
    for statement, parameters in seen.items():
        for *_, plan in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters):
            # By number, newest first, within a page: that is no search.
            paged = "ORDER BY run.seq DESC" in statement and "LIMIT" in statement
            if re.match(rf"SCAN ({GROWING})( |$)", plan) and not paged:
                scans.append((plan, statement))
    raw.close()
    assert scans == []


def prebuilt() -> Iterator[tuple[str, Any]]:
    """The statements that modules of the catalog hold ready."""
    for module in pkgutil.iter_modules(aero_sql.__path__, "aero_sql."):
        if module.ispkg:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, (sa.Select, sa.Insert, sa.Update, sa.Delete)):
                yield f"{module.name}.{name}", value


def test_every_statement_suits_postgresql() -> None:
    statements = dict(prebuilt())
    assert len(statements) > 10
    for name, statement in statements.items():
        text = str(statement.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
        assert text, name


def test_tables_suit_postgresql() -> None:
    for table in schema.metadata.sorted_tables:
        made = sa.schema.CreateTable(table).compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
        assert "CREATE TABLE" in str(made)


def test_migrations_and_tables_agree(catalog: SqlCatalog) -> None:
    with catalog._db.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)
        assert differences == []
        for table in schema.metadata.sorted_tables:
            made = {index["name"]: index for index in sa.inspect(connection).get_indexes(table.name)}
            assert set(made) == {index.name for index in table.indexes}


def test_the_newest_migration_is_the_one_that_is_looked_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_modules_are_of_a_readable_size() -> None:
    for module in pkgutil.iter_modules(aero_sql.__path__, "aero_sql."):
        if not module.ispkg:
            source_code = inspect.getsource(importlib.import_module(module.name))
            assert source_code.count("\n") < 420, module.name
