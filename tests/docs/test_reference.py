"""The reference names everything that there is."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import attrs
import click
import pytest

from aero_core import config, errors, hookspecs
from aero_core.cli import root
from aero_core.flowfile import analysis, ingest
from aero_core.hookspecs import NAMESPACE
from tests.docs.pages import blocks

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    level = heading.index(" ")
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {heading!r}"
    return found[1]


def built_in_settings() -> Iterator[tuple[str, type]]:
    for folder in sorted((ROOT / "plugins").glob("aero_*")):
        settings = getattr(importlib.import_module(folder.name), "Settings", None)
        if settings is not None:
            yield f"### `[plugins.{folder.name.removeprefix('aero_')}]`", settings


TABLES = [
    ("### Top level", config._File),
    ("### `[profiles.NAME]`", config.Profile),
    ("### `[limits]`", config.LimitSettings),
    *built_in_settings(),
]


@pytest.mark.parametrize(("heading", "model"), TABLES, ids=lambda value: value if isinstance(value, str) else "")
def test_every_setting_is_documented_and_shown(heading: str, model: type) -> None:
    text = page("configuration")
    shown = next(block.text for block in blocks(text) if block.language == "toml")
    for field in attrs.fields(model):
        assert f"`{field.name}`" in section(text, heading), f"{heading} lacks {field.name}"
        if heading != "### Top level":
            assert re.search(rf"^(# )?{field.name} = ", shown, re.MULTILINE), f"the example lacks {field.name}"


def test_keys_of_plugins_and_stores_are_documented() -> None:
    for key in config._PLUGIN_KEYS:
        assert f"`{key}`" in section(page("configuration"), "### `[plugins]`")
    assert "`url`" in section(page("configuration"), "### `[stores.NAME]`")


def test_every_variable_is_documented() -> None:
    sources = [*(ROOT / "aero_core").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    read = {name for source in sources for name in re.findall(r'environ\S*?"(AERO_\w+)"', source.read_text("utf-8"))}
    assert read >= {"AERO_STATE", "AERO_PROFILE"}
    for name in read:
        assert f"`{name}`" in section(page("configuration"), "## Environment")


def test_every_exit_code_is_documented_with_its_errors() -> None:
    rows = dict(re.findall(r"^\| (\d+) \|(.*)$", page("exit-codes"), re.MULTILINE))
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.AeroError)]
    for error in classes:
        assert f"`{error.__name__}`" in rows[str(error.exit_code)], f"{error.__name__} is {error.exit_code}"
    codes = {0, *(error.exit_code for error in classes)}
    codes |= {value for name, value in vars(root).items() if name.startswith("EXIT_")}
    assert {int(code) for code in rows} == codes


def commands(group: click.Group, words: str) -> Iterator[tuple[str, click.Command]]:
    """All commands by their words, those in groups too."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None, f"{words} {name} is listed, but is not there"
        yield f"{words} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{words} {name}")


def test_every_command_is_documented() -> None:
    text = page("commands")
    assert ":module: aero_core.cli.root\n    :command: root\n    :prog_name: aero\n" in text
    table = section(text, "# Commands").split("**Which project.**")[0]
    for words, command in commands(root.root, "aero"):
        assert command.help, f"{words} has no help"
        if isinstance(command, click.Group):
            continue
        assert f"`{words.removeprefix('aero ')}`" in table, f"the table of commands lacks {words}"
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, f"{words} {option.name} has no help"


def test_every_hook_has_its_heading_in_the_order_of_the_contract() -> None:
    hooks = [
        name
        for name, value in vars(hookspecs).items()
        if inspect.isfunction(value) and name.startswith(f"{NAMESPACE}_")
    ]
    assert re.findall(r"^::: aero_core\.hookspecs\.(\w+)$", page("hooks"), re.MULTILINE) == hooks


@pytest.mark.parametrize("function", [ingest, analysis])
def test_a_signature_is_shown_as_it_is(function: FunctionType) -> None:
    names = vars(importlib.import_module("aero_core.models"))
    shown = next(b.text for b in blocks(page("flow-files")) if b.text.startswith(f"{function.__name__}(\n"))
    call = ast.parse(shown, mode="eval").body
    assert isinstance(call, ast.Call)
    told = {word.arg: eval(ast.unparse(word.value), dict(names)) for word in call.keywords}
    real = {name: part.default for name, part in inspect.signature(function).parameters.items()}
    assert list(told.items()) == list(real.items())


@pytest.mark.parametrize("function", [ingest, analysis])
def test_every_argument_of_a_flow_file_is_documented(function: FunctionType) -> None:
    text = section(page("flow-files"), f"## `{function.__name__}`")
    for name in inspect.signature(function).parameters:
        assert re.search(rf"^\|[^|]*`{name}`[^|]*\|", text, re.MULTILINE), f"{function.__name__} lacks {name}"


def test_every_rule_and_option_is_documented() -> None:
    text = page("fingerprint-rules")
    source = "".join(file.read_text("utf-8") for file in (ROOT / "plugins" / "aero_local").glob("*.py"))
    options = set(re.findall(r'options\.(?:texts|flag|character)\("(\w+)"', source))
    assert options
    for name in {"bytes", "json", "csv", "text", *options}:
        assert f"| `{name}` |" in text
