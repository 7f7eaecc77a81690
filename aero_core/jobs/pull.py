"""Step *pull*: bring source content or input versions into scratch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from aero_core.errors import StoreError
from aero_core.models import (
    Fetched,
    Made,
    MemberCheck,
    Pulled,
    PulledInput,
    Task,
    TaskFetch,
    TaskInput,
)
from aero_core.plugins import Plugins

Tell = Callable[..., None]

#: Folder of scratch that holds only what AERO itself wrote, and what no user code has had in hand; stores may link to
#: its files, see `aero_core.hookspecs.aero_store`.
FETCHED = "fetched"
INPUTS = "inputs"
LINK_SECONDS = 3600


def pull_all(task: Task, plugins: Plugins, tell: Tell) -> Pulled:
    """Fetch each member of the task's source; retrieve each of its inputs."""
    scratch = Path(task.scratch)
    made: list[Made] = []
    members: list[MemberCheck] = []
    for place, fetch in enumerate(task.fetches):
        check, new = _fetch(task, fetch, scratch / FETCHED / str(place), plugins, tell)
        members.append(check)
        made.extend(new)
    inputs = [
        _retrieve(task, wanted, scratch / INPUTS / str(place), plugins, tell)
        for place, wanted in enumerate(task.inputs)
    ]
    return Pulled(tuple(inputs), tuple(made), tuple(members))


def _fetch(task: Task, fetch: TaskFetch, folder: Path, plugins: Plugins, tell: Tell) -> tuple[MemberCheck, list[Made]]:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "content"
    target.unlink(missing_ok=True)
    answer = plugins.fetch(fetch.member, target, fetch.previous, None, lambda done, total: tell("pull", done, total))
    check = MemberCheck(fetch.member.key, fetch.member.url, answer.validators, answer.decided_by)
    if not isinstance(answer, Fetched):
        return check, []
    output = task.outputs[0]
    return check, [Made(output.key, answer.artifact.path, fetch.member.key, answer.artifact)]


def _retrieve(task: Task, wanted: TaskInput, folder: Path, plugins: Plugins, tell: Tell) -> PulledInput:
    folder.mkdir(parents=True, exist_ok=True)
    name = wanted.data.rpartition(".")[2]
    target = folder / f"{name}{wanted.suffix}"
    target.unlink(missing_ok=True)
    if not (task.readonly_inputs and _link(wanted, target, plugins)):
        artifact = plugins.retrieve(wanted.location, target, lambda done, total: tell("pull", done, total))
        if wanted.checksum is not None and artifact.checksum != wanted.checksum:
            raise StoreError(
                f"{wanted.data}@{wanted.number} at {wanted.location.url} is damaged: its checksum is "
                f"{artifact.checksum}, recorded is {wanted.checksum}; "
                "restore it from a backup (`aero verify` lists more)",
                retryable=False,
            )
    return PulledInput(wanted.parameter, str(target), wanted.number, wanted.location.url, wanted.item, wanted.shape)


def _link(wanted: TaskInput, target: Path, plugins: Plugins) -> bool:
    """Link to the store's own file where it has one on this machine."""
    url = plugins.link(wanted.location, LINK_SECONDS)
    parts = urlsplit(url or "")
    if parts.scheme != "file":
        return False
    target.symlink_to(url2pathname(parts.path))
    return True
