"""Step *store*: fingerprint what was made, and store what differs from the version before."""

from __future__ import annotations

import hashlib
import mimetypes
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aero_core.errors import FetchError, StoreError
from aero_core.jobs.stored import is_whole
from aero_core.models import (
    Artifact,
    Location,
    Made,
    NewVersion,
    Progress,
    Rule,
    Task,
    TaskOutput,
    TaskPrevious,
    Verdict,
)
from aero_core.plugins import Plugins

Tell = Callable[..., None]
BLOCK = 1024 * 1024
#: Suffixes longer than this are no suffixes.
SUFFIX_LIMIT = 16


def store_all(task: Task, made: tuple[Made, ...], plugins: Plugins, tell: Tell) -> tuple[NewVersion, ...]:
    """Store each new content; content equal to its previous version only where that one's bytes are missing."""
    outputs = {output.key: output for output in task.outputs}
    return tuple(_store(task, outputs[file.key], file, plugins, tell) for file in made)


def _store(task: Task, output: TaskOutput, file: Made, plugins: Plugins, tell: Tell) -> NewVersion:
    progress = partial(tell, "store")
    artifact = file.artifact or describe(Path(file.path), tell)
    fingerprint = _fingerprint(artifact, output.rule, output.data, plugins, progress)
    previous = next((version for version in output.previous if version.member == file.member), None)
    renewed = None
    if previous is not None:
        renewed = _renewed(task, output, previous, artifact, fingerprint, plugins, progress)
    known = None if previous is None else renewed or previous.fingerprint
    location = held = None
    restored = False
    if fingerprint != known:
        held = _held(artifact, output, plugins)
        location = plugins.store(artifact, _place(output, artifact), progress)
    elif previous is not None and previous.checksum == artifact.checksum and not is_whole(previous, plugins):
        restored = plugins.store(artifact, previous.location, progress) == previous.location.url
        if restored:
            sys.stderr.write(f"the bytes of {output.data}@{previous.number} were missing: they are stored again\n")
    return NewVersion(
        key=output.key,
        data_id=output.data_id,
        checksum=artifact.checksum,
        fingerprint=fingerprint,
        size=artifact.size,
        media_type=artifact.media_type,
        encoding=artifact.encoding,
        suffix=artifact.suffix,
        store=output.place.store,
        location=location,
        member=file.member,
        held=held,
        previous_number=previous.number if previous and renewed else None,
        previous_fingerprint=renewed,
        restored=restored,
    )


def _renewed(
    task: Task,
    output: TaskOutput,
    previous: TaskPrevious,
    artifact: Artifact,
    fingerprint: str,
    plugins: Plugins,
    progress: Progress,
) -> str | None:
    """The previous version's fingerprint under the present rule, where it was made under another and can be."""
    if previous.fingerprint.rpartition(":")[0] == output.rule.id:
        return None
    if previous.checksum == artifact.checksum:
        return fingerprint
    if not is_whole(previous, plugins):
        return None
    folder = Path(task.scratch) / "compare"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{previous.number}{previous.suffix}"
    target.unlink(missing_ok=True)
    old = plugins.retrieve(previous.location, target, progress)
    if previous.checksum not in (None, old.checksum):
        return None
    kept = Artifact(old.path, old.checksum, old.size, previous.media_type, None, previous.suffix)
    try:
        return _fingerprint(kept, output.rule, f"{output.data}@{previous.number}", plugins, progress)
    except FetchError as error:
        if error.retryable:
            raise
        # What the present rule cannot read differs from new content, which it could.
        return None


def _fingerprint(artifact: Artifact, rule: Rule, name: str, plugins: Plugins, progress: Progress) -> str:
    """A file's fingerprint; an error tells whose content it is, which plugins do not know."""
    try:
        return plugins.fingerprint(artifact, rule, progress)
    except FetchError as error:
        said, subject = str(error), f"the content of {name}"
        told = said.removeprefix("the content ")
        line = f"{subject}: {said}" if told == said else f"{subject} {told}"
        raise FetchError(line, retryable=error.retryable) from error


def _held(artifact: Artifact, output: TaskOutput, plugins: Plugins) -> str | None:
    checks = plugins.checks(artifact, None, output.rule)
    holding = [f"{check.name}: {check.message}" for check in checks if check.verdict is Verdict.HOLD]
    return "; ".join(holding) or None


def _place(output: TaskOutput, artifact: Artifact) -> Location:
    """Content-addressed below the data's own place: the same bytes always go to the same location."""
    digest = artifact.checksum.rpartition(":")[2]
    url = f"{output.place.url}/{digest[:2]}/{digest}{artifact.suffix}"
    return Location(url, output.place.store, output.place.options)


def describe(path: Path, tell: Tell) -> Artifact:
    """A file's checksum, size, media type and suffix, read once in blocks."""
    digest = hashlib.sha256()
    size = 0
    try:
        total = path.stat().st_size
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
                size += len(block)
                tell("store", size, total)
    except OSError as error:
        raise StoreError(f"{path.name} cannot be read: {error.strerror}", retryable=False) from None
    media_type = mimetypes.guess_type(path.name)[0]
    return Artifact(str(path), f"sha256:{digest.hexdigest()}", size, media_type, None, suffix_of(path.name))


def suffix_of(name: str) -> str:
    """A file name's suffix in plain letters and digits, `.tar.gz` kept whole; empty where it has none such."""
    suffixes = [s for s in Path(name).suffixes if s[1:].isascii() and s[1:].isalnum()]
    if len(suffixes) >= 2 and suffixes[-1] in {".gz", ".bz2", ".xz", ".zst"}:
        suffix = "".join(suffixes[-2:])
    else:
        suffix = suffixes[-1] if suffixes and name.endswith(suffixes[-1]) else ""
    return suffix if len(suffix) <= SUFFIX_LIMIT else ""
