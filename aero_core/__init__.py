"""AERO: versioned data from sources that change, analyses that rerun themselves, provenance.

The public names are loaded when they are first used, so that `import aero_core` costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not imported from typing, which is slow to load
if TYPE_CHECKING:
    from typing import Any

    from aero_core import api
    from aero_core.errors import ClientError
    from aero_core.flowfile import analysis, ingest
    from aero_core.models import AeroOutput, PolicyEnum, Rule

    __version__: str

__all__ = [
    "AeroOutput",
    "ClientError",
    "PolicyEnum",
    "Rule",
    "__version__",
    "analysis",
    "api",
    "ingest",
]

_HOMES = {
    "AeroOutput": "models",
    "ClientError": "errors",
    "PolicyEnum": "models",
    "Rule": "models",
    "analysis": "flowfile",
    "ingest": "flowfile",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    value: Any
    if name == "__version__":
        value = _version()
    elif name == "api":
        value = import_module("aero_core.api")
    elif name in _HOMES:
        value = getattr(import_module(f"aero_core.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'aero_core' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("aero-core")
    except PackageNotFoundError:
        return "0+unknown"
