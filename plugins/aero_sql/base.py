"""What the parts of the catalog share."""

from __future__ import annotations

from datetime import datetime, timedelta

from aero_core.catalog import Catalog
from aero_sql.database import Database


class Base(Catalog):
    """A catalog's database and lease."""

    def __init__(self, database: Database, lease: float) -> None:
        self._db = database
        self._lease = timedelta(seconds=lease)

    def now(self) -> datetime:
        return self._db.now()
