"""What can go wrong, as exceptions that say what failed, why, and what to do next.

Every error that a person can cause or meet derives from `AeroError`. Its message is one line; `exit_code` is
what the command line answers with (docs/reference/exit-codes.md).
"""

from __future__ import annotations

__all__ = [
    "AeroError",
    "CatalogError",
    "ClientError",
    "CommitConflict",
    "ConfigError",
    "ContentGone",
    "ExecutorError",
    "FetchError",
    "FlowFileError",
    "FunctionError",
    "InvalidValue",
    "NotFound",
    "PluginError",
    "Refused",
    "RegistrationError",
    "StaleRun",
    "StateError",
    "StoreError",
]


class AeroError(Exception):
    """Base of AERO's errors.

    Attributes:
        exit_code: What the command line exits with.
        retryable: Whether the same attempt may succeed later without anybody changing anything.
        retry_after: Seconds that the other side asks to be left alone; None where it does not say. Any retryable
            error may carry it: the run is not tried again sooner, but for waits longer than a day, which count as one.
    """

    exit_code = 1
    retryable = False
    retry_after: float | None = None

    def __init__(self, message: str, *, retryable: bool | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable
        if retry_after is not None:
            self.retry_after = retry_after


class ConfigError(AeroError):
    """A setting in `aero.toml`, the environment or a flag is missing or wrong."""

    exit_code = 2


class FlowFileError(AeroError):
    """A flow file cannot be read, or declares something that cannot be."""

    exit_code = 2


class InvalidValue(AeroError):
    """A value does not have the form that its field asks for."""

    exit_code = 2


class RegistrationError(AeroError):
    """Flows cannot be registered together: a cycle, a name taken, an unknown input."""

    exit_code = 2


class NotFound(AeroError):
    """Nothing of that name, id or number exists."""

    exit_code = 3


class StateError(AeroError):
    """AERO's own state cannot be used: a read-only folder, a corrupt or newer database."""

    exit_code = 4


class CatalogError(StateError):
    """The catalog cannot be opened, read or written."""


class PluginError(AeroError):
    """No plugin, or more than one, serves what is asked for; or a plugin broke its contract."""

    exit_code = 4


class FetchError(AeroError):
    """A source could not be fetched. Retryable unless the cause is plainly permanent."""

    exit_code = 5
    retryable = True


class ContentGone(FetchError):
    """The very content that a reference version names is no longer at its source."""

    retryable = False


class StoreError(AeroError):
    """A store could not be read or written."""

    exit_code = 5
    retryable = True


class ExecutorError(AeroError):
    """An executor could not run an attempt, or lost it."""

    exit_code = 5
    retryable = True


class FunctionError(AeroError):
    """A user's function raised, or did not answer with the outputs that its flow declares."""


class StaleRun(AeroError):
    """Somebody else has taken the run over: the fencing number presented is old."""


class CommitConflict(AeroError):
    """A commit met a change that makes its attempt worth repeating (content collected, rule changed)."""

    retryable = True


class Refused(AeroError):
    """A provenance store will never accept this record: park it and go on with the next."""


class ClientError(Exception):
    """An error of the AERO client, with a code and a message.

    Args:
        *args: `ClientError(code, message)` as the classic client raises it, or `ClientError(message)`.
        **kwargs: `code` (int) and `message` (str), by name.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        code, message = (args[0], args[1]) if len(args) >= 2 else (None, args[0] if args else None)
        self.code = kwargs.get("code", code)
        self.message = str(kwargs.get("message", message if message is not None else ""))
        super().__init__(*args)

    def __str__(self) -> str:
        return self.message if self.code is None else f"{self.code}: {self.message}"
