"""A fingerprint rule's options, checked one by one."""

from __future__ import annotations

from aero_core.errors import InvalidValue
from aero_core.models import JSON, Rule


class Options:
    """Options of one rule; each is taken once, and `finish` refuses what was not taken."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule.name
        self._left = dict(rule.options)
        self._known: list[str] = []

    def texts(self, name: str, what: str) -> list[str]:
        """A text or a list of texts, as a list."""
        value = self._take(name, [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts):
            raise self.wrong(name, value, f"{what}, or a list of such")
        return list(texts)

    def flag(self, name: str) -> bool:
        """True or false; false if it is not given."""
        value = self._take(name, False)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def character(self, name: str) -> str | None:
        """One character, or None if it is not given."""
        value = self._take(name, None)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) != 1 or value in '\r\n"\0':
            raise self.wrong(name, value, "one character")
        return value

    def finish(self) -> None:
        """Refuse options that the rule does not have."""
        for name, value in self._left.items():
            names = ", ".join(self._known) or "none"
            raise InvalidValue(
                f"fingerprint rule {self._rule!r} has no option {name!r} (given as {value!r}): its options are {names}"
            )

    def wrong(self, name: str, value: JSON, expected: str) -> InvalidValue:
        """An error that names option, value and what was expected."""
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        return InvalidValue(f"fingerprint rule {self._rule!r}: option {name} is {shown}: expected {expected}")

    def _take(self, name: str, default: JSON) -> JSON:
        self._known.append(name)
        return self._left.pop(name, default)
