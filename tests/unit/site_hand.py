"""A site adapter whose executor does nothing by itself: tests end its attempts by hand."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from aero_core.converter import unstructure
from aero_core.hookspecs import hookimpl
from aero_core.models import (
    JSON,
    Attempt,
    EndpointCheck,
    Failure,
    Family,
    Launched,
    NewVersion,
    Provides,
    Result,
)


class Hand:
    """The executor's attempts.

    Attributes:
        attempts: Launched ones, in order.
        cancelled: Handles or attempt ids that were to be stopped.
        attached: Handles that were asked for.
        outside: Work that outlives engines, by handle; where it is None there is none.
        up: Whether the endpoint takes launches.
    """

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.cancelled: list[str] = []
        self.attached: list[str] = []
        self.outside: dict[str, Future[Mapping[str, JSON]]] | None = None
        self.up = True
        self.futures: dict[str, Future[Mapping[str, JSON]]] = {}
        self.news = threading.Condition()

    def launch(self, attempt: Attempt) -> Launched:
        future: Future[Mapping[str, JSON]] = Future()
        future.set_running_or_notify_cancel()
        handle = None
        if self.outside is not None:
            handle = f"job-{attempt.id}"
            self.outside[handle] = future
        with self.news:
            self.attempts.append(attempt)
            self.futures[attempt.id] = future
            self.news.notify_all()
        return Launched(handle, future)

    def wait(self, count: int, patience: float = 20.0) -> Attempt:
        """The attempt of a number, from 1, once it is launched."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.attempts) >= count, patience), f"{count} attempts in vain"
            return self.attempts[count - 1]

    def succeed(self, attempt: Attempt, text: str = "") -> None:
        """End an attempt well; each output gets content of this text."""
        self.answer(attempt, Result(versions=versions(attempt.task, text)))

    def fail(self, attempt: Attempt, kind: str = "function", retryable: bool = False) -> None:
        """End an attempt badly."""
        self.answer(attempt, Result(failure=Failure(kind, "by hand", retryable)))

    def refuse(self, attempt: Attempt, error: Exception) -> None:
        """End an attempt by the executor's own error."""
        self.futures[attempt.id].set_exception(error)

    def answer(self, attempt: Attempt, result: Result) -> None:
        self.futures[attempt.id].set_result(unstructure(result))


def versions(task: Mapping[str, Any], text: str) -> tuple[NewVersion, ...]:
    """New content for each output of a task."""
    return tuple(
        NewVersion(
            key=output["key"],
            data_id=output["data_id"],
            checksum="sha256:" + text.encode().hex().rjust(64, "0"),
            fingerprint=f"bytes:{text}",
            size=len(text),
            store="local",
            location=f"file:///nowhere/{output['data_id']}/{text}",
        )
        for output in task["outputs"]
    )


HAND = Hand()


@hookimpl
def aero_provides() -> Sequence[Provides]:
    return [
        Provides(Family.EXECUTOR, "hand", machine_local=True),
        Provides(Family.EXECUTOR, "far"),
        Provides(Family.STORE, "shared"),
    ]


@hookimpl
def aero_check_endpoint(endpoint: str) -> EndpointCheck:
    return EndpointCheck(HAND.up, "" if HAND.up else f"{endpoint} is down")


@hookimpl
def aero_launch(attempt: Attempt) -> Launched:
    return HAND.launch(attempt)


@hookimpl
def aero_attach(handle: str) -> Launched | None:
    HAND.attached.append(handle)
    future = None if HAND.outside is None else HAND.outside.get(handle)
    return None if future is None else Launched(handle, future)


@hookimpl
def aero_cancel(handle: str) -> bool:
    HAND.cancelled.append(handle)
    return False
