"""Contract of a catalog, as tests that a catalog's author inherits.

    class TestMongoCatalog(CatalogContract):
        @pytest.fixture
        def open_catalog(self) -> Callable[[float], Catalog]:
            url = "mongo://test/record"  # a new record for each test
            return lambda lease: MongoCatalog(url, lease)

Each test is one guarantee of `aero_core.catalog`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from aero_core.catalog import Catalog
from aero_core.testing.catalog_committing import CommittingContract
from aero_core.testing.catalog_due import DueContract
from aero_core.testing.catalog_looking import LookingContract
from aero_core.testing.catalog_registering import RegisteringContract
from aero_core.testing.catalog_running import RunningContract
from aero_core.testing.catalog_triggers import TriggerContract
from aero_core.testing.catalog_world import World

LEASE = 60.0


class CatalogContract(
    RegisteringContract,
    DueContract,
    TriggerContract,
    RunningContract,
    CommittingContract,
    LookingContract,
):
    """What every catalog does."""

    @pytest.fixture
    def open_catalog(self) -> Callable[[float], Catalog]:
        """Opens one record, new for each test, however often it is called. Override it.

        Its argument is the length of leases in seconds; with 0 a run may be taken over at once.
        """
        raise NotImplementedError

    @pytest.fixture
    def catalog(self, open_catalog: Callable[[float], Catalog]) -> Iterator[Catalog]:
        """The catalog under test."""
        yield from _closing(open_catalog(LEASE))

    @pytest.fixture
    def another_catalog(self, open_catalog: Callable[[float], Catalog]) -> Iterator[Catalog]:
        """The same record, opened once more."""
        yield from _closing(open_catalog(LEASE))

    @pytest.fixture
    def hasty_catalog(self, open_catalog: Callable[[float], Catalog]) -> Iterator[Catalog]:
        """The same record; leases that it gives run out at once."""
        yield from _closing(open_catalog(0.0))

    @pytest.fixture
    def world(self, catalog: Catalog) -> World:
        """The catalog, with short words for what is done to it."""
        return World(catalog)


def _closing(catalog: Catalog) -> Iterator[Catalog]:
    try:
        yield catalog
    finally:
        catalog.close()
