"""Flows: a function over data, when it runs, and what registering it means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum, StrEnum

import attrs
from attrs import frozen

from aero_core.models.data import DataKind, Source
from aero_core.models.values import JSON, Rule, Schedule, short_hash


class PolicyEnum(IntEnum):
    """When a flow runs again."""

    NONE = -1
    INGESTION = 0
    TIMER = 1
    ANY = 2
    ALL = 3
    INGESTION_EVENT = 4


class InputMode(StrEnum):
    """Which versions of an input a run takes."""

    LATEST = "latest"
    EACH = "each"
    NEW = "new"
    MEMBERS = "members"


class InputShape(StrEnum):
    """How a parameter receives its input: one path, a list of paths, or a mapping of names to paths."""

    ONE = "one"
    LIST = "list"
    DICT = "dict"


class FlowState(StrEnum):
    """Whether a flow runs. Disabled: gone from its flow file."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


#: The parameter by which a function asks for what its flow made last; no input, and no trigger.
PREVIOUS = "previous"


@frozen
class Input:
    """One data that a flow reads.

    Attributes:
        parameter: The function's parameter.
        data: Name of the data; in a registration also an id.
        data_id: Its id, once registered.
        item: Position or key within a list or mapping parameter; empty otherwise.
        shape: How the parameter receives it.
        version: The number it is pinned to, or None.
        mode: Which versions a run takes.
    """

    parameter: str
    data: str
    data_id: str = ""
    item: str = ""
    shape: InputShape = InputShape.ONE
    version: int | None = None
    mode: InputMode = InputMode.LATEST


@frozen
class Output:
    """One data that a flow makes.

    Attributes:
        key: Name by which the function answers it; empty for the only one.
        data: Name of the data.
        data_id: Its id, once registered.
    """

    key: str
    data: str
    data_id: str = ""
    kind: DataKind = DataKind.FILE


@frozen
class ArgumentSet:
    """One of a flow's sets of keyword arguments; `key` is empty where there is only one set."""

    kwargs: Mapping[str, JSON] = attrs.field(factory=dict)
    key: str = ""


@frozen
class Function:
    """A function's code as it is kept.

    Attributes:
        name: The function's name in its file.
        digest: `sha256:<hex>` of the part of the code that decides whether the function changed.
        bundle_id: `sha256:<hex>` of the archive that holds the code.
        location: Where the archive is, as a version's location.
        size: The archive's bytes.
        entry: The file in the archive that holds the function; empty for a pickled function.
        parameters: The function's parameter names, in order.
    """

    name: str
    digest: str
    bundle_id: str
    location: str
    size: int
    entry: str
    parameters: tuple[str, ...] = ()


@frozen
class FlowSpec:
    """What a registration says of one flow.

    The key is (namespace, project, origin, name). `memory` and `source.limit` are bytes, `timeout` is seconds.
    """

    name: str
    origin: str = "api"
    project: str = ""
    namespace: str = ""
    function: Function | None = None
    source: Source | None = None
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    argument_sets: tuple[ArgumentSet, ...] = (ArgumentSet(),)
    policy: PolicyEnum = PolicyEnum.NONE
    schedule: Schedule | None = None
    rule: Rule = attrs.field(factory=Rule)
    store: str = "local"
    executor: str = "local"
    endpoint: str | None = None
    retries: int = 0
    timeout: float | None = None
    memory: int | None = None
    rerun: bool = True
    readonly_inputs: bool = False
    tags: tuple[str, ...] = ()
    description: str | None = None

    def kwargs_of(self, key: str) -> Mapping[str, JSON]:
        """The kwargs of the argument set of this key; none where there is no such set."""
        return next((arguments.kwargs for arguments in self.argument_sets if arguments.key == key), {})

    def content(self) -> dict[str, JSON]:
        """What makes a new revision when it differs: code, inputs, kwargs, outputs and source."""
        return {
            "code": None if self.function is None else [self.function.name, self.function.digest],
            "source": None if self.source is None else [list(self.source.urls), dict(self.source.options)],
            "inputs": sorted(
                [i.parameter, i.item, i.shape, i.data_id or i.data, i.version, i.mode] for i in self.inputs
            ),
            "kwargs": [[s.key, dict(s.kwargs)] for s in self.argument_sets],
            "outputs": [[o.key, o.data, o.kind] for o in self.outputs],
        }


@frozen
class Flow:
    """A registered flow.

    Attributes:
        revision: 1, 2, 3 ...; a change of code, inputs, kwargs, outputs or source makes a new one.
        anchor: The instant that interval ticks are counted from, UTC.
        next_tick: When its schedule is next looked at, UTC.
    """

    id: str
    spec: FlowSpec
    revision: int = 1
    state: FlowState = FlowState.ACTIVE
    anchor: datetime | None = None
    next_tick: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    owner: str | None = None

    @property
    def name(self) -> str:
        """The flow's name."""
        return self.spec.name


class ChangeKind(StrEnum):
    """What registering does to one flow."""

    NEW = "new"
    CHANGED = "changed"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    GONE = "gone"


@frozen
class Change:
    """One line of a plan.

    Attributes:
        kind: new; changed (a new revision, due once); updated (settings only, no rerun); unchanged; gone.
        fields: What differs, in words of the flow file (`code`, `inputs`, `every` ...).
        disabled: A gone flow that is disabled by this registration.
    """

    kind: ChangeKind
    flow: str
    fields: tuple[str, ...] = ()
    flow_id: str = ""
    disabled: bool = False


@frozen
class Registration:
    """Flows that are registered together, in one transaction.

    Attributes:
        project, namespace: Those of all `specs`.
        origins: The origins whose further flows are gone if not among `specs`.
        prune: Disable the gone ones.
        dry_run: Answer the plan and change nothing.
        adopt: An old origin whose flows of equal name are moved to the new one.
    """

    specs: tuple[FlowSpec, ...]
    project: str = ""
    namespace: str = ""
    origins: tuple[str, ...] = ()
    prune: bool = False
    dry_run: bool = False
    adopt: str | None = None
    agent: str = ""


def argument_set_key(kwargs: Mapping[str, JSON]) -> str:
    """The key of one argument set among several: a hash of its kwargs."""
    return short_hash(dict(kwargs))
