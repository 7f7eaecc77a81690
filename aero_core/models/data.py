"""Data, their versions, and where ingested data come from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import attrs
from attrs import frozen

from aero_core.models.values import JSON, Rule, Validators


class DataKind(StrEnum):
    """What one version of a data is."""

    FILE = "file"
    TREE = "tree"


class Standing(StrEnum):
    """Whether a version counts. *Latest* is the highest number that is current."""

    CURRENT = "current"
    HELD = "held"
    REJECTED = "rejected"
    VINTAGE = "vintage"
    PURGED = "purged"


@frozen
class Source:
    """What a data is ingested from.

    Attributes:
        urls: One URL, or several; each object is a member.
        limit: Largest answer taken, in bytes.
        options: Request options by name; backend's own.
    """

    urls: tuple[str, ...]
    limit: int
    options: Mapping[str, JSON] = attrs.field(factory=dict)


@frozen
class Data:
    """A named stream of versions."""

    id: str
    name: str
    namespace: str = ""
    kind: DataKind = DataKind.FILE
    description: str | None = None
    tags: tuple[str, ...] = ()
    source: Source | None = None
    store: str = "local"
    rule: Rule = attrs.field(factory=Rule)
    flow_id: str | None = None
    owner: str | None = None
    created_at: datetime | None = None
    latest: int | None = None


@frozen
class Version:
    """Immutable numbered content of a data.

    Attributes:
        checksum: `sha256:<hex>` of the bytes, or None for a reference version.
        fingerprint: `rule:digest`, what later content is compared with.
        size: Bytes, or None where the source does not say.
        suffix: The source's suffix (`.csv`), which local copies keep.
        location: URL where the bytes are; relative to the state folder if they are in it.
        member: Key of the source's member or the argument set; empty for a data without members.
        available_at: UTC, the catalog's clock; None while held.
    """

    data_id: str
    number: int
    checksum: str | None
    fingerprint: str
    size: int | None
    media_type: str | None
    encoding: str | None
    suffix: str
    store: str
    location: str
    member: str
    run_id: str | None
    created_at: datetime
    available_at: datetime | None
    standing: Standing = Standing.CURRENT


@frozen
class Member:
    """One object of a source, and what is known of it.

    Attributes:
        validators: What the source last said of it.
        decided_by: What told changed from unchanged at the last look: `etag`, `last-modified`, `size`, `bytes` ...
        checked_at: When a poll last looked, UTC.
        gone_at: When it was first missing, UTC; None while it is there.
    """

    data_id: str
    key: str
    url: str
    validators: Validators = attrs.field(factory=dict)
    decided_by: str | None = None
    checked_at: datetime | None = None
    gone_at: datetime | None = None


@frozen
class Artifact:
    """A local file on its way to become a version, or just retrieved.

    Attributes:
        path: The file.
        checksum: `sha256:<hex>`.
        size: Bytes.
    """

    path: str
    checksum: str
    size: int
    media_type: str | None = None
    encoding: str | None = None
    suffix: str = ""


@frozen
class Location:
    """Where a version's bytes are or are to be.

    Attributes:
        url: The place.
        store: Name of the store that it belongs to.
        options: That store's options from `[stores.NAME]`, secrets still as placeholders.
    """

    url: str
    store: str = ""
    options: Mapping[str, JSON] = attrs.field(factory=dict)


@frozen
class StoredObject:
    """What `aero_list` tells of one object: URL, bytes, and when it was last written (UTC)."""

    url: str
    size: int
    modified_at: datetime


@frozen
class SourceMember:
    """One object that a fetch is asked for.

    Attributes:
        url: Where it is.
        key: Its member key; empty for a source of one object.
        limit: Largest answer taken, in bytes.
        options: Request options by name.
        validators: What a listing said of it, if it came from one.
    """

    url: str
    key: str = ""
    limit: int = 10**10
    options: Mapping[str, JSON] = attrs.field(factory=dict)
    validators: Validators = attrs.field(factory=dict)


@frozen
class Previous:
    """What is known of a member's content from the last time: for conditional requests and comparison.

    Attributes:
        validators: What the source said then.
        checksum: `sha256:<hex>` of the bytes then, if they were kept.
        size: Bytes then.
    """

    validators: Validators = attrs.field(factory=dict)
    checksum: str | None = None
    size: int | None = None


@frozen
class Fetched:
    """A fetch's new content, now in a local file."""

    artifact: Artifact
    validators: Validators = attrs.field(factory=dict)
    decided_by: str = "bytes"


@frozen
class NotModified:
    """A fetch's answer when the content is as before; nothing was written."""

    validators: Validators = attrs.field(factory=dict)
    decided_by: str = "bytes"
