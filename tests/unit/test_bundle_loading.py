"""Functions out of bundles: the right code, alone, and gone afterwards."""

from __future__ import annotations

import linecache
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from aero_core.bundle import describe, importing, loaded, pack
from aero_core.bundle.describe import Description
from aero_core.errors import FlowFileError, FunctionError
from aero_core.flowfile import load_flow_file


class Packed:
    """One function's bundle."""

    def __init__(self, description: Description, folder: Path) -> None:
        self.cache = folder / "cache"
        self.bundle = pack(description, folder / f"{description.digest[7:20]}.zip")

    def loaded(self, function: str = "") -> AbstractContextManager[Any]:
        return loaded(
            lambda: Path(self.bundle.path),
            self.bundle.id,
            self.cache,
            self.bundle.entry,
            function or self.bundle.function,
        )


def packed(folder: Path, files: dict[str, str], name: str = "flows.py") -> Packed:
    """Write a flow file's folder, load it and pack its last flow's function."""
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    read = load_flow_file(folder / name)
    function = read.declarations[-1].function
    assert function is not None
    return Packed(describe(function, read.folder), folder)


def flows(body: str, top: str = "") -> str:
    return f"from aero_core import analysis\n{top}\n@analysis\ndef f():\n    {body}\n"


def test_the_function_behind_a_declaration(tmp_path: Path) -> None:
    found = packed(tmp_path, {"flows.py": flows("return 7")})
    with found.loaded() as function:
        assert function() == 7
        assert function.__name__ == "f"
        assert Path(function.__code__.co_filename).is_relative_to(found.cache)


def test_modules_of_equal_names_never_mix(tmp_path: Path) -> None:
    text = flows("import late\n    return rt.X, late.X, pkg.sub.X", "import rt, pkg.sub")
    bundles = [
        packed(
            tmp_path / name,
            {
                "flows.py": text,
                "rt.py": f"X = '{name}'",
                "late.py": f"X = '{name}'",
                "pkg/__init__.py": "",
                "pkg/sub.py": f"from rt import X as Y\nX = Y + '{name}'",
            },
        )
        for name in ("one", "two")
    ]
    for _ in range(2):
        for name, bundle in zip(("one", "two"), bundles, strict=True):
            with bundle.loaded() as function:
                assert function() == (name, name, name + name)
                assert "late" in sys.modules
    assert not {"rt", "late", "pkg", "pkg.sub", "flows"} & set(sys.modules)


def test_one_within_another(tmp_path: Path) -> None:
    one, two = (
        packed(
            tmp_path / name,
            {"flows.py": flows("return rt.X", "import rt"), "rt.py": f"X = '{name}'"},
        )
        for name in ("one", "two")
    )
    with one.loaded() as outer:
        with two.loaded() as inner:
            assert inner() == "two"
        import rt  # type: ignore[import-not-found]

        assert rt.X == outer() == "one"


def test_what_was_there_before_is_there_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = type(sys)("rt")
    monkeypatch.setitem(sys.modules, "rt", mine)
    found = packed(tmp_path, {"flows.py": flows("return rt.X", "import rt"), "rt.py": "X = 1"})
    path, bytecode = list(sys.path), sys.dont_write_bytecode
    with found.loaded() as function:
        assert sys.modules["rt"] is not mine
        assert function() == 1
        sys.path.append("/somewhere")
    assert sys.modules["rt"] is mine
    assert sys.path == path
    assert sys.dont_write_bytecode is bytecode


def test_installed_modules_stay(tmp_path: Path) -> None:
    sys.modules.pop("this", None)
    found = packed(tmp_path, {"flows.py": flows("import colorsys\n    return 1")})
    sys.modules.pop("colorsys", None)
    with found.loaded() as function:
        function()
    assert "colorsys" in sys.modules


def test_an_environment_below_the_folder_is_not_the_persons_code(tmp_path: Path) -> None:
    site = tmp_path / ".venv" / "lib" / "site-packages"
    text = flows("return 1", f"import sys\nsys.path.append({str(site)!r})\nimport heavy_module")
    packed(tmp_path, {".venv/lib/site-packages/heavy_module.py": "X = 1", "flows.py": text})
    assert "heavy_module" in sys.modules
    del sys.modules["heavy_module"]


def test_modules_are_dropped_after_an_error(tmp_path: Path) -> None:
    top = "import rt, os\nif os.environ.get('BREAK'): raise OSError('no disk')"
    found = packed(tmp_path, {"flows.py": flows("1 / 0", top), "rt.py": "X = 1"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BREAK", "1")
        with pytest.raises(OSError, match="no disk"), found.loaded():
            pass
    assert not {"rt", "flows"} & set(sys.modules)
    with pytest.raises(ZeroDivisionError), found.loaded() as function:
        function()
    assert not {"rt", "flows"} & set(sys.modules)


def test_the_file_knows_that_it_is_only_imported(tmp_path: Path) -> None:
    top = "from aero_core.bundle import importing\nX = importing()"
    found = packed(tmp_path, {"flows.py": flows("return X, importing()", top)})
    assert not importing()
    with found.loaded() as function:
        assert function() == (True, False)


def test_compiled_files_are_neither_read_nor_written(tmp_path: Path) -> None:
    # The function can write into its folder while it runs: modules that it has still to import, too.
    smuggle = (
        "import importlib.util, py_compile, rt\n    from pathlib import Path\n"
        "    late = Path(rt.__file__).with_name('late.py')\n    right = late.read_bytes()\n"
        "    late.write_text('X = 666')\n"
        "    py_compile.compile(str(late), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)\n"
        "    late.write_bytes(right)\n    import late\n    return late.X, Path(late.__file__).parent"
    )
    found = packed(tmp_path, {"flows.py": flows(smuggle, "import rt"), "rt.py": "X = 1", "late.py": "X = 2"})
    with found.loaded() as function:
        folder = Path(function.__code__.co_filename).parent
        assert not list(folder.rglob("*.pyc"))
        assert function() == (2, folder)
    with found.loaded():
        assert not list(folder.rglob("*.pyc"))


def test_a_function_that_is_not_there_once_imported(tmp_path: Path) -> None:
    found = packed(tmp_path, {"flows.py": flows("return 1")})
    with pytest.raises(FunctionError) as caught, found.loaded("g"):
        pass
    assert str(caught.value) == "flows.py has no function 'g' once it is imported"


@pytest.mark.parametrize("name", ["my-flows.py", "2026.flows.py", "json.py", "aero_core.py", "é.py"])
def test_odd_names_of_flow_files(tmp_path: Path, name: str) -> None:
    found = packed(tmp_path, {name: flows("return rt.X", "import rt"), "rt.py": "X = 1"}, name)
    with found.loaded() as function:
        assert function() == 1
    assert sys.modules["json"].__file__ != str(tmp_path / name)


def test_helpers_may_import_the_flow_file(tmp_path: Path) -> None:
    files = {
        "flows.py": flows("import rt\n    return rt.twice()", "BASE = 2"),
        "rt.py": "def twice():\n    from flows import BASE\n    return 2 * BASE\n",
    }
    with packed(tmp_path, files).loaded() as function:
        assert function() == 4


def test_dataclasses_find_their_module(tmp_path: Path) -> None:
    top = (
        "from __future__ import annotations\nimport dataclasses, typing\n"
        "@dataclasses.dataclass\nclass D:\n    x: typing.ClassVar[int] = 1\n    y: int = 2\n"
    )
    text = top + flows("return dataclasses.asdict(D())")
    with packed(tmp_path, {"flows.py": text}).loaded() as function:
        assert function() == {"y": 2}


def test_a_function_of_a_packages_module(tmp_path: Path) -> None:
    files = {
        "flows.py": "from aero_core import analysis\nfrom lib.steps import f\nanalysis(f)\n",
        "lib/__init__.py": "",
        "lib/steps.py": "from .deep import X\ndef f():\n    return X\n",
        "lib/deep.py": "X = 5\n",
    }
    found = packed(tmp_path, files)
    assert found.bundle.entry == "lib/steps.py"
    with found.loaded() as function:
        assert function() == 5


def test_blocks_of_several_threads_follow_one_another(tmp_path: Path) -> None:
    found = packed(tmp_path, {"flows.py": flows("return rt.X", "import rt"), "rt.py": "X = 1"})
    inside, most = 0, 0

    def run() -> None:
        nonlocal inside, most
        with found.loaded() as function:
            inside += 1
            most = max(most, inside)
            assert function() == 1
            inside -= 1

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


class TestNotebooks:
    def function(self, name: str, *cells: str) -> Any:
        """Define functions as cells of a notebook do: with source, without a file."""
        space: dict[str, Any] = {"__name__": "notebook"}
        for number, cell in enumerate(cells):
            file = f"<cell {number} {id(space)}>"
            lines = [line + "\n" for line in cell.splitlines()]
            linecache.cache[file] = (len(cell), None, lines, file)
            exec(compile(cell, file, "exec"), space)
        return space[name]

    CELLS = (
        "import math\nK = 2\nTABLE = {'a': [1]}",
        "def helper(x):\n    return x * K\n\ndef deep():\n    return 1",
        "class Tool:\n    size = 2\n    def grow(self):\n        return self.size + deep()",
        "def f(x, y=1):  # a comment\n    return helper(x) + Tool().grow() + int(y) + len(TABLE)",
    )

    def test_it_travels_to_another_process(self, tmp_path: Path) -> None:
        description = describe(self.function("f", *self.CELLS))
        assert description.entry == ""
        assert description.parameters == ("x", "y")
        found = Packed(description, tmp_path)
        program = (
            "import sys; from pathlib import Path; from aero_core.bundle import loaded\n"
            "with loaded(lambda: Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), '', 'f') as f:\n"
            "    print(f(5, y=2.5))"
        )
        bundle = found.bundle
        arguments = [sys.executable, "-c", program, bundle.path, bundle.id, str(found.cache)]
        answer = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
        assert answer.stdout == "16\n"

    @pytest.mark.parametrize(
        ("old", "new", "same"),
        [
            ("# a comment", "# another", True),
            ("import math", "import math, json", True),
            ("x * K", "x + K", False),
            ("K = 2", "K = 3", False),
            ("[1]", "[2]", False),
            ("size = 2", "size = 4", False),
            ("self.size +", "self.size -", False),
            ("return 1", "return 2", False),
            ("y=1", "y=2", False),
        ],
    )
    def test_its_digest_is_that_of_its_source(self, old: str, new: str, same: bool) -> None:
        one = describe(self.function("f", *self.CELLS))
        other = describe(self.function("f", *(cell.replace(old, new) for cell in self.CELLS)))
        assert (one.digest == other.digest) is same

    def test_declared_in_a_notebook(self) -> None:
        cell = "from aero_core import analysis\n\n@analysis(every='{}')\ndef f():\n    return 1\n"
        one = describe(self.function("f", cell.format("1d")).function)
        other = describe(self.function("f", cell.format("2d")).function)
        assert one.digest == other.digest

    def test_named_files_travel_along(self, tmp_path: Path) -> None:
        (tmp_path / "table.csv").write_text("a")
        description = describe(self.function("f", *self.CELLS), tmp_path, ["table.csv"])
        assert description.files["table.csv"] == b"a"
        assert description.digest != describe(self.function("f", *self.CELLS)).digest

    def test_without_source(self) -> None:
        space: dict[str, Any] = {"__name__": "notebook"}
        exec("def f(): return 1", space)
        with pytest.raises(FlowFileError) as caught:
            describe(space["f"])
        assert str(caught.value) == ("the source of f is not known: define it in a file or a notebook cell")

    def test_with_a_value_that_cannot_travel(self) -> None:
        function = self.function("f", "import threading\nLOCK = threading.Lock()", "def f(): return LOCK")
        with pytest.raises(FlowFileError) as caught:
            describe(function)
        assert str(caught.value) == (
            "f cannot be pickled (TypeError: cannot pickle '_thread.lock' object): "
            "use only values that can, or define it in a file"
        )


def test_packages_without_an_init_file_are_forgotten_from_the_inside_out(tmp_path: Path) -> None:
    inner = [f"p{number}" for number in range(8)]
    module = f"{'/'.join(inner)}/m.py"
    found = packed(
        tmp_path,
        {module: "WHO = 1\n", "flows.py": flows(f"from {'.'.join(inner)} import m; return m.WHO")},
    )
    with found.loaded() as function:
        assert function() == 1
    assert not [name for name in sys.modules if name.split(".")[0] == "p0"]
