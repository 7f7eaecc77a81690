"""A flow's inputs, and whether they fit its function's parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping, Sequence

from attrs import frozen

from aero_core.errors import FlowFileError, InvalidValue
from aero_core.flowfile.arguments import check_text
from aero_core.flowfile.declaration import DataRef, Declaration, Function
from aero_core.models import NUMBER_DIGITS, Data, Input, InputShape, check_name, shown

#: Parameters that a run fills by itself where a function has them.
GIVEN = ("run", "previous")
GIVEN_FOR_INPUTS = ("url", "signed_url", "version")
_PINNED = re.compile(r"(?P<data>.*)@(?P<version>[^@]*)", re.DOTALL)


@frozen
class Signature:
    """A function's parameters, all of which are given by name.

    Attributes:
        required: Those without a default.
        takes_any: Whether it has `**kwargs`.
    """

    function: str
    names: tuple[str, ...]
    required: tuple[str, ...]
    takes_any: bool

    @classmethod
    def of(cls, function: Function) -> Signature:
        """Read a function's parameters.

        Raises:
            FlowFileError: One of them cannot be given by name.
        """
        name = getattr(function, "__name__", repr(function))
        parameters = list(inspect.signature(function).parameters.values())
        for part in parameters:
            if part.kind is part.POSITIONAL_ONLY:
                raise FlowFileError(f"parameter {part.name!r} of {name} cannot be given by name: take the '/' out")
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        return cls(
            function=name,
            names=tuple(part.name for part in named),
            required=tuple(part.name for part in named if part.default is part.empty),
            takes_any=any(part.kind is part.VAR_KEYWORD for part in parameters),
        )

    def check(self, inputs: Collection[str], kwargs: Collection[str]) -> None:
        """Refuse inputs and kwargs that do not fit.

        Raises:
            FlowFileError: A parameter is unknown, given twice, or not given at all.
        """
        for parameter in (*inputs, *kwargs):
            kind = "input" if parameter in inputs else "argument"
            if parameter in GIVEN or (parameter not in inputs and parameter in _given(inputs)):
                raise FlowFileError(f"parameter {parameter!r} is given by the run: not by {kind}s")
            if parameter in inputs and parameter in kwargs:
                raise FlowFileError(f"parameter {parameter!r} is given by inputs and by kwargs")
            if parameter not in self.names and not self.takes_any:
                raise FlowFileError(
                    f"{self.function} has no parameter {parameter!r} for the {kind} of that name: "
                    f"it has {self._listed()}"
                )
        for parameter in self.required:
            if parameter not in (*inputs, *kwargs, *GIVEN, *_given(inputs)):
                raise FlowFileError(
                    f"parameter {parameter!r} of {self.function} is given by nothing: "
                    "name it in inputs or kwargs, or give it a default"
                )

    def parameter_for(self, data: str) -> str:
        """The parameter named after a data: by its whole name or its last part.

        Raises:
            FlowFileError: There is none.
        """
        names = [name.replace("-", "_") for name in (data, data.rpartition(".")[2])]
        names = [name for name in names if name.isidentifier()]
        for name in names:
            if name in self.names or self.takes_any:
                return name
        advice = f"name one {names[-1]!r}, or" if names else "it is no parameter's name,"
        raise FlowFileError(
            f"{self.function} has no parameter for the input {data!r}: {advice} "
            f"give inputs={{'PARAMETER': ...}} (it has {self._listed()})"
        )

    def first(self) -> str:
        """The parameter that receives an ingestion's raw file.

        Raises:
            FlowFileError: There is none.
        """
        if not self.names:
            raise FlowFileError(f"{self.function} has no parameter: its first one receives the raw file")
        return self.names[0]

    def _listed(self) -> str:
        return ", ".join(map(repr, self.names)) or "none"


def _given(inputs: Collection[str]) -> list[str]:
    return [f"{parameter}_{suffix}" for parameter in inputs for suffix in GIVEN_FOR_INPUTS]


def read_inputs(given: object, signature: Signature) -> tuple[Input, ...]:
    """A flow's inputs from a list of data, or a mapping of parameters to data.

    Raises:
        FlowFileError, InvalidValue: Something in it is no data, or fits no parameter.
    """
    if isinstance(given, Mapping):
        return tuple(item for key, value in given.items() for item in _of_parameter(key, value))
    if isinstance(given, (Declaration, DataRef, Data, str)):
        given = [given]
    if not isinstance(given, Sequence):
        raise InvalidValue(f"inputs is {given!r}: expected a list of data, or a mapping of parameters to data")
    found: dict[str, Input] = {}
    for value in given:
        ref = data_ref(value)
        parameter = signature.parameter_for(value.name if isinstance(value, Data) else ref.data)
        if parameter in found:
            raise FlowFileError(
                f"inputs {found[parameter].data!r} and {ref.data!r} would both be parameter "
                f"{parameter!r}: give inputs={{'PARAMETER': ...}}"
            )
        found[parameter] = Input(parameter, ref.data, version=ref.version)
    return tuple(found.values())


def _of_parameter(parameter: object, value: object) -> list[Input]:
    if not isinstance(parameter, str) or not parameter.isidentifier():
        raise InvalidValue(f"inputs has the key {parameter!r}: expected a parameter's name")
    if isinstance(value, Mapping):
        shape, items = InputShape.DICT, list(value.items())
    elif isinstance(value, (list, tuple)):
        shape, items = InputShape.LIST, [(str(place), item) for place, item in enumerate(value)]
    else:
        shape, items = InputShape.ONE, [("", value)]
    if not items:
        raise InvalidValue(f"inputs gives parameter {parameter!r} no data")
    found = []
    for key, item in items:
        if not isinstance(key, str) or (shape is InputShape.DICT and not key):
            raise InvalidValue(f"inputs[{parameter!r}] has the key {key!r}: expected text")
        check_text(key, f"inputs[{parameter!r}], a key,")
        ref = data_ref(item)
        found.append(Input(parameter, ref.data, item=key, shape=shape, version=ref.version))
    return found


def data_ref(value: object) -> DataRef:
    """A data from what stands for it: a declaration, an output, or a name or id, `@N` for a number.

    Raises:
        FlowFileError, InvalidValue: It stands for none.
    """
    if isinstance(value, Declaration):
        return value.data
    if isinstance(value, DataRef):
        return value
    if isinstance(value, Data):
        return DataRef(value.id)
    if not isinstance(value, str):
        what = getattr(value, "__name__", None) or shown(value)
        raise InvalidValue(f"inputs has {what}: expected a declared flow, one of its outputs, or a data's name or id")
    name, version = value, None
    if match := _PINNED.fullmatch(value):
        name = match["data"]
        number = match["version"]
        if not number.isdecimal() or len(number) > NUMBER_DIGITS or int(number) < 1:
            raise InvalidValue(f"input {shown(value)} is pinned to {shown(number)}: expected a number from 1 on")
        version = int(number)
    return DataRef(check_name(name, "an input's data"), version)
