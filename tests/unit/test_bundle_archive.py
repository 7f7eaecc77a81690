"""Archives: equal for equal code, verified whenever they are used, and never outside their folder."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from aero_core.bundle import Description, pack, unpacked
from aero_core.errors import StoreError
from aero_core.models import Bundle

DESCRIPTION = Description(
    function="f",
    digest="sha256:0",
    entry="flows.py",
    parameters=("a",),
    files={"flows.py": b"def f(a): ...\n", "lib/tools.py": b"X = 1\n", "\u00fc.csv": b"1\r\n"},
)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def open_bundle(archive: Path, bundle_id: str, cache: Path) -> Path:
    with unpacked(lambda: archive, bundle_id, cache) as folder:
        return folder


def zip_of(path: Path, files: dict[str, bytes]) -> tuple[Path, str]:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    path.write_bytes(target.getvalue())
    return path, "sha256:" + hashlib.sha256(target.getvalue()).hexdigest()


def test_a_bundle_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    bundle = pack(DESCRIPTION, path)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert bundle == Bundle(f"sha256:{checksum}", "sha256:0", str(path), "flows.py", "f")
    assert names(tmp_path) == ["b.zip"]


def test_equal_code_makes_equal_bytes(tmp_path: Path) -> None:
    one = pack(DESCRIPTION, tmp_path / "one.zip")
    files = dict(reversed(list(DESCRIPTION.files.items())))
    other = pack(attrs.evolve(DESCRIPTION, files=files, function="g"), tmp_path / "other.zip")
    assert one.id == other.id
    more = pack(attrs.evolve(DESCRIPTION, files={**files, "x": b""}), tmp_path / "more.zip")
    assert one.id != more.id


def test_the_bytes_are_those_of_earlier_releases(tmp_path: Path) -> None:
    assert pack(DESCRIPTION, tmp_path / "b.zip").id == (
        "sha256:1948e2499f0d4d558e95d919bbad9c53caa94fb603aefee8c7967a9efb610813"
    )


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        pack(DESCRIPTION, tmp_path / "nothing" / "b.zip")
    assert str(caught.value) == f"cannot write {tmp_path}/nothing/b.zip: No such file or directory"


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def never() -> Path:
    raise AssertionError("the archive is in the cache")


def test_unpacking_brings_the_files_back_once(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    cache = tmp_path / "cache" / "code"
    with unpacked(lambda: Path(bundle.path), bundle.id, cache) as folder:
        assert folder.is_relative_to(cache / bundle.id.partition(":")[2])
        assert content(folder) == DESCRIPTION.files
    with unpacked(never, bundle.id, cache) as again:
        assert again == folder


def test_nobody_else_has_the_folder(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    with unpacked(lambda: Path(bundle.path), bundle.id, tmp_path) as one, unpacked(never, bundle.id, tmp_path) as other:
        assert one != other
        (other / "flows.py").unlink()
        assert content(one) == DESCRIPTION.files
    with unpacked(never, bundle.id, tmp_path) as one, unpacked(never, bundle.id, tmp_path) as other:
        assert content(one) == content(other) == DESCRIPTION.files


def rewrite(folder: Path) -> None:
    (folder / "lib/tools.py").write_bytes(b"X = 2\n")


def remove(folder: Path) -> None:
    (folder / "flows.py").unlink()


def remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


def plant(folder: Path) -> None:
    (folder / "numpy.py").touch()


def plant_package(folder: Path) -> None:
    (folder / "numpy").mkdir()


def plant_bytecode(folder: Path) -> None:
    (folder / "lib/__pycache__").mkdir()
    (folder / "lib/__pycache__/tools.cpython-311.pyc").touch()


def link(folder: Path) -> None:
    (folder / "flows.py").rename(folder.parent / "away")
    (folder / "flows.py").symlink_to(folder.parent / "away")


def link_all(folder: Path) -> None:
    folder.rename(folder.parent / "away")
    folder.symlink_to(folder.parent / "away")


def swap(folder: Path) -> None:
    (folder / "flows.py").unlink()
    (folder / "flows.py").mkdir()


def put_a_pipe(folder: Path) -> None:
    (folder / "flows.py").unlink()
    os.mkfifo(folder / "flows.py")


DAMAGES = [rewrite, remove, remove_all, plant, plant_package, plant_bytecode, link, link_all, swap, put_a_pipe]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("process", ["the same", "another"])
def test_damage_does_not_outlast_the_block(tmp_path: Path, damage: Callable[[Path], None], process: str) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    with unpacked(lambda: Path(bundle.path), bundle.id, tmp_path) as folder:
        damage(folder)
    if process == "another":
        program = (
            "import sys; from pathlib import Path; from aero_core.bundle import unpacked\n"
            "with unpacked(lambda: 1 / 0, sys.argv[1], Path(sys.argv[2])): pass"
        )
        subprocess.run([sys.executable, "-c", program, bundle.id, str(tmp_path)], timeout=60, check=True)
        assert content(folder) == DESCRIPTION.files
    with unpacked(never, bundle.id, tmp_path) as again:
        assert again == folder
        assert not folder.is_symlink()
        assert content(folder) == DESCRIPTION.files
        assert {path.name for path in folder.rglob("*")} == {"flows.py", "lib", "tools.py", "\u00fc.csv"}


def test_damage_to_all_of_the_cache_does_not_either(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    with unpacked(lambda: Path(bundle.path), bundle.id, tmp_path / "cache") as folder:
        for path in (tmp_path / "cache").rglob("*"):
            if path.is_file():
                path.write_bytes(b"damaged")
    with unpacked(lambda: Path(bundle.path), bundle.id, tmp_path / "cache") as folder:
        assert content(folder) == DESCRIPTION.files


def test_many_at_once(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")

    def use(_: int) -> bool:
        with unpacked(lambda: Path(bundle.path), bundle.id, tmp_path / "cache") as folder:
            found = content(folder)
            rewrite(folder)
            return found == DESCRIPTION.files

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(40)))


def test_several_processes_at_once(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    program = (
        "import sys; from pathlib import Path; from aero_core.bundle import unpacked\n"
        "for _ in range(20):\n"
        "    with unpacked(lambda: Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])) as folder:\n"
        "        assert (folder / 'lib/tools.py').read_bytes() == b'X = 1\\n'\n"
        "        (folder / 'lib/tools.py').write_bytes(b'X = 2\\n')"
    )
    arguments = [sys.executable, "-c", program, bundle.path, bundle.id, str(tmp_path / "cache")]
    running = [subprocess.Popen(arguments) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]


def test_a_damaged_archive(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    with Path(bundle.path).open("ab") as file:
        file.write(b"x")
    with pytest.raises(StoreError) as caught:
        open_bundle(Path(bundle.path), bundle.id, tmp_path / "cache")
    assert str(caught.value) == f"the code in {bundle.path} is damaged: it is not {bundle.id}"
    assert list((tmp_path / "cache").rglob("*.py")) == []


def test_a_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_bundle(tmp_path / "b.zip", "sha256:" + "0" * 64, tmp_path / "cache")
    assert str(caught.value) == f"cannot unpack {tmp_path}/b.zip: No such file or directory"


def test_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(b"hello")
    with pytest.raises(StoreError, match="is no bundle: File is not a zip file"):
        open_bundle(path, "sha256:" + hashlib.sha256(b"hello").hexdigest(), tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*.py")) == []


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil", "C:/evil", "a/.."])
def test_names_that_lead_outside(tmp_path: Path, name: str) -> None:
    path, bundle_id = zip_of(tmp_path / "b.zip", {"flows.py": b"", name: b"evil"})
    with pytest.raises(StoreError) as caught:
        open_bundle(path, bundle_id, tmp_path / "deep" / "cache")
    assert str(caught.value) == f"the code in {path} names {name!r}, outside itself"
    assert not caught.value.retryable
    assert list(tmp_path.rglob("*evil*")) == []
    assert list((tmp_path / "deep").rglob("*.py")) == []


def test_links_in_an_archive_are_plain_files(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    (tmp_path / "b.zip").write_bytes(target.getvalue())
    bundle_id = "sha256:" + hashlib.sha256(target.getvalue()).hexdigest()
    folder = open_bundle(tmp_path / "b.zip", bundle_id, tmp_path / "cache")
    assert not (folder / "link").is_symlink()
    assert (folder / "link").read_text() == "/etc/passwd"


@pytest.mark.parametrize("bundle_id", ["", "sha256:", "sha256:../x", "md5:" + "0" * 64, "0" * 64])
def test_ids_that_are_none(tmp_path: Path, bundle_id: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_bundle(tmp_path / "b.zip", bundle_id, tmp_path)
    assert str(caught.value) == (f"{bundle_id!r} is no bundle's id: expected sha256:<64 hex digits>")
