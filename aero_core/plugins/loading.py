"""Finding plugins, loading each on its own, and choosing who serves what."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import attrs
import pluggy
from attrs import frozen

from aero_core import hookspecs
from aero_core.config import Selection
from aero_core.converter import structure_strict, unstructure
from aero_core.errors import AeroError, ConfigError, InvalidValue, PluginError
from aero_core.models import Context, Family, PluginNeed, Provides

P = ParamSpec("P")
R = TypeVar("R")

GROUP = "aero"


@frozen
class PluginInfo:
    """What is known of one plugin.

    Attributes:
        status: `ok`, `disabled` or `broken`.
        module: The file of a site adapter; empty for an installed plugin.
        reason: Why it is broken.
        misconfigured: It is broken by what `aero.toml` says of it.
    """

    name: str
    status: str
    distribution: str = ""
    version: str = ""
    provides: tuple[Provides, ...] = ()
    hooks: tuple[str, ...] = ()
    module: str = ""
    reason: str = ""
    misconfigured: bool = False


@frozen
class _Candidate:
    """Something that may be a plugin, not loaded yet."""

    name: str
    distribution: str
    version: str
    load: Callable[[], object]
    module: str = ""


class Registry:
    """The plugins that could be loaded, why the others could not, and who serves what."""

    def __init__(
        self,
        selection: Selection,
        context: Context,
        authenticators: Sequence[str] = (),
        only: Collection[str] | None = None,
    ) -> None:
        self._selection = selection
        self._context = context
        self._authenticators = tuple(authenticators)
        self._manager = pluggy.PluginManager(hookspecs.NAMESPACE)
        self._manager.add_hookspecs(hookspecs)
        self._infos: dict[str, PluginInfo] = {}
        self._settings: dict[str, object] = {}
        self._callers: dict[tuple[str, str], Callable[..., Any]] = {}
        self._serving: dict[tuple[Family, str], str] = {}
        for candidate in _candidates(selection):
            if only is None or candidate.name in only:
                self._add(candidate)
        # Made while plugins were still being added, they would ask those that came later too.
        self._callers.clear()
        if only is None:
            self._name_missing()
        self._needs = tuple(self._need(info) for info in self.infos() if info.status == "ok")

    def close(self) -> None:
        """Shut the plugins down; one that fails stops no other."""
        for name in self._having("aero_shutdown"):
            try:
                self._ask(hookspecs.aero_shutdown, name)()
            except KeyboardInterrupt:
                raise
            # It is over for this plugin in any case, and the others are still to come.
            except BaseException as error:  # noqa: BLE001
                self._infos[name] = attrs.evolve(self._infos[name], reason=f"failed at shutdown: {_line(error)}")

    def infos(self) -> tuple[PluginInfo, ...]:
        """All plugins that were found, by name, loaded or not."""
        return tuple(self._infos[name] for name in sorted(self._infos))

    def needs(self) -> tuple[PluginNeed, ...]:
        """The loaded plugins and their settings, as a task carries them."""
        return self._needs

    def _need(self, info: PluginInfo) -> PluginNeed:
        settings = self._settings[info.name]
        return PluginNeed(info.name, info.version, {} if settings is None else unstructure(settings), info.module)

    # Choosing

    def serving(self, family: Family, name: str) -> str:
        """The plugin that serves a scheme or name.

        Raises:
            PluginError: None does, or several do and no setting decides.
        """
        if (family, name) not in self._serving:
            self._serving[family, name] = self._choose(family, name)
        return self._serving[family, name]

    def _choose(self, family: Family, name: str) -> str:
        offers = [
            (info.name, record)
            for info in self.infos()
            if info.status == "ok"
            for record in info.provides
            if record.family is family and record.name == name
        ]
        wanted = f"{family.value}:{name}"
        preferred = self._selection.prefer.get(wanted)
        if preferred is not None:
            if preferred in [plugin for plugin, _ in offers]:
                return preferred
            raise PluginError(f"[plugins] prefer says {wanted!r} = {preferred!r}, but that plugin does not serve it")
        strong = [plugin for plugin, record in offers if not record.fallback] or [plugin for plugin, _ in offers]
        if len(strong) > 1:
            raise PluginError(
                f"plugins {' and '.join(map(repr, strong))} both serve {wanted}: "
                f'choose one with [plugins] prefer = {{ "{wanted}" = "{strong[0]}" }}'
            )
        if not strong:
            raise PluginError(self._nobody(family, name))
        return strong[0]

    def offer(self, family: Family, name: str) -> Provides:
        """The record by which the serving plugin declares a scheme or name."""
        plugin = self.serving(family, name)
        return next(r for r in self._infos[plugin].provides if r.family is family and r.name == name)

    def offers(self, family: Family) -> tuple[str, ...]:
        """All names that are served in a family."""
        names = {r.name for i in self._infos.values() if i.status == "ok" for r in i.provides if r.family is family}
        return tuple(sorted(names))

    def _nobody(self, family: Family, name: str) -> str:
        known = ", ".join(self.offers(family)) or "nothing"
        broken = [f"plugin {i.name!r} was left out: {i.reason}" for i in self.infos() if i.status == "broken"]
        disabled = [i.name for i in self.infos() if i.status == "disabled"]
        if disabled:
            broken.append(f"disabled: {', '.join(disabled)}")
        more = f"; {'; '.join(broken)}" if broken else "; install a plugin that does, see `aero plugins list`"
        return f"no plugin serves {family.value} {name!r} (served: {known}){more}"

    # Loading

    def _add(self, candidate: _Candidate) -> None:
        info = PluginInfo(candidate.name, "ok", candidate.distribution, candidate.version, module=candidate.module)
        disabled = self._selection.disabled
        if candidate.name in disabled or "*" in disabled:
            self._infos[candidate.name] = attrs.evolve(info, status="disabled")
            return
        if candidate.name in self._infos:
            other = self._infos[candidate.name]
            reason = f"two plugins are named {candidate.name!r}: {other.distribution} and {candidate.distribution}"
            self._infos[f"{candidate.name} ({candidate.distribution})"] = attrs.evolve(
                info, status="broken", reason=reason
            )
            return
        try:
            self._register(candidate)
            self._infos[candidate.name] = info
            provides = self._declared(candidate.name)
            self._configure(candidate.name)
            hooks = tuple(sorted(caller.name for caller in self._hooks(candidate.name)))
            self._infos[candidate.name] = attrs.evolve(info, provides=provides, hooks=hooks)
        except KeyboardInterrupt:
            raise
        # A plugin is other people's code: whatever it does while it loads, `sys.exit` too, AERO goes on without it.
        except BaseException as error:  # noqa: BLE001
            if self._manager.has_plugin(candidate.name):
                self._manager.unregister(name=candidate.name)
            self._infos[candidate.name] = attrs.evolve(
                info, status="broken", reason=_line(error), misconfigured=isinstance(error, (ConfigError, InvalidValue))
            )

    def _name_missing(self) -> None:
        """Settings for a plugin that is not there are most often a slip of the pen: they are shown as such."""
        for name in self._selection.settings:
            if name not in self._infos:
                reason = f"[plugins.{name}] in aero.toml has settings for it, but no plugin of that name is installed"
                self._infos[name] = PluginInfo(name, "broken", reason=reason)

    def _declared(self, name: str) -> tuple[Provides, ...]:
        records = tuple(record for some in self._ask_if_there(hookspecs.aero_provides, name) for record in some)
        for record in records:
            if not isinstance(record, Provides):
                raise PluginError(f"aero_provides answered {record!r}: expected records of aero_core.models.Provides")
        return records

    def _register(self, candidate: _Candidate) -> None:
        plugin = candidate.load()
        if inspect.isclass(plugin):
            plugin = plugin()
        version = getattr(plugin, "aero_api_version", hookspecs.API_VERSION)
        if version != hookspecs.API_VERSION:
            raise PluginError(
                f"it is written for version {version} of AERO's hooks, this AERO has {hookspecs.API_VERSION}: "
                "install a release of the plugin for this AERO"
            )
        self._manager.register(plugin, candidate.name)
        unknown = [caller.name for caller in self._hooks(candidate.name) if not caller.has_spec()]
        if unknown:
            raise PluginError(f"AERO has no hook named {', '.join(sorted(unknown))}: see docs/reference/hooks")

    def _hooks(self, name: str) -> Sequence[pluggy.HookCaller]:
        return self._manager.get_hookcallers(self._manager.get_plugin(name)) or []

    def _configure(self, name: str) -> None:
        kinds = self._ask_if_there(hookspecs.aero_settings, name)
        given = self._selection.settings.get(name, {})
        settings: object = None
        if kinds:
            settings = structure_strict(given, kinds[0], f"[plugins.{name}] in aero.toml", ConfigError)
        elif given:
            raise ConfigError(f"[plugins.{name}] in aero.toml: this plugin has no settings")
        self._settings[name] = settings
        if name in self._having("aero_configure"):
            self._caller(hookspecs.aero_configure, name)(settings=settings, context=self._context)

    # Asking

    def _having(self, hook: str) -> list[str]:
        return sorted({impl.plugin_name for impl in self._answering(hook)})

    def _answering(self, hook: str) -> list[pluggy.HookImpl]:
        """All implementations but wrappers, of either kind."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        return [impl for impl in implementations if not impl.wrapper and not impl.hookwrapper]

    def _caller(self, spec: Callable[..., object], name: str) -> Callable[..., Any]:
        """The hook with one plugin's implementation and everybody's wrappers."""
        key = (spec.__name__, name)
        if key not in self._callers:
            others = [impl.plugin for impl in self._answering(spec.__name__) if impl.plugin_name != name]
            self._callers[key] = self._manager.subset_hook_caller(spec.__name__, others)
        return self._callers[key]

    def _ask_if_there(self, spec: Callable[..., Any], name: str) -> list[Any]:
        if name not in self._having(spec.__name__):
            return []
        answer = self._caller(spec, name)()
        return answer if isinstance(answer, list) else [] if answer is None else [answer]

    def _ask(self, spec: Callable[P, R], name: str) -> Callable[P, R]:
        """Call one plugin's hook with the spec's own signature; anything but AERO's errors is the plugin's fault."""
        caller = self._caller(spec, name)
        signature = _signature(spec)

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs).arguments
            try:
                answer = caller(**given)
            except (AeroError, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise PluginError(f"plugin {name!r} failed in {spec.__name__}: {_line(error)}") from error
            return cast("R", answer)

        return call

    def _must(self, spec: Callable[P, R | None], family: Family, name: str) -> Callable[P, R]:
        """As `_ask` for the plugin that serves something; None breaks its word."""
        plugin = self.serving(family, name)
        ask = self._ask(spec, plugin)

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            answer = ask(*args, **kwargs)
            if answer is None:
                raise PluginError(
                    f"plugin {plugin!r} declares {family.value} {name!r}, but {spec.__name__} answered nothing"
                )
            return answer

        return call


@cache
def _signature(spec: Callable[..., object]) -> inspect.Signature:
    return inspect.signature(spec)


def _candidates(selection: Selection) -> Iterator[_Candidate]:
    points = importlib.metadata.entry_points(group=GROUP)
    for point in sorted(points, key=lambda point: point.name):
        distribution = point.dist
        yield _Candidate(
            point.name,
            distribution.name if distribution else "",
            distribution.version if distribution else "",
            point.load,
        )
    for module in selection.modules:
        path = Path(selection.root) / module
        yield _Candidate(path.stem, str(path), "", partial(_import_file, path), str(path))


def _import_file(path: Path) -> object:
    if not path.is_file():
        raise PluginError(f"[plugins] modules names {path}, which is not there")
    name = f"aero_site_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _line(error: BaseException) -> str:
    try:
        text = str(error).strip().splitlines()
    # An exception of other people's may fail at being told, too.
    except Exception:  # noqa: BLE001
        text = []
    if isinstance(error, pluggy.PluginValidationError):
        # Which arguments are wrong stands in its later lines.
        return "; ".join(line.strip() for line in text)
    if isinstance(error, AeroError):
        return text[0] if text else type(error).__name__
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
