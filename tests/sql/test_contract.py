from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aero_core.catalog import Catalog
from aero_core.testing.catalog import CatalogContract
from aero_sql.catalog import SqlCatalog


class TestSqliteCatalog(CatalogContract):
    @pytest.fixture
    def open_catalog(self, tmp_path: Path) -> Callable[[float], Catalog]:
        return lambda lease: SqlCatalog(f"sqlite:///{tmp_path}/catalog.sqlite", lease=lease)
