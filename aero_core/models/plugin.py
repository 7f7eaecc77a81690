"""What plugins declare, and the small records that pass through hooks of several families."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import attrs
from attrs import frozen

from aero_core.models.values import JSON


class Family(StrEnum):
    """The families of hooks."""

    FETCH = "fetch"
    STORE = "store"
    FINGERPRINT = "fingerprint"
    CHECK = "check"
    EXECUTOR = "executor"
    CATALOG = "catalog"
    SCHEDULER = "scheduler"
    AUTHENTICATOR = "authenticator"
    PROVENANCE = "provenance"
    ALERT = "alert"
    SEARCH = "search"


@frozen
class Provides:
    """One thing that a plugin serves.

    Attributes:
        family: Which family.
        name: A URL scheme (fetch, store, catalog) or a name (the others).
        machine_local: Only usable on the machine that it belongs to (a `file:` store): refused with a remote executor.
            For an executor: runs on this machine.
        fallback: Yields without a word to a plugin that serves the same and is none.
        install: What to install if something lacks, as one sentence.
    """

    family: Family
    name: str
    machine_local: bool = False
    fallback: bool = False
    install: str | None = None


@frozen
class Context:
    """Where a plugin is being configured.

    Attributes:
        side: `engine` (also command line and service) or `run`.
        profile: The profile's name.
        state: The state folder, or empty on the run's side.
    """

    side: str
    profile: str = "default"
    state: str = ""


@frozen
class Credentials:
    """How to authenticate towards one audience. Its repr shows no secret.

    Attributes:
        audience: The service, store or source, as asked for.
        headers: HTTP headers to send to that audience's host alone.
    """

    audience: str
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    token: str | None = attrs.field(default=None, repr=False)
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    key_file: str | None = None
    access_key: str | None = None
    secret_key: str | None = attrs.field(default=None, repr=False)
    expires_at: datetime | None = None


@frozen
class Identity:
    """Who somebody is: PROV's agent."""

    issuer: str
    subject: str
    name: str = ""
    mail: str | None = None
    groups: tuple[str, ...] = ()


class Verdict(StrEnum):
    """A gate's word on new content."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    HOLD = "hold"


@frozen
class Check:
    """A gate's answer."""

    name: str
    verdict: Verdict
    message: str = ""


@frozen
class EndpointCheck:
    """Whether an endpoint can take a launch, and if not, why and what to do."""

    ok: bool
    message: str = ""


@frozen
class Bundle:
    """A function's code as it travels.

    Attributes:
        id: `sha256:<hex>` of the archive.
        digest: `sha256:<hex>` of the part that decides whether the function changed.
        path: The local archive (zip).
    """

    id: str
    digest: str
    path: str
    entry: str
    function: str


@frozen
class AlertEvent:
    """Word to people: a run failed for the first time in a streak, or recovered."""

    kind: str
    flow: str
    run_id: str
    at: datetime
    message: str


@frozen
class Target:
    """A named target of the profile (provenance store, alert) with its options."""

    name: str
    plugin: str
    options: Mapping[str, JSON] = attrs.field(factory=dict)


@frozen
class SearchHit:
    """One found data, with the words that tell why."""

    data_id: str
    name: str
    summary: str = ""
