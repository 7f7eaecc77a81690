"""Every hook is told about in full, and tested by name."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from aero_core import hookspecs, models
from aero_core.catalog import Catalog

TESTS = Path(__file__).resolve().parents[1]
HOOKS: dict[str, Callable[..., object]] = {
    name: hook for name, hook in vars(hookspecs).items() if name.startswith("aero_") and inspect.isfunction(hook)
}
_EXAMPLE = re.compile(r"Example:\n+```python\n(.*?)```", re.DOTALL)


def _docs(name: str) -> str:
    return inspect.getdoc(HOOKS[name]) or ""


def _example(name: str) -> str:
    text = re.sub(r"(?m)^ {4}(?=```|\S|$)", "", _docs(name).partition("Example:")[2])
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match is not None, f"{name} has no example"
    return dedent(match[1])


def test_there_are_hooks_of_every_family() -> None:
    assert len(HOOKS) > 25


@pytest.mark.parametrize("name", HOOKS)
def test_the_first_line_says_what_it_does(name: str) -> None:
    first = _docs(name).splitlines()[0]
    assert len(first) > 20
    assert first[0].isupper()


@pytest.mark.parametrize("name", HOOKS)
def test_the_side_is_told(name: str) -> None:
    before = _docs(name).partition("Example:")[0]
    assert re.search(r"(?<![A-Za-z])[ER](?: and [ER])?(?=[,.;: ])", before), before


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_asked_of_all_say_so(name: str) -> None:
    options = vars(HOOKS[name])["aero_spec"]
    assert ("**All**" in _docs(name)) is not options["firstresult"]


@pytest.mark.parametrize("name", HOOKS)
def test_the_example_is_a_module_that_implements_the_hook(name: str) -> None:
    tree = ast.parse(_example(name))
    compile(tree, name, "exec")
    (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("aero_")]
    assert found.name == name
    given = [argument.arg for argument in found.args.args if argument.arg != "self"]
    assert set(given) <= set(inspect.signature(HOOKS[name]).parameters)
    assert "hookimpl" in [getattr(mark, "id", "") for mark in found.decorator_list]


@pytest.mark.parametrize("name", HOOKS)
def test_what_examples_import_from_aero_is_there(name: str) -> None:
    for node in ast.walk(ast.parse(_example(name))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aero_core"):
            exec(f"from {node.module} import {', '.join(alias.name for alias in node.names)}", {})


@pytest.mark.parametrize("name", HOOKS)
def test_arguments_are_plain_and_typed(name: str) -> None:
    known = {**vars(hookspecs), **vars(models), "Catalog": Catalog, "click": __import__("click")}
    types = typing.get_type_hints(HOOKS[name], known)
    parameters = inspect.signature(HOOKS[name]).parameters.values()
    assert set(types) == {parameter.name for parameter in parameters} | {"return"}
    # pluggy hides parameters with a default, and those by keyword, from plugins.
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)


def test_every_hook_occurs_in_a_test() -> None:
    text = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py") if path != Path(__file__))
    assert [name for name in HOOKS if not re.search(rf"\b{name}\b", text)] == []


def test_implements_marks_a_function_for_its_spec() -> None:
    def fetch_gopher(url: str) -> None:
        return None

    marked = hookspecs.implements(hookspecs.aero_open_catalog)(fetch_gopher)
    assert vars(marked)["aero_impl"]["specname"] == "aero_open_catalog"
