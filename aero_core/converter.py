"""Models to JSON and back, by cattrs, with errors that a person can act on.

Times are ISO 8601 in UTC. Unknown fields are ignored in answers from a wire (`structure`) and are errors in
configuration (`structure_strict`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import list_structure_factory, mapping_structure_factory
from cattrs.dispatch import StructureHook
from cattrs.errors import BaseValidationError, ClassValidationError, ForbiddenExtraKeysError
from cattrs.preconf.json import make_converter

from aero_core.errors import AeroError, InvalidValue
from aero_core.models import JSON, LARGEST, shown

T = TypeVar("T")


def _time(value: Any, _: type) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise TypeError("expected a time such as '2026-01-31T12:00:00Z'") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _scalar(value: Any, kind: type) -> Any:
    """Take only values of the very kind: cattrs alone would turn `5` into `"5"` and `"no"` into True."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"expected {_KINDS[kind]}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise TypeError(f"expected {_KINDS[kind]} below 2**63")
    return value


_MAPPINGS: tuple[object, ...] = (Mapping, dict)
_KINDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _member(value: Any, kind: type[Enum]) -> Enum:
    try:
        return kind(value)
    except ValueError:
        # A TypeError, as all of what has the wrong form.
        raise TypeError(f"expected one of {', '.join(repr(member.value) for member in kind)}") from None


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list or (get_origin(kind) is tuple and get_args(kind)[1:] == (...,))


def _list_of(item: Any) -> Any:
    return list[item]


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) in _MAPPINGS


def _list(kind: Any, converter: cattrs.Converter) -> StructureHook:
    """Take only lists: cattrs alone would turn `"ab"` into `("a", "b")`."""
    items = list_structure_factory(_list_of(get_args(kind)[0]), converter)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise TypeError("expected a list")
        found = items(value, kind)
        return tuple(found) if get_origin(kind) is tuple else found

    return hook


def _mapping(kind: Any, converter: cattrs.Converter) -> StructureHook:
    pairs = mapping_structure_factory(kind, converter, structure_to=dict)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError("expected a mapping")
        return pairs(value, kind)

    return hook


def _make(forbid_extra_keys: bool) -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=forbid_extra_keys)
    for kind in _KINDS:
        converter.register_structure_hook(kind, _scalar)
    # These are kinds of str and int too, which would else be asked.
    converter.register_structure_hook(StrEnum, _member)
    converter.register_structure_hook(IntEnum, _member)
    converter.register_structure_hook_factory(_is_list, _list)
    converter.register_structure_hook_factory(_is_mapping, _mapping)
    converter.register_structure_hook(datetime, _time)
    converter.register_unstructure_hook(datetime, lambda moment: moment.isoformat())
    return converter


_wire = _make(forbid_extra_keys=False)
_strict = _make(forbid_extra_keys=True)


def unstructure(model: object) -> Any:
    """A model as plain JSON-able values."""
    return _wire.unstructure(model)


def to_json(model: object) -> str:
    """A model as one line of JSON."""
    return json.dumps(unstructure(model), ensure_ascii=False)


def structure(value: JSON, kind: type[T], what: str = "") -> T:
    """A model from plain values that came over a wire or out of a database; unknown fields are ignored.

    Args:
        value: Mappings, lists and scalars.
        kind: The model's class.
        what: What is being read, for messages.

    Raises:
        InvalidValue: A field is missing or of the wrong form; the message names field, value and what was expected.
    """
    return _structure(_wire, value, kind, what or kind.__name__, InvalidValue)


def structure_strict(value: JSON, kind: type[T], what: str, error: type[AeroError] = InvalidValue) -> T:
    """As `structure`, but an unknown field is an error as well."""
    return _structure(_strict, value, kind, what, error)


def from_json(text: str | bytes, kind: type[T], what: str = "") -> T:
    """A model from JSON text.

    Raises:
        InvalidValue: It is no JSON, or not of the model's form.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidValue(f"{what or kind.__name__} is not JSON: {error}") from None
    return structure(value, kind, what)


def _structure(converter: cattrs.Converter, value: JSON, kind: type[T], what: str, error: type[AeroError]) -> T:
    try:
        return converter.structure(value, kind)
    except AeroError:
        raise
    except Exception as problem:  # noqa: BLE001  cattrs raises what its hooks do
        if isinstance(problem, MemoryError) or (
            isinstance(problem, BaseValidationError) and problem.subgroup(MemoryError) is not None
        ):
            # It says nothing of the value.
            raise MemoryError from None
        raise error(f"{what}: {_explain(problem, value, kind)}") from None


def _explain(problem: BaseException, value: JSON, kind: Any, path: str = "") -> str:
    """The innermost of cattrs' nested errors as `field is value: expected ...`."""
    if isinstance(problem, ClassValidationError) and not isinstance(value, Mapping):
        return f"{path or 'the value'} is {shown(value)}: expected a mapping"
    if isinstance(problem, BaseValidationError):
        inner = problem.exceptions[0]
        step = _step(inner)
        child = _descend(value, step)
        return _explain(inner, child, kind, _join(path, step))
    where = path or "the value"
    if isinstance(problem, ForbiddenExtraKeysError):
        names = ", ".join(sorted(attrs.fields_dict(problem.cl)))
        return f"unknown field {', '.join(map(repr, sorted(problem.extra_fields)))} in {where}: expected {names}"
    if isinstance(problem, KeyError):
        return f"{where} is missing"
    if isinstance(problem, TypeError) and not str(problem).startswith("expected"):
        # What generated code raises where it was given anything but a mapping.
        problem = TypeError("expected a mapping")
    return f"{where} is {shown(value)}: {problem}"


def _step(problem: BaseException) -> str | int | None:
    for note in getattr(problem, "__notes__", ()):
        for attribute in ("name", "index"):
            if hasattr(note, attribute):
                step: str | int = getattr(note, attribute)
                return step
    return None


def _join(path: str, step: str | int | None) -> str:
    if step is None:
        return path
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


def _descend(value: JSON, step: str | int | None) -> JSON:
    if isinstance(value, Mapping) and step in value:
        return value[step]
    if isinstance(value, (list, tuple)) and isinstance(step, int) and step < len(value):
        return value[step]
    return value
