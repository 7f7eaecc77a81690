"""What importing costs, and that no plugin is forgotten anywhere."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
AERO = Path(sys.executable).with_name("aero")
HEAVY = ("alembic", "attrs", "cattrs", "click", "pluggy", "requests", "rich", "sqlalchemy", "truststore", "urllib3")
#: What only the functions of a plugin import, when they are called.
SDKS = ("alembic", "ijson", "requests", "sqlalchemy", "truststore", "urllib3")
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.name.startswith("aero_"))


def _loaded(code: str, *names: str) -> list[str]:
    """Which of some modules a fresh interpreter has loaded after some code."""
    show = f"{code}\nimport sys; print([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    found: list[str] = eval(done.stdout.splitlines()[-1])
    return found


def test_importing_the_core_loads_nothing() -> None:
    assert _loaded("import aero_core", *HEAVY) == []


def test_declaring_flows_loads_no_backend() -> None:
    assert _loaded("from aero_core import ingest, analysis, AeroOutput, PolicyEnum", *SDKS, "rich") == []


def test_opening_plugins_loads_no_sdk() -> None:
    code = """
from aero_core.config import Selection
from aero_core.models import Context
from aero_core.plugins import Plugins
assert {info.status for info in Plugins(Selection(), Context(side="engine")).infos()} == {"ok"}
"""
    assert _loaded(code, *SDKS) == []


@pytest.mark.parametrize("plugin", PLUGINS)
def test_importing_a_plugin_loads_no_sdk(plugin: str) -> None:
    assert _loaded(f"import {plugin}", *SDKS) == []


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_and_version_load_no_backend(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(AERO), *arguments], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert loaded & {*SDKS, "rich"} == set()


def test_version_is_answered_before_click_loads() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(AERO), "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("aero ")
    assert not [line for line in done.stderr.splitlines() if line.rpartition("|")[2].strip() in ("click", "attrs")]


def test_every_plugin_is_named_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = ["aero_core", *PLUGINS]
    assert project["tool"]["importlinter"]["root_packages"] == packages
    assert project["tool"]["coverage"]["run"]["source_pkgs"] == packages
    (layers,) = [c for c in project["tool"]["importlinter"]["contracts"] if c["name"].startswith("plugins import")]
    assert layers["layers"] == [" | ".join(PLUGINS), "aero_core"]
    points = project["project"]["entry-points"]["aero"]
    assert sorted({value.partition(":")[0] for value in points.values()}) == PLUGINS
    assert {f"aero_{name}": value.partition(":")[0] for name, value in points.items()} == {
        plugin: plugin for plugin in PLUGINS
    }


@pytest.mark.parametrize("package", ["aero_core", *PLUGINS])
def test_every_package_is_typed(package: str) -> None:
    folder = ROOT if package == "aero_core" else ROOT / "plugins"
    assert (folder / package / "py.typed").is_file()
