"""`execute` and the three steps, over JSON-able values."""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

from aero_core.converter import structure, to_json, unstructure
from aero_core.errors import AeroError, ExecutorError, FetchError, FunctionError, PluginError, StoreError
from aero_core.jobs.environment import environment
from aero_core.jobs.function import InputDamaged, call_function
from aero_core.jobs.pull import pull_all
from aero_core.jobs.store import store_all
from aero_core.models import (
    JSON,
    Failure,
    Made,
    Pulled,
    Report,
    Result,
    Step,
    Task,
    steady_clock,
)
from aero_core.plugins import Plugins, for_task

# A function may raise whatever text it likes, and a failure is shown and kept whole.
_LONGEST_MESSAGE = 1000
_LONGEST_TRACEBACK = 20_000

#: How often a transfer's progress is reported, in seconds.
REPORT_INTERVAL = 0.1


def pull(task: Mapping[str, JSON], report: Callable[[Report], None] | None = None) -> dict[str, JSON]:
    """Bring a run's inputs, or its source's new content, into scratch.

    Args:
        task: A `Task` as JSON-able values, with `scratch` set.
        report: Called with each `Report`.

    Returns:
        A `Pulled`.

    Raises:
        AeroError: A source or store could not be read.
    """
    parsed = structure(task, Task)
    pulled: dict[str, JSON] = unstructure(pull_all(parsed, _plugins(parsed), _reporter(parsed, report)))
    return pulled


def function(task: Mapping[str, JSON], pulled: Mapping[str, JSON]) -> list[JSON]:
    """Call the user's function on what was pulled.

    Returns:
        A list of `Made`.

    Raises:
        FunctionError: It did not answer with the outputs that its flow declares.
        Exception: Whatever the function itself raised.
    """
    parsed = structure(task, Task)
    made: list[JSON] = unstructure(call_function(parsed, structure(pulled, Pulled), _plugins(parsed)))
    return made


def store(task: Mapping[str, JSON], made: list[JSON], report: Callable[[Report], None] | None = None) -> list[JSON]:
    """Fingerprint what was made and store what is new.

    Returns:
        A list of `NewVersion`.

    Raises:
        AeroError: A file could not be read, or the store not written.
    """
    parsed = structure(task, Task)
    files = structure(made, tuple[Made, ...], "made")
    versions: list[JSON] = unstructure(store_all(parsed, files, _plugins(parsed), _reporter(parsed, report)))
    return versions


def execute(task: Mapping[str, JSON], report: Callable[[Report], None] | None = None) -> dict[str, JSON]:
    """Do a whole run: pull, function, store.

    Whatever goes wrong comes back in the answer; only an interrupt of the process passes through, unless it
    meets the function, whose own it might be.

    Args:
        task: A `Task` as JSON-able values.
        report: Called with each `Report`, at most every 0.1 s within a step.

    Returns:
        A `Result` as JSON-able values; see `aero_core.models.Result`.
    """
    parsed = structure(task, Task)
    with _scratch(parsed) as ready:
        result: dict[str, JSON] = unstructure(_execute(ready, report))
    return result


def _execute(task: Task, report: Callable[[Report], None] | None) -> Result:
    tell = _reporter(task, report)
    clock = _Steps(tell)
    result = Result()
    try:
        plugins = _plugins(task)
        with clock.step("pull"):
            pulled = pull_all(task, plugins, tell)
        result = attrs.evolve(result, members=pulled.members)
        made = pulled.made
        if task.code is not None:
            with clock.step("function"):
                made = call_function(task, pulled, plugins)
        if made:
            with clock.step("store"):
                result = attrs.evolve(result, versions=store_all(task, made, plugins, tell))
    # Whatever a user's function or a plugin raises is the run's answer.
    except BaseException as error:
        if clock.name != "function" and not isinstance(error, (Exception, SystemExit)):
            raise
        result = Result(failure=_failure(error, clock.name))
    metrics: dict[str, JSON] = {f"{step.name}_seconds": step.seconds for step in clock.steps}
    if restored := sum(version.restored for version in result.versions):
        metrics["restored"] = restored
    env = environment(with_packages=task.code is not None)
    return attrs.evolve(result, steps=tuple(clock.steps), metrics=metrics, environment=env)


class _Steps:
    """Starts and ends of the steps, UTC."""

    def __init__(self, tell: _Tell) -> None:
        self.steps: list[Step] = []
        self.name = "start"
        self._tell = tell

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.name = name
        self._tell(name)
        now = steady_clock()
        started = now()
        try:
            yield
        finally:
            self.steps.append(Step(name, started, now()))


class _Tell:
    """Reports of one attempt; within a step no more often than `REPORT_INTERVAL`."""

    def __init__(self, task: Task, report: Callable[[Report], None] | None) -> None:
        self._attempt, self._report = task.attempt_id, report
        self._step, self._last = "", 0.0

    def __call__(self, step: str, done: int = 0, total: int | None = None) -> None:
        now = time.monotonic()
        if self._report is not None and (step != self._step or now - self._last >= REPORT_INTERVAL):
            self._step, self._last = step, now
            self._report(Report(self._attempt, step, done, total))


def _reporter(task: Task, report: Callable[[Report], None] | None) -> _Tell:
    return _Tell(task, report)


_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (FetchError, "fetch"),
    (StoreError, "store"),
    (InputDamaged, "damage"),
    (FunctionError, "outputs"),
    (PluginError, "plugin"),
    (ExecutorError, "executor"),
)


def _failure(error: BaseException, step: str) -> Failure:
    """An error as the result carries it; a function's own traceback goes to the log as well."""
    if isinstance(error, AeroError):
        kind = next((name for cls, name in _KINDS if isinstance(error, cls)), "input")
        failure = Failure.of(kind, error)
        return attrs.evolve(failure, message=_shortened(failure.message, _LONGEST_MESSAGE))
    if isinstance(error, SystemExit) and step == "function":
        line = f"the function called sys.exit({_words(error.code, repr)})"
        return Failure("function", _shortened(line, _LONGEST_MESSAGE))
    text = _shortened(_traceback(error), _LONGEST_TRACEBACK, _LONGEST_TRACEBACK // 2)
    _log(text)
    if isinstance(error, MemoryError):
        limit = "reached its memory limit: give the flow more with memory=, or read its inputs in pieces"
        return Failure("memory", f"the function {limit}" if step == "function" else f"step {step} {limit}", False, text)
    first = (_words(error).strip().splitlines() or [""])[0]
    line = _shortened(f"{type(error).__name__}: {first}" if first else type(error).__name__, _LONGEST_MESSAGE)
    if step == "function":
        return Failure("function", line, False, text)
    return Failure("executor", f"step {step} failed: {line}", isinstance(error, OSError), text)


def _log(text: str) -> None:
    """Write to the run's log; where a function has closed that for Python, behind its back."""
    with suppress(OSError):
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (ValueError, AttributeError):
            with open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False) as log:
                log.write(text)


def _words(value: object, tell: Callable[[object], str] = str) -> str:
    try:
        return tell(value)
    # A function's exception may fail at being told, too.
    except Exception:  # noqa: BLE001
        return ""


def _shortened(text: str, most: int, end: int = 0) -> str:
    """A text of so many characters, some of them of its end; what is left out is told."""
    if len(text) <= most:
        return text
    return f"{text[: most - end]}… ({len(text)} characters in all)" + (f" …{text[-end:]}" if end else "")


def _traceback(error: BaseException) -> str:
    """The traceback from the user's code on: AERO's own frames tell a user nothing."""
    frames = error.__traceback__
    while frames is not None and "aero_core" in frames.tb_frame.f_globals.get("__name__", ""):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))


@contextmanager
def _scratch(task: Task) -> Iterator[Task]:
    """The task with a scratch folder: its own, or a temporary one that is removed."""
    if task.scratch:
        Path(task.scratch).mkdir(parents=True, exist_ok=True)
        yield task
        return
    with tempfile.TemporaryDirectory(prefix="aero-") as folder:
        yield attrs.evolve(task, scratch=folder)


def _plugins(task: Task) -> Plugins:
    return _plugins_of(to_json([unstructure(need) for need in task.plugins]), to_json(dict(task.prefer)))


@lru_cache(maxsize=4)
def _plugins_of(needs: str, prefer: str) -> Plugins:
    """Loaded plugins live as long as the process: a warm worker's connections stay open from run to run."""
    import json

    from aero_core.models import PluginNeed

    chosen: Any = json.loads(needs)
    return for_task(structure(chosen, tuple[PluginNeed, ...], "plugins"), json.loads(prefer))
