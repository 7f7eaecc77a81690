"""For mkdocstrings: list all fields of an attrs class, and all values of an enumeration.

Griffe reads source text and knows neither; without this the pages show only what docstrings speak of.
"""

from __future__ import annotations

from typing import Any

import griffe

_HEADING = "\n\nAttributes:\n"


class Fields(griffe.Extension):
    """Completes the section *Attributes* of docstrings."""

    def on_class(self, *, cls: griffe.Class, loader: Any, **kwargs: Any) -> None:
        """Called for each class, once all is loaded of it."""
        names = {str(decorator.value).split("(")[0].rpartition(".")[2] for decorator in cls.decorators}
        bases = {str(base).rpartition(".")[2] for base in cls.bases}
        if cls.docstring is None or not (names & {"frozen", "define"} or bases & {"StrEnum", "IntEnum"}):
            return
        text, _, told = cls.docstring.value.partition(_HEADING)
        documented = _entries(told)
        lines = []
        for name, field in cls.attributes.items():
            if name.startswith("_") or (field.annotation is None and not bases & {"StrEnum", "IntEnum"}):
                continue
            if name in documented:
                lines += documented[name]
            elif field.labels & {"property"}:
                continue
            else:
                lines.append(f"    {name}: {_value(field)}")
        if lines:
            cls.docstring.value = text.rstrip() + _HEADING + "\n".join(lines)


def _entries(section: str) -> dict[str, list[str]]:
    """The lines of each documented attribute."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in section.splitlines():
        if line.startswith("    ") and not line.startswith("     ") and ":" in line:
            name = line.split(":")[0].strip().split(" ")[0]
        if name and line.strip():
            found.setdefault(name, []).append(line)
    return found


def _value(field: griffe.Attribute) -> str:
    if field.annotation is None:
        return f"`{field.value}`"
    value = "" if field.value is None else str(field.value)
    if value.startswith(("field", "attrs.field")):
        return ""
    return f"`{value}` by default." if value and value not in ("''", "()") else ""
