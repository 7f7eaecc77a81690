"""Models to JSON and back, by cattrs, with errors that a person can act on.

Times are ISO 8601 in UTC. Unknown fields are ignored in answers from a wire (`structure`) and are errors in
configuration (`structure_strict`).
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError
from cattrs.preconf.json import make_converter

from aero_core.errors import AeroError, InvalidValue
from aero_core.models import JSON

T = TypeVar("T")


def _time(value: Any, _: type) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _scalar(value: Any, kind: type) -> Any:
    """Take only values of the very kind: cattrs alone would turn `5` into `"5"` and `"no"` into True."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"expected {_KINDS[kind]}")
    return value


_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _make(forbid_extra_keys: bool) -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=forbid_extra_keys)
    converter.register_structure_hook(datetime, _time)
    converter.register_unstructure_hook(datetime, lambda moment: moment.isoformat())
    for kind in _KINDS:
        # By identity: an enumeration of texts is a subclass of `str`, and has a way of its own.
        converter.register_structure_hook_func(partial(operator.is_, kind), _scalar)
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


def _structure(
    converter: cattrs.Converter, value: JSON, kind: type[T], what: str, error: type[AeroError]
) -> T:
    try:
        return converter.structure(value, kind)
    except AeroError:
        raise
    except Exception as problem:
        raise error(f"{what}: {_explain(problem, value, kind)}") from None


def _explain(problem: BaseException, value: JSON, kind: Any, path: str = "") -> str:
    """The innermost of cattrs' nested errors as `field is value: expected ...`."""
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
    return f"{where} is {_shown(value)}: {problem}"


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


def _shown(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
