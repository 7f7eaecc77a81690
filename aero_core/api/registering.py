"""From declared flows to registered ones: packing their code, and checking the parts that they name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from aero_core import config as configuration
from aero_core.bundle import describe, pack
from aero_core.catalog import Catalog
from aero_core.config import CATALOG_FILE, CODE_STORE, Config
from aero_core.errors import ConfigError, PluginError, RegistrationError
from aero_core.flowfile import Code, load_flow_file, origin_of, specs
from aero_core.models import Artifact, Change, Context, Family, FlowSpec, FlowState, Function, Registration
from aero_core.plugins import Plugins, scheme_of


def pack_with(config: Config, plugins: Plugins, dry_run: bool = False) -> Callable[[Code], Function]:
    """How a function's code is packed and kept: in the store `code`, named by its checksum.

    Args:
        config: Names that store.
        plugins: Serve it.
        dry_run: Find out the digest only.
    """

    def keep(code: Code) -> Function:
        described = describe(code.function, code.folder, code.code)
        with tempfile.TemporaryDirectory(prefix="aero-") as folder:
            archive = Path(folder) / "bundle.zip"
            bundle = pack(described, archive)
            size = archive.stat().st_size
            url = ""
            if not dry_run:
                place = config.store(CODE_STORE).place(f"{bundle.id.rpartition(':')[2]}.zip")
                artifact = Artifact(str(archive), bundle.id, size, "application/zip", None, ".zip")
                url = plugins.store(artifact, place, lambda done, total: None)
                plugins.register_function(config.profile.executor, bundle)
        return Function(
            name=described.function,
            digest=described.digest,
            bundle_id=bundle.id,
            location=config.saved(url),
            size=size,
            entry=described.entry,
            parameters=described.parameters,
        )

    return keep


def check_settings(plugins: Plugins) -> None:
    """Refuse plugins' settings that cannot be: their plugin is left out, and nobody might miss it.

    Raises:
        ConfigError: One line that names the setting.
    """
    for info in plugins.infos():
        if info.misconfigured:
            raise ConfigError(info.reason)


def check_parts(specs: Sequence[FlowSpec], config: Config, plugins: Plugins) -> None:
    """Refuse flows whose executor, endpoint, store, rule or source nobody serves, or that do not go together.

    Raises:
        RegistrationError: One line that names the flow.
    """
    for spec in specs:
        try:
            _check(spec, config, plugins)
        except (ConfigError, PluginError) as error:
            raise RegistrationError(f"flow {spec.name!r}: {error}") from None


def _check(spec: FlowSpec, config: Config, plugins: Plugins) -> None:
    executor = plugins.offer(Family.EXECUTOR, spec.executor)
    answer = plugins.check_endpoint(spec.executor, spec.endpoint)
    if not answer.ok:
        raise ConfigError(f"endpoint {spec.endpoint!r} cannot be used: {answer.message}")
    plugins.serving(Family.FINGERPRINT, spec.rule.name)
    store = plugins.offer(Family.STORE, scheme_of(config.store(spec.store).url))
    parts = [(f"store {spec.store!r}", store.machine_local)] if spec.outputs else []
    urls = spec.source.urls if spec.source else ()
    parts += [(f"source {url}", plugins.offer(Family.FETCH, scheme_of(url)).machine_local) for url in urls]
    for what, machine_local in parts:
        if machine_local and not executor.machine_local:
            raise ConfigError(
                f"{what} is on this machine only, and executor {spec.executor!r} runs elsewhere: "
                "use a store and a source that both can reach"
            )


def plan_only(plugins: Plugins, url: str, registration: Registration, root: Path) -> tuple[Change, ...]:
    """The plan of a registration, from a catalog that is opened for it alone."""
    catalog = plugins.open_catalog(url)
    try:
        moved = moved_origin(catalog, root, registration)
        return catalog.register(attrs.evolve(registration, adopt=moved))
    finally:
        catalog.close()


def moved_origin(catalog: Catalog, root: Path, registration: Registration) -> str | None:
    """The old origin of a flow file that was only moved or renamed: its file is gone, and its flows are equal.

    Args:
        catalog: Knows the flows of other origins.
        root: The folder that origins are relative to.
        registration: The file's flows; of one origin.
    """
    if len(registration.origins) != 1 or registration.adopt is not None:
        return registration.adopt
    old: dict[str, set[str]] = {}
    after: str | None = None
    while True:
        page = catalog.list_flows(after, namespace=registration.namespace)
        for flow in page.items:
            if flow.spec.project == registration.project and flow.state is not FlowState.DISABLED:
                old.setdefault(flow.spec.origin, set()).add(flow.name)
        after = page.next
        if after is None:
            break
    names = {spec.name for spec in registration.specs}
    if registration.origins[0] in old:
        return None
    for origin, known in old.items():
        if known == names and origin.endswith(".py") and not (root / origin).exists():
            changes = catalog.register(attrs.evolve(registration, adopt=origin, dry_run=True))
            if all(change.fields == ("file",) for change in changes):
                return origin
    return None


def plan(
    files: Sequence[str | os.PathLike[str]],
    state: Path | None = None,
    profile: str | None = None,
    adopt: str | None = None,
) -> tuple[Change, ...]:
    """What `Aero.apply` would do, without doing it: nothing is written, not even a state folder."""
    config = configuration.load(Path(files[0]).absolute(), state, profile)
    plugins = make_plugins(config)
    try:
        check_settings(plugins)
        made, origins = read_files(config, plugins, files, dry_run=True)
        check_parts(made, config, plugins)
        registration = Registration(
            made,
            project=config.project,
            namespace=config.profile.namespace,
            origins=origins,
            dry_run=True,
            adopt=adopt,
        )
        if config.profile.catalog or (config.state / CATALOG_FILE).exists():
            return plan_only(plugins, config.catalog_url, registration, config.root)
        with tempfile.TemporaryDirectory(prefix="aero-") as folder:
            return plan_only(plugins, f"sqlite:///{folder}/{CATALOG_FILE}", registration, config.root)
    finally:
        plugins.close()


def make_plugins(config: Config) -> Plugins:
    """The profile's plugins on the engine's side."""
    context = Context(side="engine", profile=config.profile_name, state=str(config.state))
    return Plugins(config.plugins, context, config.profile.authenticators)


def read_files(
    config: Config, plugins: Plugins, files: Sequence[str | os.PathLike[str]], dry_run: bool = False
) -> tuple[tuple[FlowSpec, ...], tuple[str, ...]]:
    """What flow files declare, and their origins."""
    profile = config.profile
    made: list[FlowSpec] = []
    origins: list[str] = []
    for file in files:
        loaded = load_flow_file(Path(file))
        origin = origin_of(loaded.path, config.root)
        origins.append(origin)
        made += specs(
            loaded.declarations,
            pack_with(config, plugins, dry_run),
            folder=loaded.folder,
            origin=origin,
            project=config.project,
            namespace=profile.namespace,
            store=profile.store,
            executor=profile.executor,
        )
    if profile.endpoint is not None:
        made = [attrs.evolve(spec, endpoint=spec.endpoint or profile.endpoint) for spec in made]
    return tuple(made), tuple(origins)
