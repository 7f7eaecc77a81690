"""From a claim to the task that travels, and from its result to the commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path

import attrs

from aero_core.config import CODE_STORE, Config
from aero_core.converter import structure
from aero_core.engine.attempts import Heard
from aero_core.errors import AeroError
from aero_core.models import (
    JSON,
    Claim,
    CodeRef,
    Commit,
    Environment,
    FailedAttempt,
    Failure,
    Launched,
    Previous,
    Result,
    SourceMember,
    Task,
    TaskFetch,
    TaskInput,
    TaskOutput,
    TaskPrevious,
    Version,
)
from aero_core.models.task import PluginNeed

#: Attempts after the first for what is nobody's fault: fetches, stores, executors, lost work. They last for 13 minutes:
#: a flow that is due once a day must not lose its day to a router that is started again.
INFRASTRUCTURE_RETRIES = 10
LONGEST_BACKOFF = 300.0
#: What counts of the wait that the other side asks for: a slip of its pen must not stop a flow for years.
LONGEST_WAIT = 86400.0


def build_task(claim: Claim, config: Config, needs: tuple[PluginNeed, ...], scratch: Path) -> Task:
    """All that a claimed run needs to happen where its executor runs it."""
    spec = claim.flow.spec
    return Task(
        run_id=claim.run.id,
        attempt_id=claim.run.attempt_id or claim.run.id,
        flow=spec.name,
        flow_id=claim.flow.id,
        inputs=tuple(_inputs(claim, config)),
        fetches=tuple(_fetches(claim)),
        outputs=tuple(_outputs(claim, config)),
        code=_code(claim, config),
        kwargs=claim.arguments.kwargs,
        readonly_inputs=spec.readonly_inputs,
        scratch=str(scratch),
        cache=str(scratch.parent.parent / "code"),
        member=claim.arguments.key,
        plugins=needs,
        prefer=config.plugins.prefer,
    )


def _inputs(claim: Claim, config: Config) -> Iterator[TaskInput]:
    for used, version in zip(claim.run.used, claim.used, strict=True):
        yield TaskInput(
            parameter=used.parameter,
            data=used.data,
            number=version.number,
            location=config.location(version.location, version.store),
            checksum=version.checksum,
            size=version.size,
            suffix=version.suffix,
            media_type=version.media_type,
            encoding=version.encoding,
            item=used.item,
            shape=used.shape,
        )


def _fetches(claim: Claim) -> Iterator[TaskFetch]:
    source = claim.flow.spec.source
    if source is None:
        return
    known = {member.url: member for member in claim.members}
    latest = {version.member: version for version in claim.latest}
    # What another rule took for the same was not kept: it takes the content to tell whether this one would.
    other_rule = any(version.fingerprint.rpartition(":")[0] != claim.flow.spec.rule.id for version in claim.latest)
    for url in source.urls:
        member = known.get(url)
        version = latest.get(member.key if member else "")
        previous = None
        # Without a version the source is fetched whatever its validators say: what they stood for was never kept.
        if member is not None and version is not None and not other_rule:
            previous = Previous(member.validators, version.checksum, version.size)
        key = member.key if member else "" if len(source.urls) == 1 else url
        yield TaskFetch(SourceMember(url, key, source.limit, source.options), previous)


def _outputs(claim: Claim, config: Config) -> Iterator[TaskOutput]:
    spec = claim.flow.spec
    store = config.store(spec.store)
    for output in spec.outputs:
        yield TaskOutput(
            key=output.key,
            data=output.data,
            data_id=output.data_id,
            rule=spec.rule,
            place=store.place(output.data_id),
            kind=output.kind,
            previous=tuple(_previous(v, config) for v in claim.latest if v.data_id == output.data_id),
        )


def _previous(version: Version, config: Config) -> TaskPrevious:
    return TaskPrevious(
        number=version.number,
        fingerprint=version.fingerprint,
        location=config.location(version.location, version.store),
        checksum=version.checksum,
        size=version.size,
        suffix=version.suffix,
        member=version.member,
        media_type=version.media_type,
    )


def _code(claim: Claim, config: Config) -> CodeRef | None:
    function = claim.flow.spec.function
    if function is None:
        return None
    return CodeRef(
        bundle_id=function.bundle_id,
        location=config.location(function.location, CODE_STORE),
        entry=function.entry,
        function=function.name,
        parameters=function.parameters,
    )


def result_of(launched: Launched) -> Result:
    """What an executor's future says, or the failure that it stands for."""
    try:
        answer: Mapping[str, JSON] = launched.future.result(timeout=0)
        return structure(_as_text(answer), Result, "the executor's answer")
    except CancelledError:
        return Result(failure=Failure("cancelled", "cancelled"))
    except AeroError as error:
        return Result(failure=Failure.of("executor", error))
    # An executor's own errors are of any kind, and the run ends by each of them.
    except Exception as error:  # noqa: BLE001
        return Result(failure=Failure("executor", f"{type(error).__name__}: {error}", True))


def with_heard(result: Result, heard: Heard) -> Result:
    """A failure with the steps that were reported, where it tells of none: a worker that was killed could not."""
    if result.failure is None or result.steps:
        return result
    steps = heard.steps()
    return attrs.evolve(result, steps=steps, metrics={f"{step.name}_seconds": step.seconds for step in steps})


def _environment(result: Result, claim: Claim) -> Environment:
    return attrs.evolve(result.environment or Environment(), executor=claim.flow.spec.executor)


def _as_text(value: JSON) -> JSON:
    """A value with half characters written out: a file's name may have them, and so an error that names it."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return {key: _as_text(item) for key, item in value.items()} if isinstance(value, dict) else value


def commit_of(claim: Claim, result: Result, config: Config, log: str | None) -> Commit:
    """The commit of a run that went well."""
    return Commit(
        run_id=claim.run.id,
        fencing=claim.run.fencing,
        versions=tuple(
            attrs.evolve(new, location=new.location and config.saved(new.location)) for new in result.versions
        ),
        members=result.members,
        steps=result.steps,
        metrics=result.metrics,
        environment=_environment(result, claim),
        log=log,
    )


def failed_attempt(claim: Claim, result: Result, log: str | None) -> FailedAttempt:
    """The record of an attempt that went wrong, with its retry if it gets one."""
    failure = result.failure or Failure("executor", "the executor answered nothing", True)
    return FailedAttempt(
        run_id=claim.run.id,
        fencing=claim.run.fencing,
        failure=failure,
        retry_after=retry_after(claim.run.attempt, claim.flow.spec.retries, failure),
        cancelled=failure.kind == "cancelled",
        steps=result.steps,
        metrics=result.metrics,
        environment=_environment(result, claim),
        log=log,
    )


def retry_after(attempt: int, retries: int, failure: Failure) -> float | None:
    """Seconds until the next attempt, or None for no further one.

    They double from 1 to 300, and are no fewer than the other side asked for, up to a day.

    Args:
        attempt: Attempts begun, this one included.
        retries: The flow's own retries, which repeat whatever went wrong.
        failure: What went wrong; what the user's function did is never `retryable`.
    """
    # A function that damaged an input would find it so the next time.
    if failure.kind in ("cancelled", "damage"):
        return None
    allowed = max(retries, INFRASTRUCTURE_RETRIES) if failure.retryable else retries
    if attempt > allowed:
        return None
    backoff = min(2 ** (attempt - 1), LONGEST_BACKOFF)
    return float(max(backoff, min(failure.retry_after or 0.0, LONGEST_WAIT)))


def log_of(state: Path, run_id: str) -> Path:
    """A run's log in the state folder: attempts append to one file."""
    return state / "logs" / (re.sub(r"[^0-9a-f-]", "", run_id) + ".log")
