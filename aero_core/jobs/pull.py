"""Step *pull*: bring source content or input versions into scratch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from aero_core.jobs.stored import is_whole, retrieve
from aero_core.models import (
    Fetched,
    Made,
    MemberCheck,
    Previous,
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
    answer = plugins.fetch(fetch.member, target, _previous(task, fetch, plugins), None, partial(tell, "pull"))
    check = MemberCheck(fetch.member.key, fetch.member.url, answer.validators, answer.decided_by)
    if not isinstance(answer, Fetched):
        return check, []
    output = task.outputs[0]
    return check, [Made(output.key, answer.artifact.path, fetch.member.key, answer.artifact)]


def _previous(task: Task, fetch: TaskFetch, plugins: Plugins) -> Previous | None:
    """What is known of a member; nothing where its version's bytes are missing, so that they come once more."""
    versions = [version for version in task.outputs[0].previous if version.member == fetch.member.key]
    if fetch.previous is None or all(is_whole(version, plugins) for version in versions):
        return fetch.previous
    return None


def _retrieve(task: Task, wanted: TaskInput, folder: Path, plugins: Plugins, tell: Tell) -> PulledInput:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{wanted.data.rpartition('.')[2]}{wanted.suffix}"
    target.unlink(missing_ok=True)
    if not (task.readonly_inputs and _link(wanted, target, plugins)):
        name = f"{wanted.data}@{wanted.number}"
        retrieve(name, wanted.location, wanted.checksum, target, plugins, partial(tell, "pull"))
    return PulledInput(wanted.parameter, str(target), wanted.number, wanted.location.url, wanted.item, wanted.shape)


def _link(wanted: TaskInput, target: Path, plugins: Plugins) -> bool:
    """Link to the store's own file where it has one on this machine."""
    url = plugins.link(wanted.location, LINK_SECONDS)
    parts = urlsplit(url or "")
    if parts.scheme != "file":
        return False
    path = Path(url2pathname(parts.path))
    # The least that can be seen of damage without reading it all: who reads it says what it is.
    if wanted.size is not None and path.stat().st_size != wanted.size:
        return False
    target.symlink_to(path)
    return True
