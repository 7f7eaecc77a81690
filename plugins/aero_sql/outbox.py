"""The outbox: numbered records, cursors of targets, and what is parked; collecting; settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from aero_core.models import JSON, Cursor, OutboxRecord
from aero_sql import schema as t
from aero_sql.base import Base

_PARKED = sa.select(sa.func.count()).where(t.parked.c.target == t.cursor.c.target).scalar_subquery().label("parked")


def add_record(connection: sa.Connection, kind: str, payload: dict[str, Any], now: datetime) -> None:
    """Put a record into the outbox, within the transaction that it tells of.

    SQLite has one writer at a time, so that positions are in the order of commits.
    """
    connection.execute(sa.insert(t.outbox), {"kind": kind, "at": now, "payload": payload})


class Outbox(Base):
    """Outbox, collecting and settings."""

    def outbox(self, since: int, limit: int = 100) -> tuple[OutboxRecord, ...]:
        after = sa.select(t.outbox).where(t.outbox.c.position > since).order_by(t.outbox.c.position).limit(limit)
        with self._db.read() as connection:
            return tuple(OutboxRecord(**row._mapping) for row in connection.execute(after))

    def cursors(self) -> tuple[Cursor, ...]:
        with self._db.read() as connection:
            rows = connection.execute(sa.select(t.cursor, _PARKED).order_by(t.cursor.c.target))
            return tuple(Cursor(**row._mapping) for row in rows)

    def move_cursor(self, cursor: Cursor) -> None:
        with self._db.write(wake=False) as connection:
            _save_cursor(connection, cursor)

    def park(self, target: str, record: OutboxRecord, error: str) -> None:
        with self._db.write(wake=False) as connection:
            connection.execute(
                sa.delete(t.parked).where(t.parked.c.target == target, t.parked.c.position == record.position)
            )
            connection.execute(sa.insert(t.parked), {"target": target, "position": record.position, "error": error})
            _save_cursor(connection, Cursor(target, record.position))

    def mark_collecting(self, locations: Sequence[str]) -> tuple[str, ...]:
        now = self.now()
        with self._db.write(wake=False) as connection:
            named: set[str] = set()
            for table in (t.version, t.bundle):
                column = table.c.location
                named.update(connection.execute(sa.select(column).where(column.in_(locations))).scalars())
            free = tuple(location for location in dict.fromkeys(locations) if location not in named)
            marked = sa.select(t.collecting.c.location).where(t.collecting.c.location.in_(free))
            there = set(connection.execute(marked).scalars())
            rows = [{"location": location, "marked_at": now} for location in free if location not in there]
            if rows:
                connection.execute(sa.insert(t.collecting), rows)
            return free

    def unmark_collecting(self, locations: Sequence[str]) -> None:
        with self._db.write(wake=False) as connection:
            connection.execute(sa.delete(t.collecting).where(t.collecting.c.location.in_(locations)))

    def setting(self, name: str) -> JSON:
        with self._db.read() as connection:
            return connection.execute(sa.select(t.setting.c.value).where(t.setting.c.name == name)).scalar()

    def save_setting(self, name: str, value: JSON) -> None:
        with self._db.write(wake=False) as connection:
            connection.execute(sa.delete(t.setting).where(t.setting.c.name == name))
            if value is not None:
                connection.execute(sa.insert(t.setting), {"name": name, "value": value})


def _save_cursor(connection: sa.Connection, cursor: Cursor) -> None:
    connection.execute(sa.delete(t.cursor).where(t.cursor.c.target == cursor.target))
    connection.execute(
        sa.insert(t.cursor),
        {
            "target": cursor.target,
            "position": cursor.position,
            "error": cursor.error,
            "attempts": cursor.attempts,
            "next_try": cursor.next_try,
        },
    )
