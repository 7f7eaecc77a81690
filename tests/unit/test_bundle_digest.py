"""What decides whether a function has changed, and what does not."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aero_core.bundle import Description, describe, imports_from
from aero_core.errors import FlowFileError

_numbers = itertools.count()

FLOWS = '''"""Flows."""

from pathlib import Path

import helper
import unused
from lib.tools import tidy as clean
from aero_core import analysis, ingest

FACTOR = 3
UNUSED = 4
TABLE = {}
TABLE["x"] = 1
PLANTS = ["a", "b"]

raw = ingest("raw", url="https://example.org/a", every="1d")


def scaled(value):
    return value * FACTOR


def other():
    return UNUSED


@analysis(inputs=[raw], every="1d")
def rt(raw, window=7):
    """Estimate."""
    text = Path(raw).read_text()
    return clean(scaled(helper.estimate(text, window)))


for plant in PLANTS:
    analysis(rt, name=f"rt_{plant}", inputs={"raw": raw})

if __name__ == "__main__":
    print(rt("x"))
'''
FILES = {
    "flows.py": FLOWS,
    "helper.py": "import deep\n\ndef estimate(text, window):\n    return deep.down(text)\n",
    "deep.py": "def down(text):\n    return text\n",
    "unused.py": "X = 1\n",
    "lib/__init__.py": "",
    "lib/tools.py": "from . import inner\n\ndef tidy(x):\n    return inner.f(x)\n",
    "lib/inner.py": "def f(x):\n    return x\n",
    "lib/alone.py": "pass\n",
    "table.csv": "a,b\n",
}


class Folder:
    """A folder with a flow file and what it imports."""

    def __init__(self, path: Path, files: Mapping[str, str]) -> None:
        self.path = path
        for name, text in files.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, newline="")

    def replace(self, old: str, new: str, name: str = "flows.py") -> None:
        text = (self.path / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def module(self, name: str = "flows.py") -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"flows_{next(_numbers)}", self.path / name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module
        try:
            with imports_from(self.path):
                spec.loader.exec_module(module)
        finally:
            del sys.modules[module.__name__]
        return module

    def describe(self, function: str = "rt", **arguments: Any) -> Description:
        found = getattr(self.module(), function)
        return describe(getattr(found, "function", found), self.path, **arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "project", FILES)


def edit(old: str, new: str, name: str = "flows.py") -> Callable[[Folder], None]:
    return lambda folder: folder.replace(old, new, name)


UNCHANGED = {
    "another function": edit("return UNUSED", "return UNUSED + 1"),
    "a constant that it does not use": edit("UNUSED = 4", "UNUSED = 5"),
    "a schedule": edit('every="1d"', 'every="2d"'),
    "its flow's inputs": edit("inputs=[raw], ", 'inputs=["raw"], '),
    "a source": edit("example.org/a", "example.org/b"),
    "a comment elsewhere": edit("FACTOR = 3", "FACTOR = 3  # three\n# and more"),
    "a comment within": edit("    text =", "    # the file\n    text ="),
    "blank lines": edit("\n\n", "\n\n\n\n"),
    "trailing blanks": edit("def scaled(value):", "def scaled(value):   "),
    "spacing": edit("value * FACTOR", "value*FACTOR"),
    "a trailing newline": edit('print(rt("x"))\n', 'print(rt("x"))'),
    "indentation": edit("    return value * FACTOR", "  return value * FACTOR"),
    "line ends": edit("\n", "\r\n"),
    "the flow file's docstring": edit('"""Flows."""', '"""All flows."""'),
    "a further docstring-like text": edit("FACTOR = 3", '"""The factor."""\nFACTOR = 3'),
    "the main block": edit('print(rt("x"))', 'print(rt("y"))'),
    "declarations in a loop": edit('name=f"rt_{plant}"', 'name=f"r_{plant}"'),
    "one more declaration": edit("if __name__", 'analysis(rt, name="z", inputs=[raw])\nif __name__'),
    "what the loop goes over": edit('PLANTS = ["a", "b"]', 'PLANTS = ["a", "b", "c"]'),
    "an unused local module": edit("X = 1", "X = 2", "unused.py"),
    "a module of a used package that is not imported": edit("pass", "1", "lib/alone.py"),
    "a further import": edit("import helper\n", "import helper\nimport json\n"),
    "a further name of an import": edit("import tidy as clean", "import tidy as clean, inner"),
    "a file that is not named": edit("a,b", "a,c", "table.csv"),
    "a new function": edit("for plant in", "def later():\n    return 1\n\n\nfor plant in"),
    "an unused name bound in an if": edit("UNUSED = 4", "UNUSED = 4\nif FACTOR:\n    MORE = 2"),
    "passing": edit("UNUSED = 4", "UNUSED = 4\nif UNUSED:\n    pass"),
}
CHANGED = {
    "its text": edit("Path(raw).read_text()", "Path(raw).read_text().strip()"),
    "a default": edit("window=7", "window=8"),
    "its docstring": edit('"""Estimate."""', '"""Guess."""'),
    "blanks in a text": edit('"""Estimate."""', '"""Estimate. """'),
    "a function that it uses": edit("value * FACTOR", "value + FACTOR"),
    "a constant used by a function that it uses": edit("FACTOR = 3", "FACTOR = 4"),
    "an import that it uses": edit("from pathlib import Path", "from pathlib import PurePath as Path"),
    "a statement that binds no name": edit('TABLE["x"] = 1', 'TABLE["x"] = 2'),
    "a call at the top": edit('TABLE["x"] = 1', 'TABLE["x"] = 1\nTABLE.clear()'),
    "an attribute set at the top": edit('TABLE["x"] = 1', 'TABLE["x"] = 1\nPath.x = 1'),
    "a statement in a loop": edit("    analysis(rt,", "    TABLE[plant] = 2\n    analysis(rt,"),
    "a local module": edit("deep.down(text)", "deep.down(text) + 1", "helper.py"),
    "a comment in a local module": edit("import deep", "import deep  # down", "helper.py"),
    "a module that a local module imports": edit("return text", "return text * 2", "deep.py"),
    "a module of a package": edit("return inner.f(x)", "return inner.f(x) + 1", "lib/tools.py"),
    "a package": edit("", "VERSION = 1\n", "lib/__init__.py"),
    "a module imported relatively": edit("return x", "return -x", "lib/inner.py"),
    "how a constant is bound": edit("FACTOR = 3", "FACTOR = 3\nFACTOR += 1"),
    "a constant bound in an if": edit("FACTOR = 3", "FACTOR = 3\nif FACTOR:\n    FACTOR = 5"),
    "whether a value is deleted": edit("UNUSED = 4", "UNUSED = 4\ndel FACTOR\nFACTOR = 3"),
    "an import of everything": edit("UNUSED = 4", "from unused import *\nUNUSED = 4"),
}


@pytest.mark.parametrize("change", UNCHANGED.values(), ids=UNCHANGED.keys())
def test_it_stays(folder: Folder, change: Callable[[Folder], None]) -> None:
    before = folder.describe().digest
    change(folder)
    assert folder.describe().digest == before


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED.keys())
def test_it_changes(folder: Folder, change: Callable[[Folder], None]) -> None:
    before = folder.describe().digest
    change(folder)
    assert folder.describe().digest != before


def test_an_edited_helper_changes_who_uses_it_and_nobody_else(folder: Folder) -> None:
    before = folder.describe("rt").digest, folder.describe("other").digest
    folder.replace("deep.down(text)", "deep.down(text) + 1", "helper.py")
    after = folder.describe("rt").digest, folder.describe("other").digest
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_the_place_does_not_count(folder: Folder, tmp_path: Path) -> None:
    assert folder.describe().digest == Folder(tmp_path / "elsewhere", FILES).describe().digest


def test_named_files_count(folder: Folder) -> None:
    before = folder.describe(code=["table.csv"])
    assert before.digest != folder.describe().digest
    folder.write("table.csv", "a,c\n")
    assert folder.describe(code=["table.csv"]).digest != before.digest


def test_what_a_description_holds(folder: Folder) -> None:
    found = folder.describe(code=["table.csv", folder.path / "table.csv"])
    assert found.function == "rt"
    assert found.entry == "flows.py"
    assert found.parameters == ("raw", "window")
    assert found.digest.startswith("sha256:")
    assert sorted(found.files) == [
        "deep.py",
        "flows.py",
        "helper.py",
        "lib/__init__.py",
        "lib/inner.py",
        "lib/tools.py",
        "table.csv",
        "unused.py",
    ]


def digest_of(tmp_path: Path, text: str, function: str = "f") -> str:
    return Folder(tmp_path, {"flows.py": text}).describe(function).digest


@pytest.mark.parametrize(
    "declare",
    [
        "from aero_core import analysis as a\na(f, {})",
        "import aero_core\naero_core.analysis(f, {})",
        "import aero_core as ac\nac.analysis(f, {})",
        "import aero_core.flowfile\naero_core.flowfile.analysis(f, {})",
        "from aero_core import flowfile as ff\nff.analysis(f, {})",
        "from aero_core.flowfile import analysis\nanalysis(f, {})",
        "from aero_core import *\nanalysis(f, {})",
        "from aero_core import analysis\nif True:\n    analysis(f, {})",
        "from aero_core import analysis\n[analysis(f, {}) for _ in [1]]",
        "from aero_core import analysis\nprint(analysis(f, {}))",
        "from aero_core import analysis\ndef make():\n    analysis(f, {})\nmake()",
        "import functools as t, aero_core as a\nw = t.partial(a.analysis, every='7d')\nw(f, {})",
        "from aero_core import analysis\ntry:\n    analysis(f, {})\nexcept ValueError:\n    pass",
        "from aero_core import analysis\nwith open(__file__):\n    analysis(f, {})",
        "from aero_core import analysis\nflows = dict()\nflows['x'] = analysis(f, {})",
    ],
)
def test_declarations_do_not_count_however_they_are_written(tmp_path: Path, declare: str) -> None:
    function = "def f(x=1):\n    return x\n"
    assert digest_of(tmp_path, function + declare.replace("{}", 'name="x"')) == digest_of(
        tmp_path, function + declare.replace("{}", 'name="y", every="1d"')
    )


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        # A parameter, a local name or a comprehension's hides the file's.
        ("X = 1\ndef f(X): return X", "X = 2\ndef f(X): return X", True),
        ("X = 1\ndef f(*X): return X", "X = 2\ndef f(*X): return X", True),
        ("X = 1\ndef f():\n X = 3\n return X", "X = 2\ndef f():\n X = 3\n return X", True),
        (
            "X = 1\ndef f(): return [X for X in 'a']",
            "X = 2\ndef f(): return [X for X in 'a']",
            True,
        ),
        ("X = 1\nf = lambda: 0\ndef f(): return lambda X: X", None, True),
        ("X = 1\ndef f():\n import X", "X = 2\ndef f():\n import X", True),
        ("X = 1\ndef f():\n def X(): pass\n X()", "X = 2\ndef f():\n def X(): pass\n X()", True),
        ("X = 1\ndef f(a):\n match a:\n  case [X]: return X", None, True),
        ("X = 1\ndef f():\n try: pass\n except OSError as X: print(X)", None, True),
        # And these do not.
        ("X = 1\ndef f(): return [X for a in X]", None, False),
        (
            "X = [1]\ndef f(): return [X for X in X]",
            "X = [2]\ndef f(): return [X for X in X]",
            False,
        ),
        ("X = 1\ndef f():\n global X\n X = 3", None, False),
        ("X = 1\ndef f(a=X): return a", None, False),
        ("X = 1\ndef f(X=X): return X", "X = 2\ndef f(X=X): return X", False),
        ("X = 1\ndef f(a: X): return a", None, False),
        ("X = 1\ndef f():\n def g(): return X\n return g", None, False),
        ("X = 1\ndef f():\n class G:\n  X = 2\n  def g(self): return X\n return G", None, False),
        ("X = 1\ndef g(): return X\nY = g\ndef f(): return Y", None, False),
        ("X, Y = 1, 1\ndef f(): return Y", "X, Y = 2, 1\ndef f(): return Y", False),
        ("(Y := [X := 1])\ndef f(): return X", "(Y := [X := 2])\ndef f(): return X", False),
        ("class C:\n X = 1\ndef f(): return C", "class C:\n X = 2\ndef f(): return C", False),
        ("def d(g): return g\n@d\ndef h(): pass\ndef f(): h()", None, False),
        ("def f(): return f'{1:{2}}'", "def f(): return f'{1:{3}}'", False),
        ("def f(): return __doc__", '"""A."""\ndef f(): return __doc__', False),
        ("é, X = 1, 1; Y = 1\ndef f(): return Y", "é, X = 1, 2; Y = 1\ndef f(): return Y", True),
        ("é, X = 1, 1; Y = 1\ndef f(): return Y", "é, X = 1, 1; Y = 2\ndef f(): return Y", False),
    ],
)
def test_which_names_a_function_uses(tmp_path: Path, first: str, second: str | None, same: bool) -> None:
    if second is None:
        second = first.replace("X = 1", "X = 2").replace("return g\n@d", "return g or g\n@d")
    assert (digest_of(tmp_path, first) == digest_of(tmp_path, second)) is same


@pytest.mark.parametrize(
    ("exports", "modules"),
    [
        ("", ""),
        ("__all__ = ['one']", "one"),
        ("__all__ = ('one',) + ('deep',)", "one deep"),
        ("__all__: list[str] = []\n__all__ += ['one']\nif True:\n    __all__.extend(('two',))", "one two"),
        ("__all__ = []\n__all__.append('two')", "two"),
        ("import pathlib\n__all__ = [p.stem for p in pathlib.Path(__file__).parent.glob('*')]", "one two deep"),
        ("__all__ = 'one two'.split()", "one two deep"),
        ("from pkg.two import X as __all__", "one two deep"),
        ("from . import one\n__all__ = ['two']\ndef __dir__():\n    return __all__", "one two"),
    ],
)
def test_a_star_brings_the_modules_that_a_package_names(tmp_path: Path, exports: str, modules: str) -> None:
    files = {
        "flows.py": "from pkg import *\n\ndef f():\n    return one.X\n",
        "pkg/__init__.py": exports,
        "pkg/one.py": "X = 1\n",
        "pkg/two.py": "X = ['one']\n",
        "pkg/deep/__init__.py": "X = 3\n",
    }
    folder = Folder(tmp_path / "project", files)
    before = folder.describe("f")
    paths = {"one": "pkg/one.py", "two": "pkg/two.py", "deep": "pkg/deep/__init__.py"}
    brought = {paths[name] for name in modules.split()}
    assert set(before.files) == {"flows.py", "pkg/__init__.py", *brought}
    for path in paths.values():
        folder.write(path, files[path] + "# changed")
        assert (folder.describe("f").digest != before.digest) is (path in brought)
        folder.write(path, files[path])


def test_its_own_decorators_do_not_count_and_a_helpers_do(tmp_path: Path) -> None:
    text = "import functools\n@functools.{}\ndef g(): return 1\n@functools.{}\ndef f(): return g()\n"
    plain = digest_of(tmp_path, text.format("cache", "cache"))
    assert digest_of(tmp_path, text.format("cache", "lru_cache")) == plain
    assert digest_of(tmp_path, text.format("lru_cache", "cache")) != plain


def test_a_declared_helpers_declaration_does_not_count(tmp_path: Path) -> None:
    text = "from aero_core import analysis\n@analysis(every='{}')\ndef g(): return {}\n@analysis\ndef f(): return g()\n"
    plain = digest_of(tmp_path, text.format("1d", 1))
    assert digest_of(tmp_path, text.format("2d", 1)) == plain
    assert digest_of(tmp_path, text.format("1d", 2)) != plain


def test_a_digest_is_what_it_was_in_earlier_releases(tmp_path: Path) -> None:
    """A new digest of old code would make a new revision of every flow there is."""
    text = 'X = 2\n\n\ndef f(a, b=f"{X!r:>{X}}"):  # why\n    if a:\n        return X\n    return b\n'
    assert digest_of(tmp_path, text) == ("sha256:adfde680a929de23663e3eb3718484938c9ea4d17a9abf44b62a2b5244c41850")


class TestRefusals:
    def refused(self, function: Any, *arguments: Any, **more: Any) -> str:
        with pytest.raises(FlowFileError) as caught:
            describe(function, *arguments, **more)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_lambda(self) -> None:
        assert self.refused(lambda: 0) == ("it cannot run a lambda: define it with def at the top of the file")

    def test_inner_function(self) -> None:
        def inner() -> None: ...

        assert self.refused(inner) == (
            "it cannot run TestRefusals.test_inner_function.<locals>.inner, an inner function: "
            "define it with def at the top of the file"
        )

    def test_builtin_class_and_other(self) -> None:
        fix = "define it with def at the top of the file"
        assert self.refused(len) == (
            f"it needs a Python function, not builtin_function_or_method <built-in function len>: {fix}"
        )
        assert self.refused(Path) == f"it needs a Python function, not a class: {fix}"
        assert self.refused(5) == f"it needs a Python function, not int 5: {fix}"

    def test_async_and_generator(self, tmp_path: Path) -> None:
        text = "async def f(): ...\ndef g():\n    yield 1\n"
        module = Folder(tmp_path, {"flows.py": text}).module()
        assert self.refused(module.f) == "it cannot run async f: make it a plain def"
        assert self.refused(module.g) == "it cannot run g, which yields: let it return"

    def test_a_function_of_a_package(self, folder: Folder) -> None:
        import textwrap

        path = textwrap.__file__
        assert self.refused(textwrap.dedent, folder.path) == (
            f"dedent is defined in {path}, outside of {folder.path}: call it from a function there"
        )

    def test_two_functions_of_one_name(self, folder: Folder) -> None:
        folder.replace("def other()", "def scaled()")
        assert self.refused(folder.module().scaled, folder.path) == (
            f"{folder.path}/flows.py defines 'scaled' more than once, in lines 19, 23: give each its own name"
        )

    def test_a_function_that_bears_another_name(self, folder: Folder) -> None:
        function = folder.module().other
        folder.replace("def other", "def another")
        assert self.refused(function, folder.path) == (
            f"{folder.path}/flows.py has no function 'other' at its top: define it there with def, under that name"
        )

    @pytest.mark.parametrize(
        ("named", "problem"),
        [
            ("nothing.csv", "code names 'nothing.csv', but {folder}/nothing.csv is not there"),
            ("lib", "code names 'lib', but {folder}/lib is a folder: name its files"),
            ("../x", "code names '../x', which is outside of {folder}: put a copy there"),
            ("/etc/passwd", "code names '/etc/passwd', which is outside of {folder}: put a copy"),
        ],
    )
    def test_named_files(self, folder: Folder, named: str, problem: str) -> None:
        function = folder.module().other
        message = self.refused(function, folder.path, code=[named])
        assert message.startswith(problem.format(folder=folder.path))

    def test_links_that_lead_outside(self, folder: Folder, tmp_path: Path) -> None:
        outside = tmp_path / "outside.py"
        outside.write_text((folder.path / "helper.py").read_text())
        (folder.path / "helper.py").unlink()
        (folder.path / "helper.py").symlink_to(outside)
        function = folder.module().other
        expected = (
            f"{folder.path}/helper.py leads out of {folder.path}: code travels with its folder only, put a copy there"
        )
        assert self.refused(function, folder.path) == expected
        assert self.refused(function, folder.path, code=["helper.py"]) == expected

    def test_links_inside_are_followed(self, folder: Folder) -> None:
        (folder.path / "helper.py").rename(folder.path / "real.py")
        (folder.path / "helper.py").symlink_to("real.py")
        assert folder.describe().files["helper.py"] == FILES["helper.py"].encode()

    def test_a_broken_local_module(self, folder: Folder) -> None:
        function = folder.module().other
        folder.write("deep.py", "def down(:\n")
        assert self.refused(function, folder.path) == (f"{folder.path}/deep.py:1: SyntaxError: invalid syntax")
        (folder.path / "deep.py").write_bytes(b"x = '\xff'\n")
        assert self.refused(function, folder.path) == (f"{folder.path}/deep.py is not UTF-8 text: save it as UTF-8")

    def test_a_local_module_named_like_pythons_own(self, folder: Folder) -> None:
        function = folder.module().other
        folder.write("statistics.py", "def mean(x): ...\n")
        folder.replace("import deep", "import deep, statistics", "helper.py")
        assert self.refused(function, folder.path) == (
            f"{folder.path}/statistics.py is named like Python's own 'statistics': rename it"
        )


class TestWhereFunctionsLive:
    def test_in_a_helper_module(self, folder: Folder) -> None:
        with imports_from(folder.path):
            import helper  # type: ignore[import-not-found]

            found = describe(helper.estimate, folder.path)
        assert found.entry == "helper.py"
        assert sorted(found.files) == ["deep.py", "helper.py"]

    def test_in_a_package_without_a_flow_file(self, folder: Folder) -> None:
        with imports_from(folder.path):
            import lib.tools  # type: ignore[import-not-found]

            found = describe(lib.tools.tidy)
        assert found.entry == "lib/tools.py"
        assert sorted(found.files) == ["lib/__init__.py", "lib/inner.py", "lib/tools.py"]

    def test_wrapped_by_a_decorator(self, folder: Folder) -> None:
        folder.replace("def other", "import functools\n@functools.cache\ndef other")
        assert folder.describe("other").function == "other"
