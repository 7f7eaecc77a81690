"""The door: what is found, what is left out and why, and who serves what."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import attrs
import pytest

from aero_core import config as configuration
from aero_core.config import Selection
from aero_core.errors import ConfigError, PluginError
from aero_core.models import Context, Family
from aero_core.plugins import PluginInfo, Plugins, for_task

PROVIDES = """
from aero_core.hookspecs import hookimpl
from aero_core.models import Family, Provides

@hookimpl
def aero_provides():
    return [Provides(Family.{family}, "{name}", fallback={fallback})]
"""


@attrs.frozen
class Site:
    """A folder of site adapters."""

    folder: Path

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.py").write_text(dedent(text), encoding="utf-8")

    def serving(self, plugin: str, family: str, name: str, fallback: bool = False, more: str = "") -> None:
        """Write an adapter that declares one thing."""
        self.write(plugin, PROVIDES.format(family=family, name=name, fallback=fallback) + dedent(more))

    def load(self, *modules: str, **selection: Any) -> Plugins:
        """The plugins of a profile that names these adapters."""
        chosen = Selection(modules=tuple(f"{name}.py" for name in modules), root=str(self.folder))
        return Plugins(attrs.evolve(chosen, **selection), Context(side="engine"))

    def info(self, name: str, **selection: Any) -> PluginInfo:
        """What is known of one adapter, loaded with nothing wrong in the others."""
        found = {info.name: info for info in self.load(name, **selection).infos()}
        assert all(found[built_in].status == "ok" for built_in in ("http", "local", "sql"))
        return found[name]

    def reason(self, name: str, text: str, **selection: Any) -> str:
        """Why an adapter is left out."""
        self.write(name, text)
        info = self.info(name, **selection)
        assert info.status == "broken"
        assert "\n" not in info.reason
        return info.reason


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# Discovery and blocking


def test_built_in_plugins_come_by_entry_points() -> None:
    infos = {info.name: info for info in Plugins(Selection(), Context(side="engine")).infos()}
    assert {"http", "local", "sql"} <= set(infos)
    assert infos["local"].status == "ok"
    assert infos["local"].distribution == "aero-core"
    assert infos["local"].version
    assert "aero_launch" in infos["local"].hooks
    assert "file" in [record.name for record in infos["local"].provides if record.family is Family.FETCH]


def test_a_site_module_is_a_plugin_named_like_its_file(site: Site) -> None:
    site.serving("gopher", "FETCH", "gopher")
    info = site.info("gopher")
    assert (info.status, info.hooks) == ("ok", ("aero_provides",))
    assert info.module == str(site.folder / "gopher.py")


def test_a_plugin_may_be_an_object_or_a_class_made_once_a_profile(site: Site) -> None:
    plugins = Plugins(Selection(), Context(side="engine")), Plugins(Selection(), Context(side="engine"))
    owners = [each._manager.get_plugin("local") for each in plugins]
    assert owners[0] is not owners[1]


MARKS = """
from pathlib import Path
Path("imported").touch()
"""


def test_a_disabled_plugin_is_not_even_imported(site: Site) -> None:
    site.write("marks", MARKS)
    info = site.info("marks", disabled=("marks",))
    assert info.status == "disabled"
    assert not Path("imported").exists()


def test_a_star_disables_all(site: Site) -> None:
    site.write("marks", MARKS)
    infos = site.load("marks", disabled=("*",)).infos()
    assert {info.status for info in infos} == {"disabled"}
    assert not Path("imported").exists()


def test_the_environment_disables_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("marks", MARKS)
    (site.folder / "aero.toml").write_text('[plugins]\nmodules = ["marks.py"]\ndisabled = ["http"]\n')
    monkeypatch.setenv("AERO_DISABLE_PLUGINS", "marks, other")
    selection = configuration.load(start=site.folder).plugins
    infos = {info.name: info.status for info in Plugins(selection, Context(side="engine")).infos()}
    assert (infos["marks"], infos["http"], infos["local"]) == ("disabled", "disabled", "ok")
    assert not Path("imported").exists()


def test_what_is_disabled_is_named_where_it_is_missed() -> None:
    plugins = Plugins(Selection(disabled=("http",)), Context(side="engine"))
    with pytest.raises(PluginError, match=r"no plugin serves fetch 'https' \(served: file\); disabled: http"):
        plugins.serving(Family.FETCH, "https")


# What is left out


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("this is no Python", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit('enough')", "SystemExit: enough"),
        ("class Skipped(BaseException): pass\nraise Skipped('not here')", "Skipped: not here"),
        ("class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd", "Odd"),
        ("aero_api_version = 2", "it is written for version 2 of AERO's hooks, this AERO has 1"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_left_out_with_its_reason(site: Site, text: str, reason: str) -> None:
    assert site.reason("broken", text).startswith(reason)
    assert "aero_site_broken" not in sys.modules or "aero_api_version" in text


def test_a_module_that_is_not_there_is_left_out(site: Site) -> None:
    assert "which is not there" in site.info("absent").reason


WRONG_ARGUMENT = """
from aero_core.hookspecs import hookimpl

@hookimpl
def aero_fetch(member, traget):
    return None
"""
UNKNOWN_HOOK = """
from aero_core.hookspecs import hookimpl

@hookimpl
def aero_fetsh(member):
    return None
"""
WRONG_RECORDS = """
from aero_core.hookspecs import hookimpl

@hookimpl
def aero_provides():
    return ["https"]
"""
HALF = """
from aero_core.hookspecs import hookimpl
from aero_core.models import Family, Provides

@hookimpl
def aero_provides():
    return [Provides(Family.FETCH, "gopher")]

@hookimpl
def aero_store(artefact):
    return None
"""


def test_a_wrong_argument_name_is_told_with_the_right_ones(site: Site) -> None:
    reason = site.reason("wrong", WRONG_ARGUMENT)
    assert "aero_fetch" in reason
    assert "traget" in reason


def test_a_half_right_plugin_serves_nothing(site: Site) -> None:
    site.write("half", HALF)
    plugins = site.load("half")
    assert "gopher" not in plugins.offers(Family.FETCH)
    with pytest.raises(PluginError, match=r"no plugin serves fetch 'gopher' .*plugin 'half' was left out: "):
        plugins.serving(Family.FETCH, "gopher")


def test_an_unknown_hook_is_refused(site: Site) -> None:
    assert site.reason("unknown", UNKNOWN_HOOK) == "AERO has no hook named aero_fetsh: see docs/reference/hooks"


def test_records_that_are_none_are_refused(site: Site) -> None:
    assert "aero_provides answered 'https': expected records" in site.reason("records", WRONG_RECORDS)


def test_two_plugins_of_one_name_are_told_apart(site: Site) -> None:
    site.serving("local", "FETCH", "gopher")
    first, second = (info for info in site.load("local").infos() if info.name == "local")
    assert (first.status, first.distribution) == ("ok", "aero-core")
    assert second.status == "broken"
    assert second.reason == f"two plugins are named 'local': aero-core and {site.folder / 'local.py'}"


# Settings

SETTINGS = """
import attrs
from aero_core.errors import ConfigError
from aero_core.hookspecs import hookimpl

@attrs.frozen
class Settings:
    depth: int = 3

@hookimpl
def aero_settings():
    return Settings

@hookimpl
def aero_configure(settings, context):
    if settings.depth > 9:
        raise ConfigError(f"depth is {settings.depth}: expected at most 9")
"""


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"dpeth": 4}, "[plugins.deep] in aero.toml: unknown field 'dpeth' in the value: expected depth"),
        ({"depth": "4"}, "[plugins.deep] in aero.toml: depth is '4': expected a whole number"),
        ({"depth": 10}, "depth is 10: expected at most 9"),
    ],
)
def test_settings_are_checked_by_name(site: Site, given: dict[str, object], reason: str) -> None:
    assert site.reason("deep", SETTINGS, settings={"deep": given}) == reason


def test_settings_are_taken_and_travel_with_tasks(site: Site) -> None:
    site.write("deep", SETTINGS)
    plugins = site.load("deep", settings={"deep": {"depth": 5}})
    (need,) = [need for need in plugins.needs() if need.name == "deep"]
    assert need.settings == {"depth": 5}
    assert need.module == str(site.folder / "deep.py")


def test_settings_for_a_plugin_without_any_are_refused(site: Site) -> None:
    reason = site.reason("plain", "", settings={"plain": {"depth": 5}})
    assert reason == "[plugins.plain] in aero.toml: this plugin has no settings"


def test_settings_for_a_plugin_that_is_not_there_are_told() -> None:
    infos = Plugins(Selection(settings={"htpp": {"x": 1}}), Context(side="engine")).infos()
    (told,) = [info for info in infos if info.name == "htpp"]
    assert (told.status, told.reason) == (
        "broken",
        "[plugins.htpp] in aero.toml has settings for it, but no plugin of that name is installed",
    )


def test_a_value_beside_plugins_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "aero.toml").write_text('[plugins]\nhttp = "fast"\n')
    with pytest.raises(ConfigError, match=r"\[plugins\] http is 'fast'.*a table \[plugins.http\]"):
        configuration.load(start=tmp_path)


# Who serves what


def test_two_plugins_for_one_scheme_are_an_error_that_names_both_and_the_setting(site: Site) -> None:
    site.serving("mine", "FETCH", "https")
    plugins = site.load("mine")
    with pytest.raises(PluginError) as caught:
        plugins.serving(Family.FETCH, "https")
    assert str(caught.value) == (
        "plugins 'http' and 'mine' both serve fetch:https: "
        'choose one with [plugins] prefer = { "fetch:https" = "http" }'
    )
    assert plugins.serving(Family.FETCH, "http") == "http"


def test_prefer_decides(site: Site) -> None:
    site.serving("mine", "FETCH", "https")
    assert site.load("mine", prefer={"fetch:https": "mine"}).serving(Family.FETCH, "https") == "mine"


def test_prefer_must_name_one_that_serves(site: Site) -> None:
    plugins = site.load(prefer={"fetch:https": "local"})
    with pytest.raises(PluginError, match="prefer says 'fetch:https' = 'local', but that plugin does not serve it"):
        plugins.serving(Family.FETCH, "https")


def test_a_fallback_yields_silently(site: Site) -> None:
    site.serving("every", "FETCH", "https", fallback=True)
    site.serving("rare", "FETCH", "gopher", fallback=True)
    plugins = site.load("every", "rare")
    assert plugins.serving(Family.FETCH, "https") == "http"
    assert plugins.serving(Family.FETCH, "gopher") == "rare"
    assert plugins.offer(Family.FETCH, "gopher").fallback


def test_what_nobody_serves_is_an_error_that_lists_what_is_served() -> None:
    plugins = Plugins(Selection(), Context(side="engine"))
    with pytest.raises(PluginError, match=r"no plugin serves store 's3' \(served: .*file.*\); install a plugin"):
        plugins.serving(Family.STORE, "s3")


# Where a task runs


def test_a_tasks_plugins_are_loaded_alone(site: Site) -> None:
    site.serving("gopher", "FETCH", "gopher")
    needs = [need for need in site.load("gopher").needs() if need.name in ("gopher", "local")]
    assert [info.name for info in for_task(needs, {}).infos()] == ["gopher", "local"]


def test_a_plugin_that_a_task_misses_is_named(site: Site) -> None:
    (need,) = [need for need in site.load().needs() if need.name == "local"]
    with pytest.raises(PluginError, match=r"plugin 'far' .* is not installed where the run happens: install it there"):
        for_task([attrs.evolve(need, name="far")], {})


def test_a_plugin_that_is_broken_there_is_named(site: Site) -> None:
    site.serving("gopher", "FETCH", "gopher")
    (need,) = [need for need in site.load("gopher").needs() if need.name == "gopher"]
    site.write("gopher", "import nowhere_to_be_found")
    with pytest.raises(PluginError, match="plugin 'gopher' cannot be used where the run happens: ModuleNotFound"):
        for_task([need], {})
