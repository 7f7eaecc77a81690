"""What travels to where a run happens, and what comes back: JSON-able both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

import attrs
from attrs import frozen

from aero_core.models.data import Artifact, DataKind, Location, Previous, SourceMember
from aero_core.models.flow import InputShape
from aero_core.models.run import Environment, Failure, MemberCheck, NewVersion, Step
from aero_core.models.values import JSON, Rule


@frozen
class AeroOutput:
    """What a user function answers: an output's name and the local file that holds it."""

    name: str
    path: str


@frozen
class CodeRef:
    """A function in an archived bundle; `entry` is empty for a pickled function."""

    bundle_id: str
    location: Location
    entry: str
    function: str
    parameters: tuple[str, ...] = ()


@frozen
class TaskInput:
    """One input version to pull."""

    parameter: str
    data: str
    number: int
    location: Location
    checksum: str | None
    size: int | None
    suffix: str = ""
    media_type: str | None = None
    encoding: str | None = None
    item: str = ""
    shape: InputShape = InputShape.ONE


@frozen
class TaskPrevious:
    """The version that an output's new content is compared with."""

    number: int
    fingerprint: str
    location: Location
    checksum: str | None
    size: int | None
    suffix: str = ""
    member: str = ""
    media_type: str | None = None


@frozen
class TaskOutput:
    """One output to store.

    Attributes:
        place: Folder URL below which the store puts content by its checksum.
        previous: Latest version of each member.
    """

    key: str
    data: str
    data_id: str
    rule: Rule
    place: Location
    kind: DataKind = DataKind.FILE
    previous: tuple[TaskPrevious, ...] = ()


@frozen
class TaskFetch:
    """One member of a source to fetch, and what is known of it."""

    member: SourceMember
    previous: Previous | None = None


@frozen
class PluginNeed:
    """A plugin that a task needs where it runs: name, version there, and its settings (secrets as placeholders).

    Attributes:
        module: The file of a site adapter, which must be at the same path there; empty for an installed plugin.
    """

    name: str
    version: str = ""
    settings: Mapping[str, JSON] = attrs.field(factory=dict)
    module: str = ""


@frozen
class Task:
    """All that a run needs to happen somewhere: pull, function, store.

    Attributes:
        scratch: Folder for files while the run happens; empty: a temporary one is made.
        cache: Folder for unpacked bundles; empty: within scratch.
        member: Member key of what an argument set makes.
        selection: `[plugins] prefer` and disabled names, so that both sides choose alike.
    """

    run_id: str
    attempt_id: str
    flow: str
    flow_id: str
    inputs: tuple[TaskInput, ...] = ()
    fetches: tuple[TaskFetch, ...] = ()
    outputs: tuple[TaskOutput, ...] = ()
    code: CodeRef | None = None
    kwargs: Mapping[str, JSON] = attrs.field(factory=dict)
    readonly_inputs: bool = False
    scratch: str = ""
    cache: str = ""
    member: str = ""
    plugins: tuple[PluginNeed, ...] = ()
    prefer: Mapping[str, str] = attrs.field(factory=dict)


@frozen
class PulledInput:
    """An input version that is now a local file."""

    parameter: str
    path: str
    number: int
    url: str
    item: str = ""
    shape: InputShape = InputShape.ONE


@frozen
class Made:
    """A file that becomes a version of an output: what a function answered, or what a fetch brought."""

    key: str
    path: str
    member: str = ""
    artifact: Artifact | None = None


@frozen
class Pulled:
    """What the step *pull* leaves in scratch.

    Attributes:
        made: Fetched content, already on its way to become versions.
    """

    inputs: tuple[PulledInput, ...] = ()
    made: tuple[Made, ...] = ()
    members: tuple[MemberCheck, ...] = ()


@frozen
class Result:
    """What `execute` answers: content and checks for the commit, or a failure."""

    versions: tuple[NewVersion, ...] = ()
    members: tuple[MemberCheck, ...] = ()
    steps: tuple[Step, ...] = ()
    metrics: Mapping[str, JSON] = attrs.field(factory=dict)
    environment: Environment | None = None
    failure: Failure | None = None
    log: str = ""


@frozen
class Report:
    """Word from a running attempt: the step that it is in, and bytes done of bytes in all."""

    attempt_id: str
    step: str
    done: int = 0
    total: int | None = None


@frozen
class Attempt:
    """One launch of a run, handed to an executor.

    Attributes:
        id: Unique; use it as the outside system's idempotency key where that has one.
        task: JSON-able argument of `aero_core.jobs.execute`.
        endpoint: Where to run it, in the executor's own words.
        memory: Bytes that the function may use, or None for the executor's default.
        timeout: Seconds from the function's start, or None.
        log: File that takes stdout and stderr where the executor shares this machine's files; else answer it in
            `Result.log`.
        report: Called with each `Report`, from any thread, where the executor can.
    """

    id: str
    task: Mapping[str, JSON]
    endpoint: str | None = None
    memory: int | None = None
    timeout: float | None = None
    log: str | None = None
    report: Callable[[Report], None] | None = None


@frozen
class Launched:
    """An executor's answer: a handle to attach to later (None if the work dies with this process), and the result."""

    handle: str | None
    future: Future[Mapping[str, JSON]]
