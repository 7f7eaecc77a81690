"""The tables. Times are whole microseconds since 1970 (UTC); models within a row are JSON text.

A change here wants a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.types import TypeDecorator

from aero_core.converter import from_json, to_json
from aero_core.models import Environment, FlowSpec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """A time as microseconds: exact, small, and in order as it is."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _MICROSECOND


class Json(TypeDecorator[Any]):
    """A JSON-able value as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class Model(TypeDecorator[Any]):
    """A large frozen model as JSON text. Equal texts give one object: most rows repeat what was read just before."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[Any]) -> None:
        super().__init__()
        self.kind: Any = kind

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """From the database."""
        return None if value is None else _read_model(value, self.kind)


@lru_cache(maxsize=512)
def _read_model(text: str, kind: Any) -> Any:
    return from_json(text, kind)


#: SQLite numbers rows by itself only for the plain type.
Serial = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

data = Table(
    "data",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("description", Text),
    Column("tags", Json, nullable=False),
    Column("source", Json),
    Column("store", Text, nullable=False),
    Column("rule", Json, nullable=False),
    Column("flow_id", Text, index=True),
    Column("owner", Text),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("namespace", "name"),
)

member = Table(
    "member",
    metadata,
    Column("data_id", Text, ForeignKey("data.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("validators", Json, nullable=False),
    Column("decided_by", Text),
    Column("checked_at", Moment),
    Column("gone_at", Moment),
)

version = Table(
    "version",
    metadata,
    Column("data_id", Text, ForeignKey("data.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("checksum", Text),
    Column("fingerprint", Text, nullable=False),
    Column("size", BigInteger),
    Column("media_type", Text),
    Column("encoding", Text),
    Column("suffix", Text, nullable=False),
    Column("store", Text, nullable=False),
    Column("location", Text, nullable=False, index=True),
    Column("member", Text, nullable=False),
    Column("run_id", Text, index=True),
    Column("created_at", Moment, nullable=False),
    Column("available_at", Moment),
    Column("standing", Text, nullable=False),
    Index("ix_version_latest", "data_id", "standing", "number"),
    Index("ix_version_member", "data_id", "member", "standing", "number"),
    Index("ix_version_available", "data_id", "available_at"),
)

flow = Table(
    "flow",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("policy", Integer, nullable=False),
    Column("spec", Model(FlowSpec), nullable=False),
    Column("anchor", Moment),
    Column("next_tick", Moment),
    Column("owner", Text),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("namespace", "project", "origin", "name"),
    Index("ix_flow_tick", "state", "next_tick"),
    Index("ix_flow_name", "name", "id"),
)

flow_revision = Table(
    "flow_revision",
    metadata,
    Column("flow_id", Text, ForeignKey("flow.id"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("spec", Model(FlowSpec), nullable=False),
    Column("agent", Text),
    Column("created_at", Moment, nullable=False),
)

bundle = Table(
    "bundle",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("location", Text, nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
)

flow_input = Table(
    "flow_input",
    metadata,
    Column("flow_id", Text, ForeignKey("flow.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("parameter", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("data_id", Text, ForeignKey("data.id"), nullable=False, index=True),
    Column("pinned", Integer),
    Column("mode", Text, nullable=False),
)

flow_output = Table(
    "flow_output",
    metadata,
    Column("flow_id", Text, ForeignKey("flow.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("data_id", Text, ForeignKey("data.id"), nullable=False, index=True),
)

argument_set = Table(
    "argument_set",
    metadata,
    Column("flow_id", Text, ForeignKey("flow.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("kwargs", Json, nullable=False),
    Column("pending_revision", Integer, nullable=False),
)

consumed = Table(
    "consumed",
    metadata,
    Column("flow_id", Text, ForeignKey("flow.id"), primary_key=True),
    Column("argument_set", Text, primary_key=True),
    Column("parameter", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("data_id", Text, ForeignKey("data.id"), primary_key=True),
    Column("consumed", Integer, nullable=False),
    Column("attempted", Integer),
)

environment = Table(
    "environment",
    metadata,
    Column("id", Text, primary_key=True),
    Column("content", Model(Environment), nullable=False),
)

_LIVE = text("state IN ('queued', 'running')")

run = Table(
    "run",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("flow_id", Text, ForeignKey("flow.id"), nullable=False),
    Column("flow", Text, nullable=False),
    Column("argument_set", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("cause", Json, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("launches", Integer, nullable=False),
    Column("attempt_id", Text),
    Column("fencing", Integer, nullable=False),
    Column("holder", Text),
    Column("handle", Text),
    Column("released", Boolean, nullable=False),
    Column("lease_until", Moment),
    Column("host", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("not_before", Moment),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("steps", Json),
    Column("metrics", Json),
    Column("environment_id", Text, ForeignKey("environment.id")),
    Column("agent", Text),
    Column("error", Json),
    Column("log", Text),
    Index("ix_run_flow", "flow_id", "seq"),
    Index("ix_run_flow_state", "flow_id", "state", "seq"),
    Index("ix_run_state", "state", "seq"),
    Index(
        "ix_run_queued",
        "not_before",
        "seq",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    Index("ux_run_live", "flow_id", "argument_set", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
    sqlite_autoincrement=True,
)

#: A run that is queued or running, written as in the index of live runs: only so that serves.
LIVE = run.c.state.in_([literal_column("'queued'"), literal_column("'running'")])

run_used = Table(
    "run_used",
    metadata,
    Column("run_id", Text, ForeignKey("run.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("parameter", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("data_id", Text, ForeignKey("data.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Index("ix_run_used_version", "data_id", "number"),
)

run_generated = Table(
    "run_generated",
    metadata,
    Column("run_id", Text, ForeignKey("run.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("data_id", Text, ForeignKey("data.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("member", Text, nullable=False),
    Column("confirmed", Boolean, nullable=False),
)

holder = Table(
    "holder",
    metadata,
    Column("id", Text, primary_key=True),
    Column("boot_id", Text, nullable=False),
    Column("lock", Text, nullable=False),
    Column("agent", Text, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("position", Serial, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("payload", Json, nullable=False),
    sqlite_autoincrement=True,
)

cursor = Table(
    "cursor",
    metadata,
    Column("target", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("error", Text),
    Column("attempts", Integer, nullable=False),
    Column("next_try", Moment),
)

parked = Table(
    "parked",
    metadata,
    Column("target", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("error", Text, nullable=False),
)

collecting = Table(
    "collecting",
    metadata,
    Column("location", Text, primary_key=True),
    Column("marked_at", Moment, nullable=False),
)

setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Json),
)

#: One row: grows with every change that an engine may have to act on.
pulse = Table(
    "pulse",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
)
