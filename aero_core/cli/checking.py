"""Commands that check: plugins, doctor. Neither needs a plugin to work."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from attrs import frozen

from aero_core import config as configuration
from aero_core.api.registering import make_plugins
from aero_core.cli.output import emit, format_option, size_of
from aero_core.cli.root import Settings
from aero_core.config import Config
from aero_core.errors import AeroError, NotFound
from aero_core.models import Family
from aero_core.plugins import PluginInfo, Plugins, scheme_of
from aero_core.state import check_named, has_state, make_state


@frozen
class Diagnosis:
    """One thing that doctor looked at."""

    what: str
    ok: bool
    told: str


@click.group()
def plugins() -> None:
    """Say which plugins there are and what they serve."""


@plugins.command("list", short_help="List plugins, what they serve, and why one is left out.")
@format_option
@click.pass_obj
def list_(settings: Settings, form: str) -> None:
    """List plugins: name, distribution, version, status, what they serve, and why one is left out."""
    config = _config(settings)
    found = make_plugins(config or _defaults(settings))
    try:
        emit(
            found.infos(),
            form,
            ("plugin", "from", "version", "status", "serves", "reason"),
            lambda info: (
                info.name,
                info.distribution,
                info.version,
                info.status,
                _serves(info),
                info.reason,
            ),
            "no plugins are installed: `pip install aero-core` brings the built-in ones",
        )
    finally:
        found.close()


def _serves(info: PluginInfo) -> str:
    families: dict[str, list[str]] = {}
    for record in info.provides:
        families.setdefault(record.family.value, []).append(record.name)
    return "; ".join(f"{family} {', '.join(names)}" for family, names in families.items())


def _config(settings: Settings) -> Config | None:
    """The project's configuration, or None outside of a project."""
    try:
        return configuration.load(None, settings.state, settings.profile)
    except NotFound:
        return None


def _defaults(settings: Settings) -> Config:
    """What a flow file in the working folder would get, outside of a project."""
    return configuration.load(Path("flows.py"), settings.state, settings.profile)


@click.command()
@format_option
@click.pass_obj
def doctor(settings: Settings, form: str) -> int:
    """Check this installation and project. Exits with 4 if something is wrong."""
    findings = list(_diagnose(settings))
    emit(
        findings,
        form,
        ("checked", "status", "found"),
        lambda d: (d.what, "ok" if d.ok else "failed", d.told),
        "",
    )
    return 0 if all(finding.ok for finding in findings) else 4


def _diagnose(settings: Settings) -> Iterator[Diagnosis]:
    from aero_core import __version__

    yield Diagnosis("AERO", True, f"{__version__} on Python {platform.python_version()}, {sys.executable}")
    try:
        config = _config(settings)
    except AeroError as error:
        yield Diagnosis("configuration", False, str(error))
        return
    if config is None:
        yield Diagnosis("project", True, "none here: `aero init` makes one")
        found = make_plugins(_defaults(settings))
    else:
        yield Diagnosis("configuration", True, f"{config.file or 'defaults'}, profile {config.profile_name}")
        found = make_plugins(config)
    try:
        yield from _plugins(found, config)
        if config is not None:
            yield from _state(config, found)
    finally:
        found.close()


def _plugins(found: Plugins, config: Config | None) -> Iterator[Diagnosis]:
    names = {info.name for info in found.infos()}
    for info in found.infos():
        told = info.reason or _serves(info) or info.status
        yield Diagnosis(f"plugin {info.name}", info.status != "broken", told)
    if config is None:
        return
    for name in sorted(set(config.plugins.settings) - names):
        yield Diagnosis(f"plugin {name}", False, f"aero.toml has [plugins.{name}], but no such plugin is installed")
    wanted = [
        (Family.CATALOG, scheme_of(config.catalog_url)),
        (Family.EXECUTOR, config.profile.executor),
        *((Family.AUTHENTICATOR, name) for name in config.profile.authenticators),
        *((Family.STORE, scheme_of(store.url)) for store in config.stores.values()),
    ]
    for family, name in dict.fromkeys(wanted):
        try:
            yield Diagnosis(f"{family.value} {name}", True, f"served by plugin {found.serving(family, name)}")
        except AeroError as error:
            yield Diagnosis(f"{family.value} {name}", False, str(error))


def _state(config: Config, found: Plugins) -> Iterator[Diagnosis]:
    try:
        check_named(config)
        if not has_state(config):
            yield Diagnosis("state", True, f"{config.state} is made at the first run")
            return
        make_state(config)
        free = shutil.disk_usage(config.state).free
        yield Diagnosis("state", free > 0, f"{config.state}, {size_of(free)} free")
        catalog = found.open_catalog(config.catalog_url)
    except AeroError as error:
        yield Diagnosis("state", False, str(error))
        return
    try:
        problems = catalog.check()
        yield Diagnosis("catalog", not problems, "; ".join(problems) or config.catalog_url)
    except AeroError as error:
        yield Diagnosis("catalog", False, str(error))
    finally:
        catalog.close()
