"""Checks of what a flow file says, each with a message that tells what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aero_core.errors import InvalidValue
from aero_core.models import JSON, LARGEST, Output, Rule, check_name, shown

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
#: Half of a character; what has one in it cannot be saved.
HALF = re.compile("[\ud800-\udfff]")
#: What JSON is read back in: Python refuses longer numbers, and calls itself for each level.
_MOST_DIGITS, _DEEPEST = 4000, 100
_HOSTED = ("http", "https", "ftp", "sftp")


def check_url(url: object) -> str:
    """A source's URL, from text or an absolute path.

    Raises:
        InvalidValue: It is none, or carries a user name or password.
    """
    if isinstance(url, Path):
        if not url.is_absolute():
            raise InvalidValue(f"url is the relative path {str(url)!r}: {_PATH_ADVICE}")
        return url.as_uri()
    if not isinstance(url, str) or not url:
        raise InvalidValue(f"url is {shown(url)}: expected such as 'https://example.org/a.csv'")
    check_text(url, "url")
    if not _SCHEME.match(url):
        raise InvalidValue(f"url is {shown(url)}, without a scheme: for a file {_PATH_ADVICE}")
    if _CONTROL.search(url):
        raise InvalidValue(f"url is {shown(url)}: expected no blanks or control characters, write %20 for a blank")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidValue(f"url is {shown(url)}: {error}") from None
    if "@" in parts.netloc:
        # Not shown: what stands there may be a password.
        raise InvalidValue(
            f"url of {parts.hostname} carries a user name or password: take it out, "
            "a flow file and its record are read by others"
        )
    if parts.scheme in _HOSTED and not parts.hostname:
        raise InvalidValue(f"url is {shown(url)}, without a host")
    if parts.scheme == "file" and (parts.hostname not in (None, "localhost") or not parts.path.startswith("/")):
        raise InvalidValue(f"url is {shown(url)}, no path on this machine: {_PATH_ADVICE}")
    return url


_PATH_ADVICE = 'use Path(__file__).parent / "..." or its .as_uri()'


def parse_rule(rule: object) -> Rule:
    """A fingerprint rule from its name, or a mapping of its name and options.

    Raises:
        InvalidValue: It is neither.
    """
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, str) and rule:
        return Rule(rule)
    if isinstance(rule, Mapping) and isinstance(rule.get("name"), str):
        options = {key: value for key, value in rule.items() if key != "name"}
        return Rule(rule["name"], plain_json(options, "rule"))
    raise InvalidValue(
        f"rule is {shown(rule)}: expected 'bytes', 'json', 'csv' or 'text', "
        "or such as {'name': 'csv', 'ignore': ['updated']}"
    )


def parse_kwargs(kwargs: object) -> dict[str, JSON]:
    """A function's further arguments, as JSON carries them.

    Raises:
        InvalidValue: It is no mapping, or JSON cannot carry a value.
    """
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise InvalidValue(f"kwargs is {shown(kwargs)}: expected a mapping of parameters to values")
    found: dict[str, JSON] = plain_json(kwargs, "kwargs")
    return found


def plain_json(value: Any, where: str, level: int = 0) -> JSON:
    """A value as JSON gives it back, so that it is compared with what was saved on equal terms.

    Raises:
        InvalidValue: JSON cannot carry it.
    """
    if level > _DEEPEST:
        raise InvalidValue(f"{where.partition('[')[0]} is more than {_DEEPEST} levels deep: keep it in a file")
    if isinstance(value, str):
        return check_text(value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) >= 10**_MOST_DIGITS:
        raise InvalidValue(f"{where} is a number of more than {_MOST_DIGITS} digits: give it as text")
    if isinstance(value, (int, float)) and (isinstance(value, int) or math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain_json(item, f"{where}[{place}]", level + 1) for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidValue(f"{where} has the key {shown(key)}: expected text")
            check_text(key, f"{where}, a key,")
        return {key: plain_json(item, f"{where}[{key!r}]", level + 1) for key, item in value.items()}
    raise InvalidValue(
        f"{where} is {shown(value)} ({type(value).__name__}): expected text, a finite number, "
        "true, false, None, or lists and mappings of these"
    )


def parse_outputs(outputs: object, flow: str) -> tuple[Output, ...]:
    """A flow's outputs: from None one that bears the flow's name, else those of these names.

    Raises:
        InvalidValue: A name is given twice, or is none.
    """
    if outputs is None:
        return (Output("", flow),)
    keys = parse_texts(outputs, "outputs")
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise InvalidValue(f"outputs names {twice[0]!r} twice")
    for key in keys:
        check_name(key, "an output")
    return tuple(Output(key, check_name(f"{flow}.{key}", "an output's data")) for key in keys)


def parse_texts(values: object, what: str) -> tuple[str, ...]:
    """Several words, from any list of texts or paths.

    Raises:
        InvalidValue: It is no such list.
    """
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InvalidValue(f"{what} is {shown(values)}: expected a list such as ['one', 'two']")
    found = []
    for value in values:
        text = str(value) if isinstance(value, Path) else value
        if not isinstance(text, str) or not text or not text.isprintable():
            raise InvalidValue(f"{what} has {shown(value)}: expected text")
        found.append(text)
    return tuple(found)


def optional_text(value: object, what: str) -> str | None:
    """Text or None.

    Raises:
        InvalidValue: It is neither.
    """
    if value is not None and (not isinstance(value, str) or not value or "\0" in value):
        raise InvalidValue(f"{what} is {shown(value)}: expected text")
    return value if value is None else check_text(value, what)


def check_text(text: str, what: str) -> str:
    """Text that can be saved.

    Raises:
        InvalidValue: It has half of a character in it, most often from bytes that were read in a wrong encoding.
    """
    if HALF.search(text):
        raise InvalidValue(f"{what} is {shown(text)}, which has half a character (a surrogate) in it: take it out")
    return text


def check_count(value: object, what: str) -> int:
    """A whole number of at least 0.

    Raises:
        InvalidValue: It is none.
    """
    if isinstance(value, int) and value > LARGEST:
        raise InvalidValue(f"{what} is {shown(value)}: expected a whole number below 2**63")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidValue(f"{what} is {shown(value)}: expected a whole number, 0 or more")
    return value


def check_flag(value: object, what: str) -> bool:
    """True or False.

    Raises:
        InvalidValue: It is neither.
    """
    if not isinstance(value, bool):
        raise InvalidValue(f"{what} is {shown(value)}: expected True or False")
    return value
