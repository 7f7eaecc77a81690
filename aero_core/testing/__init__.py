"""Contract tests for authors of plugins: a class for each family, to be inherited.

A module is imported on its own (`from aero_core.testing.storing import StoreContract`). The classes
are not named `Test...`: pytest collects only what inherits them.
"""

from __future__ import annotations

import pytest

# pytest explains assertions only in modules that it knows of before they are imported.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "catalog",
            "catalog_committing",
            "catalog_due",
            "catalog_looking",
            "catalog_registering",
            "catalog_running",
            "catalog_triggers",
            "catalog_world",
            "fetching",
            "fingerprints",
            "servers",
            "storing",
        )
    )
)
