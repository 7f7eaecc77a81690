from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aero_core.catalog import Catalog
from aero_core.testing.catalog import CatalogContract
from aero_sql.catalog import SqlCatalog


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty record, to be copied: making its tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("blank") / "catalog.sqlite"
    SqlCatalog(f"sqlite:///{path}").close()
    return path


class TestSqliteCatalog(CatalogContract):
    @pytest.fixture
    def open_catalog(self, tmp_path: Path, blank: Path) -> Callable[[float], Catalog]:
        path = tmp_path / "catalog.sqlite"
        shutil.copyfile(blank, path)
        return lambda lease: SqlCatalog(f"sqlite:///{path}", lease=lease)
