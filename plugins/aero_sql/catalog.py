"""The catalog, put together."""

from __future__ import annotations

from aero_sql.claiming import Claiming
from aero_sql.committing import Committing
from aero_sql.database import Database
from aero_sql.lookup import Lookup
from aero_sql.migrate import prepare
from aero_sql.outbox import Outbox
from aero_sql.registering import Registering
from aero_sql.running import Running


class SqlCatalog(Registering, Running, Claiming, Committing, Lookup, Outbox):
    """`Catalog` over SQLAlchemy Core.

    Args:
        url: `sqlite:////absolute/path`.
        busy_timeout: Seconds to wait for another process's transaction.
        lease: Seconds after which a silent engine loses its runs.

    Raises:
        CatalogError: It cannot be opened.
    """

    def __init__(self, url: str, busy_timeout: float = 30.0, lease: float = 60.0) -> None:
        super().__init__(Database(url, busy_timeout), lease)
        try:
            prepare(self._db)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()
