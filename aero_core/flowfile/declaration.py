"""What `ingest` and `analysis` answer: a declared flow, and a word for the data that it makes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

from attrs import frozen

from aero_core.errors import FlowFileError
from aero_core.models import FlowSpec

Function = Callable[..., Any]

_collected: ContextVar[list[Declaration] | None] = ContextVar("collected", default=None)


@frozen
class DataRef:
    """One data, by name or id, and the number that it is pinned to."""

    data: str
    version: int | None = None

    def __str__(self) -> str:
        return self.data if self.version is None else f"{self.data}@{self.version}"


@frozen
class Draft:
    """One flow as declared: what is to be registered, but for its packed code.

    Attributes:
        spec: Without function, origin, project and namespace.
        function: What the flow runs; None for an ingestion.
        code: Further files that the function needs.
        store: The store as declared; None for the profile's.
    """

    spec: FlowSpec
    function: Function | None = None
    code: tuple[str, ...] = ()
    store: str | None = None


@frozen
class Place:
    """Where a flow was declared."""

    file: str
    line: int


class Declaration:
    """A declared flow. It stands for its data where another flow asks for inputs.

    `declaration["plot"]` is one of several outputs. Calling it calls the function itself, so that
    it can be tried by hand.

    Args:
        word: `ingest` or `analysis`.
        drafts: The flows, the one that bears the name last; none while it still needs a function.
        decorate: Answers the declaration that a function completes.
    """

    #: Indexing by number is no way to go through a declaration.
    __iter__ = None

    def __init__(
        self,
        word: str,
        drafts: tuple[Draft, ...] = (),
        decorate: Callable[[Function], Declaration] | None = None,
    ) -> None:
        self.word = word
        self.drafts = drafts
        self.function = drafts[-1].function if drafts else None
        self.place = _caller()
        self._decorate = decorate
        self._data = _named_outputs(drafts)
        if self.function is not None:
            self.__doc__ = self.function.__doc__
            self.__name__ = getattr(self.function, "__name__", "")
            self.__wrapped__ = self.function

    @property
    def name(self) -> str:
        """The flow's name."""
        return self.spec.name

    @property
    def spec(self) -> FlowSpec:
        """What is registered of the flow that bears the name."""
        if not self.drafts:
            self._refuse_unfinished()
        return self.drafts[-1].spec

    @property
    def data(self) -> DataRef:
        """The flow's only data.

        Raises:
            FlowFileError: It makes several, or none.
        """
        outputs = self.spec.outputs
        if len(outputs) == 1:
            return DataRef(outputs[0].data)
        if not outputs:
            raise FlowFileError(f"flow {self.name!r} makes no data, so it cannot be an input")
        some = f"{self.name}[{outputs[0].key!r}]"
        raise FlowFileError(f"flow {self.name!r} makes several data: say which, such as {some}")

    def __getitem__(self, key: str) -> DataRef:
        """One of the flow's data, by the output's name."""
        if not self.drafts:
            self._refuse_unfinished()
        if key not in self._data:
            known = ", ".join(map(repr, self._data)) or "none by name"
            raise FlowFileError(f"flow {self.name!r} has no output {key!r}: it has {known}")
        return DataRef(self._data[key])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; a declaration without one takes it as a decorator does."""
        if self.function is not None:
            return self.function(*args, **kwargs)
        if self._decorate is not None and len(args) == 1 and not kwargs:
            finished = self._decorate(args[0])
            finished.place = self.place
            _replace(self, finished)
            return finished
        raise FlowFileError(f"{self!r} has no function to call")

    def __repr__(self) -> str:
        if not self.drafts:
            return f"<{self.word}, without a name or a function>"
        spec = self.drafts[0].spec
        origin = ", ".join(spec.source.urls if spec.source else (i.data for i in spec.inputs))
        made = ", ".join(draft.data for draft in self.spec.outputs)
        told = [f"<{self.word} {self.name!r}", f"from {origin}" if origin else "", f"makes {made}"]
        return ", ".join(part for part in told[: 3 if made else 2] if part) + ">"

    def _refuse_unfinished(self) -> NoReturn:
        raise FlowFileError(f"{self.word}(...) has no name here: put it over a function, or give name=")


def _named_outputs(drafts: tuple[Draft, ...]) -> Mapping[str, str]:
    if not drafts:
        return {}
    named = {output.key: output.data for output in drafts[-1].spec.outputs if output.key}
    for draft in drafts[:-1]:
        # The bytes as they came, of an ingestion with a body.
        named["raw"] = draft.spec.outputs[0].data
    return named


@contextmanager
def collecting() -> Iterator[list[Declaration]]:
    """Collect the declarations that are made in the block; anywhere else they are only answered."""
    found: list[Declaration] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def is_collecting() -> bool:
    """Whether a flow file is being read."""
    return _collected.get() is not None


def collect(declaration: Declaration) -> Declaration:
    """Note a declaration where declarations are collected."""
    found = _collected.get()
    if found is not None:
        found.append(declaration)
    return declaration


def _replace(old: Declaration, new: Declaration) -> None:
    found = _collected.get()
    if found is not None:
        found[:] = [new if item is old else item for item in found]
        if new not in found:
            found.append(new)


def _caller() -> Place:
    """The line that declares: the nearest one outside this package."""
    frame = sys._getframe()
    package = __name__.rpartition(".")[0]
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(package):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)
