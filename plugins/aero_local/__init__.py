"""AERO on one machine: files as source and store, processes as executor, identity without login."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from aero_core.errors import ConfigError, ExecutorError
from aero_core.hookspecs import hookimpl
from aero_core.models import (
    Artifact,
    Attempt,
    Context,
    EndpointCheck,
    Family,
    Fetched,
    Identity,
    Launched,
    Location,
    NotModified,
    Previous,
    Progress,
    Provides,
    Rule,
    SourceMember,
    StoredObject,
    Validators,
    parse_size,
)

if TYPE_CHECKING:
    from aero_local.executor import Pool

__all__ = ["LocalPlugin", "Settings"]

#: Seconds; the system's waits take no more than some hundred years.
_LONGEST_IDLE = 10**8


@attrs.frozen
class Settings:
    """`[plugins.local]` in aero.toml.

    Attributes:
        workers: Most runs at once; by default the number of cores.
        memory: What a run may use unless its flow says so: bytes, or text such as `"2GB"`; by
            default half of the machine's. Linux keeps to it, macOS does not.
        worker_runs: Runs after which a worker process is replaced.
        idle_seconds: How long a worker process without work is kept.
        log_limit: What is kept of a run's output, bytes or text such as `"10MB"`; and its last lines.
    """

    workers: int | None = None
    memory: int | str | None = None
    worker_runs: int = 200
    idle_seconds: float = 300.0
    log_limit: int | str = "10MB"


class LocalPlugin:
    """The plugin `local`."""

    def __init__(self) -> None:
        self._settings = Settings()
        self._memory: int | None = None
        self._log_limit = parse_size(self._settings.log_limit, "log_limit")
        self._lock = threading.Lock()
        self._pool: Pool | None = None

    @hookimpl
    def aero_provides(self) -> Sequence[Provides]:
        """Files, processes, the four rules, and an identity."""
        return (
            Provides(Family.FETCH, "file", machine_local=True),
            Provides(Family.STORE, "file", machine_local=True),
            *(Provides(Family.FINGERPRINT, name) for name in ("bytes", "json", "csv", "text")),
            Provides(Family.EXECUTOR, "local", machine_local=True),
            Provides(Family.AUTHENTICATOR, "local"),
        )

    # Living

    @hookimpl
    def aero_settings(self) -> type:
        """The class of `[plugins.local]`."""
        return Settings

    @hookimpl
    def aero_configure(self, settings: object, context: Context) -> None:
        """Take the settings; nothing starts before it is used."""
        chosen = settings if isinstance(settings, Settings) else Settings()
        for name in ("workers", "worker_runs", "idle_seconds"):
            value = getattr(chosen, name)
            if value is not None and value <= 0:
                raise ConfigError(f"[plugins.local] {name} is {value}: expected more than 0")
        if not chosen.idle_seconds <= _LONGEST_IDLE:
            raise ConfigError(
                f"[plugins.local] idle_seconds is {chosen.idle_seconds:g}: expected at most {_LONGEST_IDLE:g}"
            )
        self._memory = None
        if chosen.memory is not None:
            self._memory = parse_size(chosen.memory, "[plugins.local] memory")
        self._log_limit = parse_size(chosen.log_limit, "[plugins.local] log_limit")
        self._settings = chosen

    @hookimpl
    def aero_shutdown(self) -> None:
        """End the worker processes."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    @hookimpl
    def aero_whoami(self) -> Identity:
        """The user of this process on this host."""
        from aero_local.machine import identity

        return identity()

    # Executing

    @hookimpl
    def aero_check_endpoint(self, endpoint: str) -> EndpointCheck:
        """There is one endpoint, and it needs no name."""
        if endpoint in ("", "local"):
            return EndpointCheck(True)
        return EndpointCheck(
            False,
            f"executor 'local' knows no endpoint {endpoint!r}: leave it out, or name another executor in the profile",
        )

    @hookimpl
    def aero_launch(self, attempt: Attempt) -> Launched:
        """Run an attempt in a worker process."""
        check = self.aero_check_endpoint(attempt.endpoint or "local")
        if not check.ok:
            raise ExecutorError(check.message, retryable=False)
        return self._workers().launch(attempt)

    @hookimpl
    def aero_attach(self, handle: str) -> Launched | None:
        """Local work dies with the engine that launched it: there is nothing to attach to."""
        return None

    @hookimpl
    def aero_cancel(self, handle: str) -> bool:
        """End an attempt; what this process does not know of is over."""
        with self._lock:
            pool = self._pool
        return pool is None or pool.cancel(handle)

    def _workers(self) -> Pool:
        from aero_local import machine
        from aero_local.executor import Pool, PoolSettings

        with self._lock:
            if self._pool is None:
                memory = machine.memory()
                half = None if memory is None else memory // 2
                settings = PoolSettings(
                    workers=self._settings.workers or machine.cores(),
                    memory=self._memory or half,
                    worker_runs=self._settings.worker_runs,
                    idle_seconds=self._settings.idle_seconds,
                    log_limit=self._log_limit,
                )
                self._pool = Pool(settings)
            return self._pool

    # Fetching, versioning, storing

    @hookimpl
    def aero_fetch(
        self,
        member: SourceMember,
        target: Path,
        previous: Previous | None,
        expected: Validators | None,
        progress: Progress,
    ) -> Fetched | NotModified | None:
        """Copy a file of this machine, unless it is as before."""
        from aero_local import source

        if not _is_file(member.url):
            return None
        return source.fetch(member, target, previous, expected, progress)

    @hookimpl
    def aero_fingerprint(self, artifact: Artifact, rule: Rule, progress: Progress) -> str | None:
        """Digest a file by the rule `bytes`, `json`, `csv` or `text`."""
        from aero_local import fingerprints

        return fingerprints.fingerprint(artifact, rule, progress)

    @hookimpl
    def aero_check_rule(self, rule: Rule) -> None:
        """Refuse options that the four rules do not have."""
        from aero_local import fingerprints

        fingerprints.check(rule)

    @hookimpl
    def aero_store(self, artifact: Artifact, location: Location, progress: Progress) -> str | None:
        """Put a file into a folder store."""
        from aero_local import store

        if not _is_file(location.url):
            return None
        return store.store(artifact, location, progress)

    @hookimpl
    def aero_retrieve(self, location: Location, target: Path, progress: Progress) -> Artifact | None:
        """Copy a file out of a folder store."""
        from aero_local import store

        if not _is_file(location.url):
            return None
        return store.retrieve(location, target, progress)

    @hookimpl
    def aero_delete(self, location: Location) -> bool | None:
        """Remove a file from a folder store."""
        from aero_local import store

        if not _is_file(location.url):
            return None
        return store.delete(location)

    @hookimpl
    def aero_list(self, prefix: Location) -> Iterator[StoredObject] | None:
        """List what a folder store holds."""
        from aero_local import store

        if not _is_file(prefix.url):
            return None
        return store.listing(prefix)

    @hookimpl
    def aero_link(self, location: Location, seconds: int) -> str | None:
        """The file itself, for who is on this machine; None for another store's location."""
        from aero_local import store

        if not _is_file(location.url):
            return None
        return store.link(location)


def _is_file(url: str) -> bool:
    return url.partition(":")[0].lower() == "file"
