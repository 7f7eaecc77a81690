"""Reading flow files, and the public names that they use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aero_core
from aero_core.bundle import describe
from aero_core.flowfile import FlowFile, analysis, ingest, load_flow_file, origin_of

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(read: FlowFile) -> list[str]:
    return [draft.spec.name for found in read.declarations for draft in found.drafts]


def test_flows_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "flows.py",
        "from aero_core import analysis, ingest\n"
        "a = ingest('a', 'mem:x')\n"
        "@ingest(url='mem:x')\ndef b(path): ...\n"
        "@analysis(inputs=[a, b])\ndef c(a, b): ...\n"
        "@ingest('d', url='mem:x')\ndef other(path): ...\n"
        "for n in '12': analysis(c, name=f'e{n}', inputs=[a, b])\n",
    )
    read = load_flow_file(path)
    assert names(read) == ["a", "b.raw", "b", "c", "d.raw", "d", "e1", "e2"]
    assert read.path == path
    assert read.folder == tmp_path
    assert [found.place.line for found in read.declarations] == [2, 3, 5, 7, 9, 9]


def test_edits_are_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "flows.py", "import rt\nfrom aero_core import ingest\ningest(rt.NAME, 'mem:x')\n")
    for name in ("one", "two"):
        write(tmp_path / "rt.py", f"NAME = '{name}'\n")
        assert names(load_flow_file(path)) == [name]
    assert "rt" not in sys.modules
    assert "flows" not in sys.modules
    assert not (tmp_path / "__pycache__").exists()


def test_two_files_with_helpers_of_one_name(tmp_path: Path) -> None:
    text = "import rt\nfrom aero_core import ingest\ningest(rt.NAME, 'mem:x')\n"
    for name in ("one", "two"):
        path = write(tmp_path / name / "flows.py", text)
        write(tmp_path / name / "rt.py", f"NAME = '{name}'\n")
        assert names(load_flow_file(path)) == [name]


def test_it_is_no_main_program_and_knows_its_place(tmp_path: Path) -> None:
    path = write(
        tmp_path / "flows.py",
        "from pathlib import Path\nfrom aero_core import ingest\n"
        "ingest('a', Path(__file__).parent / 'a.csv')\n"
        "if __name__ == '__main__':\n    raise SystemExit\n",
    )
    source = load_flow_file(path).declarations[0].spec.source
    assert source is not None
    assert source.urls == (f"file://{tmp_path}/a.csv",)


def test_behind_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real" / "flows.py", "import rt\nrt.ingest('a', 'mem:x')\n")
    write(tmp_path / "real" / "rt.py", "from aero_core import ingest\n")
    (tmp_path / "link.py").symlink_to("real/flows.py")
    read = load_flow_file("link.py")
    assert read.path == tmp_path / "real" / "flows.py"


def test_declarations_elsewhere_are_not_collected(tmp_path: Path) -> None:
    ingest("outside", "mem:x")
    path = write(tmp_path / "flows.py", "from aero_core import ingest\ningest('a', 'mem:x')\n")
    assert names(load_flow_file(path)) == ["a"]


def test_one_flow_file_within_another(tmp_path: Path) -> None:
    write(tmp_path / "inner.py", "from aero_core import ingest\ningest('inner', 'mem:x')\n")
    path = write(
        tmp_path / "flows.py",
        "from aero_core import ingest\nfrom aero_core.flowfile import load_flow_file\n"
        "inner = load_flow_file('inner.py').declarations[0]\n"
        "ingest(inner.name + '2', 'mem:x')\n",
    )
    assert names(load_flow_file(path)) == ["inner2"]


@pytest.mark.parametrize(
    ("path", "root", "origin"),
    [
        ("/p/flows.py", "/p", "flows.py"),
        ("/p/a/b/flows.py", "/p", "a/b/flows.py"),
        ("/p/a/../flows.py", "/p", "flows.py"),
        ("/q/flows.py", "/p", "../q/flows.py"),
    ],
)
def test_origins(path: str, root: str, origin: str) -> None:
    assert origin_of(Path(path), Path(root)) == origin


class TestTheReferenceExample:
    def test_it_loads(self) -> None:
        read = load_flow_file(EXAMPLES / "outbreaks" / "flows.py")
        found = names(read)
        assert len(found) == 9
        assert len([name for name in found if name.startswith("cases_")]) == 4
        assert "rt" not in sys.modules

    def test_an_edit_of_rt_changes_its_flows_and_nothing_else(self, tmp_path: Path) -> None:
        before = self.digests(EXAMPLES / "outbreaks")
        for name in ("flows.py", "rt.py"):
            (tmp_path / name).write_bytes((EXAMPLES / "outbreaks" / name).read_bytes())
        assert self.digests(tmp_path) == before
        with (tmp_path / "rt.py").open("a") as file:
            file.write("\nEDITED = True\n")
        after = self.digests(tmp_path)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {name for name in before if name.startswith("rt_")}

    def digests(self, folder: Path) -> dict[str, str]:
        read = load_flow_file(folder / "flows.py")
        return {
            found.name: describe(found.function, read.folder).digest
            for found in read.declarations
            if found.function is not None
        }


class TestPublicNames:
    def test_importing_the_package_loads_nothing(self) -> None:
        program = (
            "import sys; before = set(sys.modules); import aero_core\n"
            "print(sorted(set(sys.modules) - before - {'__future__'}))"
        )
        answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert answer.stdout == "['aero_core']\n"

    def test_the_names_of_a_flow_file(self) -> None:
        from aero_core import AeroOutput, ClientError, PolicyEnum, Rule

        assert aero_core.ingest is ingest
        assert aero_core.analysis is analysis
        assert AeroOutput("plot", "plot.png").path == "plot.png"
        assert PolicyEnum.ALL.value == 3
        assert Rule("csv").id == "csv"
        assert str(ClientError(404, "not there")) == "404: not there"
        assert set(aero_core.__all__) <= set(dir(aero_core))

    def test_the_version(self) -> None:
        assert isinstance(aero_core.__version__, str)

    def test_an_unknown_name(self) -> None:
        with pytest.raises(AttributeError, match="module 'aero_core' has no attribute 'nothing'"):
            aero_core.nothing  # noqa: B018
