"""From declared flows to registered ones: packing their code, and checking the parts that they name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from aero_core.bundle import describe, pack
from aero_core.catalog import Catalog
from aero_core.config import CATALOG_FILE, CODE_STORE, Config
from aero_core.errors import ConfigError, InvalidValue, NotFound, PluginError, RegistrationError
from aero_core.flowfile import Code, FlowFile, load_flow_file, origin_of, specs
from aero_core.models import Artifact, Change, Context, Family, Flow, FlowSpec, FlowState, Function, Registration
from aero_core.plugins import Plugins, scheme_of


def pack_with(config: Config, plugins: Plugins, dry_run: bool = False) -> Callable[[Code], Function]:
    """How a function's code is packed and kept: in the store `code`, named by its checksum.

    Args:
        config: Names that store, and the executor.
        plugins: Serve them.
        dry_run: Find out the digest only.

    Raises:
        ConfigError: Nobody serves the executor.
    """
    try:
        plugins.serving(Family.EXECUTOR, config.profile.executor)
    except PluginError as error:
        raise ConfigError(f"profile {config.profile_name!r}: {error}") from None

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
        except (ConfigError, InvalidValue, PluginError) as error:
            raise RegistrationError(f"flow {spec.name!r}: {error}") from None


def _check(spec: FlowSpec, config: Config, plugins: Plugins) -> None:
    executor = plugins.offer(Family.EXECUTOR, spec.executor)
    answer = plugins.check_endpoint(spec.executor, spec.endpoint)
    if not answer.ok:
        raise ConfigError(f"endpoint {spec.endpoint!r} cannot be used: {answer.message}")
    plugins.check_rule(spec.rule)
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
    for flow in _flows(catalog, registration.namespace):
        if flow.spec.project == registration.project and flow.state is not FlowState.DISABLED:
            old.setdefault(flow.spec.origin, set()).add(flow.name)
    names = {spec.name for spec in registration.specs}
    if registration.origins[0] in old:
        return None
    for origin, known in old.items():
        if known == names and origin.endswith(".py") and not (root / origin).exists():
            changes = catalog.register(attrs.evolve(registration, adopt=origin, dry_run=True))
            if all(change.fields == ("file",) for change in changes):
                return origin
    return None


def _flows(catalog: Catalog, namespace: str) -> Iterator[Flow]:
    after: str | None = None
    while True:
        page = catalog.list_flows(after, namespace=namespace)
        yield from page.items
        after = page.next
        if after is None:
            return


def _check_adopted(catalog: Catalog, registration: Registration) -> None:
    """Refuse an origin to adopt that no flow has: most often it is mistyped."""
    if registration.adopt is None:
        return
    # Of all projects: that a flow is of another one is said when it is registered.
    origins = {flow.spec.origin for flow in _flows(catalog, registration.namespace)}
    if registration.adopt not in origins:
        known = ", ".join(sorted(origins)[:10]) or "none"
        raise NotFound(f"no flow is of {registration.adopt!r}, nothing is adopted: there are flows of {known}")


def plan(config: Config, plugins: Plugins, registration: Registration) -> tuple[Change, ...]:
    """What a registration would do, where AERO keeps no state yet: none is made."""
    with tempfile.TemporaryDirectory(prefix="aero-") as folder:
        catalog = plugins.open_catalog(config.profile.catalog or f"sqlite:///{folder}/{CATALOG_FILE}")
        try:
            return register(catalog, config.root, attrs.evolve(registration, dry_run=True))
        finally:
            catalog.close()


def register(catalog: Catalog, root: Path, registration: Registration) -> tuple[Change, ...]:
    """Register flows, those of a file that was only moved as what they were.

    Raises:
        NotFound: No flow has the origin to adopt.
    """
    _check_adopted(catalog, registration)
    moved = moved_origin(catalog, root, registration)
    return catalog.register(attrs.evolve(registration, adopt=moved))


def make_plugins(config: Config) -> Plugins:
    """The profile's plugins on the engine's side."""
    context = Context(side="engine", profile=config.profile_name, state=str(config.state))
    return Plugins(config.plugins, context, config.profile.authenticators)


def load_files(files: Sequence[FlowFile | str | os.PathLike[str]]) -> tuple[FlowFile, ...]:
    """Read flow files, but for those that were read before."""
    return tuple(file if isinstance(file, FlowFile) else load_flow_file(Path(file)) for file in files)


def specs_of(
    config: Config, plugins: Plugins, files: Sequence[FlowFile], dry_run: bool = False
) -> tuple[tuple[FlowSpec, ...], tuple[str, ...]]:
    """What is registered of flow files, and their origins."""
    profile = config.profile
    made: list[FlowSpec] = []
    origins: list[str] = []
    for file in files:
        origin = origin_of(file.path, config.root)
        origins.append(origin)
        made += specs(
            file.declarations,
            pack_with(config, plugins, dry_run),
            folder=file.folder,
            origin=origin,
            project=config.project,
            namespace=profile.namespace,
            store=profile.store,
            executor=profile.executor,
        )
    if profile.endpoint is not None:
        made = [attrs.evolve(spec, endpoint=spec.endpoint or profile.endpoint) for spec in made]
    return tuple(made), tuple(origins)
