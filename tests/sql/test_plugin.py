"""The plugin as the core meets it."""

from __future__ import annotations

from pathlib import Path

import pluggy
import pytest

from aero_core import hookspecs
from aero_core.errors import ConfigError
from aero_core.models import Context, Family
from aero_sql import Settings, SqlPlugin


@pytest.fixture
def plugin() -> SqlPlugin:
    return SqlPlugin()


def test_every_hook_has_a_spec(plugin: SqlPlugin) -> None:
    manager = pluggy.PluginManager(hookspecs.NAMESPACE)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()


def test_it_serves_sqlite_on_this_machine(plugin: SqlPlugin) -> None:
    (provided,) = plugin.aero_provides()
    assert (provided.family, provided.name, provided.machine_local) == (Family.CATALOG, "sqlite", True)


def test_it_opens_catalogs(plugin: SqlPlugin, tmp_path: Path) -> None:
    catalog = plugin.aero_open_catalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    assert catalog.list_data().items == ()
    catalog.close()


@pytest.mark.parametrize("name", ["busy_timeout", "lease"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_settings_that_cannot_work_are_refused(plugin: SqlPlugin, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        plugin.aero_configure(Settings(**{name: value}), Context("engine"))


def test_settings_are_taken(plugin: SqlPlugin) -> None:
    assert plugin.aero_settings() is Settings
    plugin.aero_configure(Settings(busy_timeout=1.0), Context("engine"))
