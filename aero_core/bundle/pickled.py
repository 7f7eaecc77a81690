"""Functions without a file: from a notebook or the prompt, they travel by cloudpickle."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from aero_core.bundle.source import parsed
from aero_core.errors import FlowFileError
from aero_core.models import canonical_json

#: Where a pickled function is in its bundle, and the source that it was made from.
PICKLE_NAME = "function.pkl"
SOURCE_NAME = "function.py"


def describe_pickled(function: Callable[..., Any], inner: FunctionType) -> tuple[str, str, dict[str, bytes]]:
    """Pickle a function of a notebook.

    Returns:
        Its name, the digest of its source and of what it uses, and the files of its bundle.

    Raises:
        FlowFileError: Its source is not known, or it cannot be pickled.
    """
    parts = dict(_parts(inner))
    digest = hashlib.sha256(canonical_json(parts).encode()).hexdigest()
    try:
        content = cloudpickle.dumps(function)
    except Exception as error:  # noqa: BLE001  whatever an object's own pickling raises
        raise FlowFileError(
            f"{inner.__name__} cannot be pickled ({type(error).__name__}: {error}): "
            "use only values that can, or define it in a file"
        ) from None
    source = "\n\n".join(text for _, text in sorted(parts.items())).encode()
    return inner.__name__, digest, {PICKLE_NAME: content, SOURCE_NAME: source}


def _parts(function: FunctionType) -> Iterator[tuple[str, str]]:
    """Text of a function and of the values of the same notebook that it uses, by name."""
    module = function.__module__
    yield function.__qualname__, _source(function)
    todo, seen = [function], {function.__qualname__}
    while todo:
        current = todo.pop()
        values = {name: current.__globals__[name] for name in _names(current)}
        values |= inspect.getclosurevars(current).nonlocals
        for name, value in sorted(values.items()):
            if name not in seen:
                seen.add(name)
                value = getattr(value, "function", value)  # of a declared one
                todo += _functions(value, module)
                yield name, _value(value, module)


def _names(function: FunctionType) -> set[str]:
    """Global names that a function reads, inner functions included."""
    found: set[str] = set()
    todo = [function.__code__]
    while todo:
        code = todo.pop()
        found |= set(code.co_names)
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {name for name in found if name in function.__globals__}


def _functions(value: object, module: str) -> list[FunctionType]:
    """The functions of the notebook that a value brings: itself, or a class's methods."""
    if isinstance(value, type) and value.__module__ == module:
        return [found for _, item in _members(value) for found in _functions(item, module)]
    if isinstance(value, FunctionType) and value.__module__ == module:
        return [value]
    return []


def _value(value: object, module: str) -> str:
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, FunctionType) and value.__module__ == module:
        return _source(value)
    if isinstance(value, type) and value.__module__ == module:
        # Python does not find the source of a notebook's class, but that of its methods.
        bases = [f"{base.__module__}.{base.__qualname__}" for base in value.__bases__]
        return "\n".join([*bases, *(f"{name}: {_value(x, module)}" for name, x in _members(value))])
    if isinstance(value, (FunctionType, type)):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        return canonical_json(value)
    except (TypeError, ValueError):
        # Only JSON has a text that is equal for equal values.
        return f"{type(value).__module__}.{type(value).__qualname__}"


def _members(kind: type) -> list[tuple[str, object]]:
    """What a class statement itself puts into a class, in order of names."""
    found = []
    for name, value in sorted(vars(kind).items()):
        inner = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        written = isinstance(inner, FunctionType) and inner.__qualname__.startswith(kind.__qualname__)
        if written or not (name.startswith("__") and name.endswith("__")):
            found.append((name, inner))
    return found


def _source(item: Any) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(item))
        source = parsed(text)
        # What Python takes for a function's source may be another text of the same name: all are "<string>".
        if not (source.definitions(item.__name__) or (item.__name__ == "<lambda>" and "lambda" in text)):
            raise OSError
        used = source.used_by(item.__name__)
    except (OSError, TypeError, SyntaxError):
        raise FlowFileError(
            f"the source of {item.__name__} is not known: define it in a file or a notebook cell"
        ) from None
    return "\n".join(used.parts)
