"""Step *function*: call the user's function and take what it answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from attrs import frozen

from aero_core import bundle
from aero_core.errors import FunctionError, StoreError
from aero_core.jobs.store import describe
from aero_core.models import (
    JSON,
    PREVIOUS,
    AeroOutput,
    CodeRef,
    InputShape,
    Made,
    Pulled,
    PulledInput,
    Task,
    TaskInput,
)
from aero_core.plugins import Plugins

WORK = "work"
CODE = "code"


class InputDamaged(FunctionError):
    """A function wrote into the store: the run must not be repeated on what it left there."""


@frozen
class RunInfo:
    """What a function receives as its parameter `run`, for printing on a plot.

    Attributes:
        id: The run's id.
        flow: The flow's name.
        versions: Data name to the number of the version used.
    """

    id: str
    flow: str
    versions: Mapping[str, int]


def call_function(task: Task, pulled: Pulled, plugins: Plugins) -> tuple[Made, ...]:
    """Call the task's function in a work folder of its own.

    Raises:
        FunctionError: Its answer is not what the flow declares.
        InputDamaged: It wrote into a version that it was given a link to.
    """
    code = task.code
    if code is None:
        raise FunctionError(f"flow {task.flow!r} has no function")
    work = Path(task.scratch) / WORK
    work.mkdir(parents=True, exist_ok=True)
    cache = Path(task.cache or Path(task.scratch) / CODE)
    archive = partial(_archive, task, code, plugins)
    loaded = bundle.loaded(archive, code.bundle_id, cache, code.entry, code.function)
    with _unharmed(task, pulled), loaded as user_function, _inside(work), _own_streams():
        return _outputs(task, user_function(**_arguments(task, code, pulled)), work)


def _archive(task: Task, code: CodeRef, plugins: Plugins) -> Path:
    """The bundle's archive, out of its store."""
    archive = Path(task.scratch) / "code.zip"
    again = f"register its file again (`aero apply FILE`), then `aero retry {task.flow}`"
    try:
        kept = plugins.retrieve(code.location, archive, lambda done, total: None)
    except StoreError as error:
        if error.retryable:
            raise
        raise StoreError(f"the code of flow {task.flow!r} is lost ({error}): {again}", retryable=False) from None
    if kept.checksum != code.bundle_id:
        url = code.location.url
        raise StoreError(f"the code of flow {task.flow!r} is damaged in {url}: {again}", retryable=False)
    return archive


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _own_streams() -> Iterator[None]:
    """Put back what the function has made of its output; one that it has closed fails nothing by that."""
    before = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr, *before):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def _unharmed(task: Task, pulled: Pulled) -> Iterator[None]:
    """Look after the block at the store's own files that inputs are links to."""
    linked = [(wanted, Path(given.path)) for wanted, given in zip(task.inputs, pulled.inputs, strict=True)]
    # Not through the link: a function may have put a file of its own in its place.
    before = [(wanted, path.readlink(), _state(path)) for wanted, path in linked if path.is_symlink()]
    try:
        yield
    except BaseException:
        _check(before, task)
        raise
    _check(before, task)


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _check(before: Iterable[tuple[TaskInput, Path, tuple[int, ...] | None]], task: Task) -> None:
    for wanted, path, state in before:
        # Who stores the same content once more touches the file too: only its bytes tell.
        if _state(path) == state or wanted.checksum in (None, _checksum(path)):
            continue
        raise InputDamaged(
            f"{wanted.data}@{wanted.number} was written into, replaced or removed while flow {task.flow!r} had a link "
            f"to it (parameter {wanted.parameter!r}): write to a copy, or leave readonly_inputs off; the version is "
            f"damaged, restore {path} from a backup (`aero verify` lists all)"
        )


def _checksum(path: Path) -> str | None:
    try:
        return describe(path, lambda *_: None).checksum
    except StoreError:
        return None


def _arguments(task: Task, code: CodeRef, pulled: Pulled) -> dict[str, JSON]:
    arguments: dict[str, JSON] = dict(task.kwargs)
    single: dict[str, PulledInput] = {}
    for given in pulled.inputs:
        if given.shape is InputShape.ONE:
            arguments[given.parameter] = given.path
            single[given.parameter] = given
        elif given.shape is InputShape.LIST:
            arguments.setdefault(given.parameter, []).append(given.path)
        else:
            arguments.setdefault(given.parameter, {})[given.item] = given.path
    for parameter in code.parameters:
        if parameter in arguments:
            continue
        if parameter == "run":
            arguments["run"] = RunInfo(task.run_id, task.flow, {i.data: i.number for i in task.inputs})
        elif parameter == PREVIOUS:
            # A run that has something to show here has it among what it used.
            arguments["previous"] = None
        else:
            arguments.update(_about(parameter, single))
    return arguments


def _about(parameter: str, inputs: Mapping[str, PulledInput]) -> dict[str, JSON]:
    """`<input>_url` and `<input>_version`, where a function asks for them."""
    answers: dict[str, Callable[[PulledInput], JSON]] = {
        "_version": lambda given: given.number,
        "_url": lambda given: given.url,
        # Only a notification brings one; a function that asks for it is told that there is none.
        "_signed_url": lambda given: None,
    }
    for ending, answer in answers.items():
        given = inputs.get(parameter.removesuffix(ending))
        if parameter.endswith(ending) and given is not None:
            return {parameter: answer(given)}
    return {}


def _outputs(task: Task, answer: object, work: Path) -> tuple[Made, ...]:
    name = task.code.function if task.code else task.flow
    answers: list[AeroOutput] = []
    for item in [] if answer is None else answer if isinstance(answer, (list, tuple)) else [answer]:
        if not isinstance(item, AeroOutput):
            raise FunctionError(
                f"function {name!r} answered {type(item).__name__}: answer an AeroOutput(name, path), or a list of them"
            )
        answers.append(item)
    declared = [output.key for output in task.outputs]
    if len(declared) == 1 and declared[0] == "" and len(answers) == 1:
        return (_made(task, "", answers[0], work),)
    given = [output.name for output in answers]
    _compare(name, [key for key in declared if key], given, single=declared == [""])
    return tuple(_made(task, output.name, output, work) for output in answers)


def _compare(name: str, declared: list[str], given: list[str], single: bool) -> None:
    """Refuse missing, undeclared and repeated outputs, each by name."""
    if single:
        many = f"answered {len(given)} outputs ({', '.join(given)})" if given else "answered nothing"
        hint = "declare them with outputs=[...]" if given else "answer an AeroOutput(name, path), or declare outputs=[]"
        raise FunctionError(f"function {name!r} {many}, but its flow makes one data: {hint}")
    for key in given:
        if key not in declared:
            known = ", ".join(declared) or "none"
            raise FunctionError(
                f"function {name!r} answered output {key!r}, which its flow does not declare (declared: {known})"
            )
        if given.count(key) > 1:
            raise FunctionError(f"function {name!r} answered output {key!r} {given.count(key)} times")
    missing = [key for key in declared if key not in given]
    if missing:
        listed = ", ".join(map(repr, missing))
        raise FunctionError(f"function {name!r} did not answer output {listed}, which its flow declares")


def _made(task: Task, key: str, output: AeroOutput, work: Path) -> Made:
    """Check that an answered path is a plain file of the user's making, or one of the inputs."""
    called = f"output {output.name!r} of flow {task.flow!r}"
    try:
        path = work / os.fspath(output.path)
        is_link, is_folder, is_file = path.is_symlink(), path.is_dir(), path.is_file()
    except (TypeError, ValueError, OSError):
        raise FunctionError(f"{called} has the path {output.path!r}, which is no path of a file") from None
    if is_link and Path(task.scratch) / "inputs" not in path.parents:
        raise FunctionError(f"{called} is the symbolic link {output.path}: answer the file itself")
    if is_folder:
        raise FunctionError(
            f"{called} is the folder {output.path}: answer a file (pack a folder into one, such as a zip)"
        )
    if not is_file:
        what = "no regular file" if path.exists() else "a file that does not exist"
        raise FunctionError(f"{called} is {output.path}, {what}: write it before answering")
    return Made(key, str(path), task.member)
