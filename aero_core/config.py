"""Configuration: where it is found, and what it may say.

A setting comes from, in this order: a flag, the environment (`AERO_STATE`, `AERO_PROFILE`, `AERO_CATALOG`,
`AERO_DISABLE_PLUGINS`), the project's `aero.toml`, the user's `aero.toml`, the default.
"""

from __future__ import annotations

import json
import logging
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
from attrs import frozen

from aero_core.converter import structure_strict
from aero_core.errors import ConfigError, NotFound
from aero_core.models import JSON, Location

logger = logging.getLogger("aero.config")

CONFIG_FILE = "aero.toml"
STATE_FOLDER = ".aero"
CATALOG_FILE = "catalog.sqlite"
#: The stores that a profile has without saying so: for versions, and for functions' code.
DATA_STORE = "local"
CODE_STORE = "code"
DATA_STORE_FOLDER = "store"
_PLUGIN_KEYS = ("disabled", "modules", "prefer")


@frozen
class Profile:
    """A named choice of parts, `[profiles.NAME]`.

    Attributes:
        catalog: URL of the catalog; empty: SQLite in the state folder.
        executor: Name of the executor.
        endpoint: Where it runs functions, in its own words.
        store: Name of the store of data whose flow names none.
        namespace: Where names of data and flows count, in a shared catalog.
        authenticators: Plugins asked for credentials and identity, in order.
        provenance: Names of targets that receive every record.
        alerts: Names of targets that receive word of failures.
    """

    catalog: str = ""
    executor: str = "local"
    endpoint: str | None = None
    store: str = DATA_STORE
    namespace: str = ""
    authenticators: tuple[str, ...] = ("local",)
    provenance: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()


@frozen
class LimitSettings:
    """How much runs at once, `[limits]`.

    Attributes:
        runs: Runs of one engine; None for the number of processors.
        endpoint: Runs on one endpoint over all engines; None for no limit.
        host: Runs that fetch from one host over all engines.
    """

    runs: int | None = None
    endpoint: int | None = None
    host: int = 4


@frozen
class Selection:
    """Which plugins are there, `[plugins]`.

    Attributes:
        disabled: Names left out; `*` leaves out all.
        modules: Site adapters without packaging: files, relative to the configuration's folder.
        prefer: Who serves what two plugins offer: `"fetch:https" = "site"`.
        settings: `[plugins.NAME]` by name.
        root: Folder that `modules` are relative to.
    """

    disabled: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    prefer: Mapping[str, str] = attrs.field(factory=dict)
    settings: Mapping[str, Mapping[str, JSON]] = attrs.field(factory=dict)
    root: str = ""


@frozen
class Store:
    """A named place for bytes, `[stores.NAME]`: base URL and its plugin's options."""

    name: str
    url: str
    options: Mapping[str, JSON] = attrs.field(factory=dict)

    def place(self, *parts: str) -> Location:
        """A location below the base URL."""
        return Location("/".join([self.url.rstrip("/"), *parts]), self.name, self.options)


@frozen
class Config:
    """All settings of one profile.

    Attributes:
        root: Folder that origins and relative paths count from.
        state: The state folder.
        file: The project's configuration file, if there is one.
        project: The project's name; part of a flow's key in a shared catalog.
        named: Whether the state folder was named for this call, by a flag or the environment.
    """

    root: Path
    state: Path
    file: Path | None = None
    project: str = ""
    named: bool = False
    profile_name: str = "default"
    profile: Profile = attrs.field(factory=Profile)
    stores: Mapping[str, Store] = attrs.field(factory=dict)
    limits: LimitSettings = attrs.field(factory=LimitSettings)
    plugins: Selection = attrs.field(factory=Selection)
    targets: Mapping[str, Mapping[str, JSON]] = attrs.field(factory=dict)

    @property
    def catalog_url(self) -> str:
        """URL of the profile's catalog."""
        path = quote(str(self.state / CATALOG_FILE), errors="surrogateescape")
        return self.profile.catalog or f"sqlite:///{path}"

    def store(self, name: str) -> Store:
        """A store by name.

        Raises:
            ConfigError: There is none; the message names those that there are.
        """
        if name not in self.stores:
            known = ", ".join(sorted(self.stores))
            raise ConfigError(
                f"no store is named {name!r}: add [stores.{name}] to {CONFIG_FILE}, or use one of {known}"
            )
        return self.stores[name]

    def saved(self, url: str) -> str:
        """A location as the catalog keeps it: relative to the state folder for what lies in it, so that it may move."""
        return url.removeprefix(f"{self.state.as_uri()}/")

    def location(self, saved: str, store: str) -> Location:
        """A saved location as a whole URL, with its store's present options.

        Where that store is gone, the one with the longest fitting base URL stands in.
        """
        url = saved if ":" in saved.partition("/")[0] else f"{self.state.as_uri()}/{saved}"
        if store in self.stores:
            return Location(url, store, self.stores[store].options)
        fitting = [s for s in self.stores.values() if url.startswith(s.url.rstrip("/") + "/")]
        best = max(fitting, key=lambda s: len(s.url), default=None)
        return Location(url) if best is None else Location(url, best.name, best.options)


@frozen
class _File:
    """What an `aero.toml` may hold."""

    project: str = ""
    state: str = ""
    profile: str = "default"
    profiles: Mapping[str, Profile] = attrs.field(factory=dict)
    stores: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    limits: LimitSettings = attrs.field(factory=LimitSettings)
    plugins: Mapping[str, Any] = attrs.field(factory=dict)
    provenance: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    alerts: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)


def load(
    flow_file: Path | None = None,
    state: Path | None = None,
    profile: str | None = None,
    start: Path | None = None,
) -> Config:
    """Find and read the configuration.

    Args:
        flow_file: The flow file in hand; its folder is where the search begins, and where state lives if nothing
            is found.
        state: The `--state` flag.
        profile: The `--profile` flag.
        start: Where the search begins without a flow file; the working folder if None.

    Raises:
        NotFound: No flow file, no flag, and nothing found from the working folder upwards.
        ConfigError: A file is not TOML, or says something that it may not.
    """
    given = state or (Path(os.environ["AERO_STATE"]) if os.environ.get("AERO_STATE") else None)
    folder = (flow_file.parent if flow_file else start or Path.cwd()).absolute()
    root = _find_root(folder, with_state=flow_file is None)
    if root is None:
        if flow_file is None and given is None:
            raise NotFound(
                f"no {CONFIG_FILE} and no {STATE_FOLDER} folder in {folder} or above: go to your project's folder, "
                "name the folder with --state, or make a project with `aero init`"
            )
        root = folder if flow_file or given is None else given.absolute().parent
    file = root / CONFIG_FILE
    values = _merge(_read_user_file(), _read(file))
    parsed = structure_strict(values, _File, str(file), ConfigError)
    folder = given or root / (parsed.state or STATE_FOLDER)
    if "\0" in str(folder):
        raise ConfigError(f"state is {str(folder)!r}: no path holds a NUL character")
    config = _build(parsed, root, folder.absolute(), file if file.is_file() else None, profile)
    return attrs.evolve(config, named=given is not None)


def check_together(config: Config, files: Iterable[Path]) -> None:
    """Refuse flow files of another project than the one at hand: its state would take their flows.

    Args:
        config: Of the project at hand.
        files: Flow files.

    Raises:
        ConfigError: One has an `aero.toml`, or state, of its own.
    """
    for file in files:
        folder = file.absolute().parent
        own = _find_root(folder, with_state=False)
        if own is None and not config.named and exists(folder / STATE_FOLDER / CATALOG_FILE):
            own = folder
        if own is not None and own.resolve() != config.root.resolve():
            raise ConfigError(
                f"{file} is of the project in {own}, and not of the one in {config.root}: call aero for each project"
            )


def _find_root(folder: Path, with_state: bool) -> Path | None:
    for candidate in (folder, *folder.parents):
        # Access first: a folder above may be somebody else's, and ours to pass over.
        if os.access(candidate / CONFIG_FILE, os.F_OK) and (candidate / CONFIG_FILE).is_file():
            return candidate
        # A folder of this name alone is not enough: other tools keep one in the home folder.
        if with_state and exists(candidate / STATE_FOLDER / CATALOG_FILE):
            return candidate
    return None


def _read_user_file() -> dict[str, Any]:
    """The user's file; none where its folder cannot be entered: HOME may be another user's, as below sudo."""
    import platformdirs

    file = platformdirs.user_config_path("aero") / CONFIG_FILE
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        logger.warning("%s is passed over, it cannot be reached: %s", file, error.strerror)
        return {}
    return _read(file)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    except ValueError:
        raise ConfigError(f"{file} cannot be read: a number in it has thousands of digits") from None
    except RecursionError:
        raise ConfigError(f"{file} cannot be read: lists or tables in it are nested too deeply") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _build(parsed: _File, root: Path, state: Path, file: Path | None, wanted: str | None) -> Config:
    name = wanted or os.environ.get("AERO_PROFILE") or parsed.profile
    if name != "default" and name not in parsed.profiles:
        known = ", ".join(sorted({"default", *parsed.profiles}))
        raise ConfigError(
            f"no profile is named {name!r}: add [profiles.{name}] to {CONFIG_FILE}, or use one of {known}"
        )
    profile = parsed.profiles.get(name, Profile())
    if os.environ.get("AERO_CATALOG"):
        profile = attrs.evolve(profile, catalog=os.environ["AERO_CATALOG"])
    stores = {
        DATA_STORE: Store(DATA_STORE, (state / DATA_STORE_FOLDER).as_uri()),
        CODE_STORE: Store(CODE_STORE, (state / "code").as_uri()),
    }
    stores.update({key: _store(key, value, root) for key, value in parsed.stores.items()})
    config = Config(
        root=root,
        state=state,
        file=file,
        project=parsed.project,
        profile_name=name,
        profile=profile,
        stores=stores,
        limits=_limits(parsed.limits),
        plugins=_selection(parsed.plugins, root),
        targets={**parsed.provenance, **parsed.alerts},
    )
    config.store(profile.store)
    return config


def _limits(limits: LimitSettings) -> LimitSettings:
    for name in ("runs", "endpoint", "host"):
        value = getattr(limits, name)
        if value is not None and value < 1:
            raise ConfigError(f"[limits] {name} is {value}: expected a whole number of at least 1")
    return limits


def _store(name: str, values: Mapping[str, Any], root: Path) -> Store:
    url = values.get("url")
    if not isinstance(url, str) or not url:
        raise ConfigError(f"[stores.{name}] url is {url!r}: expected a URL such as 'file:///data/aero', or a folder")
    if "\0" in url:
        raise ConfigError(f"[stores.{name}] url is {url!r}: no path holds a NUL character")
    if "://" not in url:
        url = (root / Path(url).expanduser()).resolve().as_uri()
    return Store(name, url.rstrip("/"), {key: value for key, value in values.items() if key != "url"})


def _selection(values: Mapping[str, Any], root: Path) -> Selection:
    settings = {key: value for key, value in values.items() if key not in _PLUGIN_KEYS}
    for key, value in settings.items():
        if not isinstance(value, dict):
            raise ConfigError(
                f"[plugins] {key} is {value!r}: expected {', '.join(_PLUGIN_KEYS)}, "
                f"or a table [plugins.{key}] of settings"
            )
    known = {key: value for key, value in values.items() if key in _PLUGIN_KEYS}
    selection = structure_strict(known, Selection, "[plugins]", ConfigError)
    listed = os.environ.get("AERO_DISABLE_PLUGINS", "")
    disabled = tuple(part.strip() for part in listed.split(",") if part.strip())
    return attrs.evolve(selection, disabled=selection.disabled + disabled, settings=settings, root=str(root))


def toml_text(text: str) -> str:
    """A text as TOML writes it: as JSON does, but that DEL may not stand there as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def exists(path: Path) -> bool:
    """Whether something is there, or in a folder that shows nobody: who then uses it says so."""
    folder = path.parent
    return os.access(path, os.F_OK) or (os.access(folder, os.F_OK) and not os.access(folder, os.X_OK))
