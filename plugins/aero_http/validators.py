"""Validators: what a server says of its content, kept as `etag` and `last-modified`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from aero_core.models import Previous, Validators
from aero_http.times import read_time

ETAG, LAST_MODIFIED = "etag", "last-modified"
#: What does no harm on a terminal that shows it.
_KEPT = re.compile(r"[\x20-\x7e\xa0-\xff]{1,1000}")


def read(headers: Mapping[str, str]) -> dict[str, str]:
    """The validators worth keeping."""
    found = {}
    etag = headers.get("ETag", "").strip()
    if _KEPT.fullmatch(etag):
        found[ETAG] = etag
    changed = headers.get("Last-Modified", "").strip()
    if _KEPT.fullmatch(changed) and _settled(changed, headers.get("Date")):
        found[LAST_MODIFIED] = changed
    return found


def unless_same(validators: Validators) -> dict[str, str]:
    """Headers that ask for content only if it is not as before."""
    if etag := validators.get(ETAG):
        # With both, a server may let the second's resolution hide a change.
        return {"If-None-Match": etag}
    if changed := validators.get(LAST_MODIFIED):
        return {"If-Modified-Since": changed}
    return {}


def only_if(validators: Validators) -> dict[str, str]:
    """Headers that ask for content only if it is still the wanted one."""
    etag = validators.get(ETAG)
    if etag and not _weak(etag):
        return {"If-Match": etag}
    if etag:
        # A weak one never matches in If-Match; the answer's is compared instead.
        return {}
    if changed := validators.get(LAST_MODIFIED):
        return {"If-Unmodified-Since": changed}
    return {}


def can_tell(validators: Validators) -> bool:
    """Whether any validator here can be asked for."""
    return ETAG in validators or LAST_MODIFIED in validators


def differ(wanted: Validators, headers: Mapping[str, str]) -> bool:
    """Whether an answer's content is not, or not provably, the wanted one."""
    if etag := wanted.get(ETAG):
        return headers.get("ETag", "").strip() != etag
    return headers.get("Last-Modified", "").strip() != wanted.get(LAST_MODIFIED)


def if_range(validators: Validators) -> str | None:
    """What proves that a rest belongs to the part that is there; None: nothing does."""
    etag = validators.get(ETAG)
    if etag and not _weak(etag):
        return etag
    return validators.get(LAST_MODIFIED)


def asked_by(validators: Validators) -> str:
    """Which validator decides when a server answers that nothing changed."""
    return ETAG if validators.get(ETAG) else LAST_MODIFIED


def told_change(previous: Previous, now: Validators, size: int) -> str:
    """Which difference told that the content is new."""
    for name in (ETAG, LAST_MODIFIED):
        before, after = previous.validators.get(name), now.get(name)
        if before and after:
            return name if before != after else "bytes"
    if previous.size is not None and previous.size != size:
        return "size"
    return "bytes"


def _weak(etag: str) -> bool:
    return etag.startswith("W/")


def _settled(changed: str, date: str | None) -> bool:
    """Whether no second change can hide behind the same time, which counts whole seconds."""
    at = read_time(changed)
    now = read_time(date or "") or datetime.now(UTC)
    return at is not None and now - at >= timedelta(seconds=1)
