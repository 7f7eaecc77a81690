"""The catalog on SQLAlchemy Core: SQLite in a file, for one machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from aero_core.errors import ConfigError
from aero_core.hookspecs import hookimpl
from aero_core.models import Context, Family, Provides

if TYPE_CHECKING:
    from aero_core.catalog import Catalog

#: Engines renew their leases every 15 seconds; one that is late once must not lose its runs.
SHORTEST_LEASE = 45.0
#: Seconds; SQLite counts its wait in milliseconds, in 32 bits.
LONGEST = 2_000_000.0


@frozen
class Settings:
    """`[plugins.sql]`.

    Attributes:
        busy_timeout: Seconds to wait for another process's transaction.
        lease: Seconds after which a silent engine on another host loses its runs.
    """

    busy_timeout: float = 30.0
    lease: float = 60.0


class SqlPlugin:
    """Serves catalogs at `sqlite:` URLs."""

    def __init__(self) -> None:
        self._settings = Settings()

    @hookimpl
    def aero_provides(self) -> Sequence[Provides]:
        return [Provides(Family.CATALOG, "sqlite", machine_local=True)]

    @hookimpl
    def aero_settings(self) -> type:
        return Settings

    @hookimpl
    def aero_configure(self, settings: Settings, context: Context) -> None:
        # In this form `nan` is refused too.
        if not 0 < settings.busy_timeout <= LONGEST:
            raise ConfigError(
                f"[plugins.sql] busy_timeout is {settings.busy_timeout:g}: expected above 0 and at most {LONGEST:g}"
            )
        if not SHORTEST_LEASE <= settings.lease <= LONGEST:
            raise ConfigError(
                f"[plugins.sql] lease is {settings.lease:g}: expected {SHORTEST_LEASE:g} to {LONGEST:g} seconds"
            )
        self._settings = settings

    @hookimpl
    def aero_open_catalog(self, url: str) -> Catalog:
        # SQLAlchemy takes a third of a second to import: only who opens a catalog pays for it.
        from aero_sql.catalog import SqlCatalog

        return SqlCatalog(url, busy_timeout=self._settings.busy_timeout, lease=self._settings.lease)
