"""Archives: equal for equal code, verified, unpacked once and never outside their folder."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from aero_core.bundle import Description, pack, unpack, unpacked
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


def test_unpacking_brings_the_files_back_once(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    cache = tmp_path / "cache" / "code"
    assert unpacked(cache, bundle.id) is None
    folder = unpack(Path(bundle.path), bundle.id, cache)
    assert folder == unpacked(cache, bundle.id)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == set(DESCRIPTION.files)
    assert all((folder / name).read_bytes() == DESCRIPTION.files[name] for name in found)
    Path(bundle.path).unlink()
    assert unpack(Path(bundle.path), bundle.id, cache) == folder
    assert names(cache) == [bundle.id.partition(":")[2]]


def test_many_at_once(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: unpack(Path(bundle.path), bundle.id, cache), range(40)))
    assert len(folders) == 1
    assert len(names(cache)) == 1


def test_several_processes_at_once(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    program = (
        "import sys; from pathlib import Path; from aero_core.bundle import unpack\n"
        "print(unpack(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))"
    )
    arguments = [sys.executable, "-c", program, bundle.path, bundle.id, str(tmp_path / "cache")]
    running = [subprocess.Popen(arguments, stdout=subprocess.PIPE) for _ in range(4)]
    answers = {process.communicate(timeout=60)[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(answers) == 1
    assert len(names(tmp_path / "cache")) == 1


def test_a_damaged_archive(tmp_path: Path) -> None:
    bundle = pack(DESCRIPTION, tmp_path / "b.zip")
    with Path(bundle.path).open("ab") as file:
        file.write(b"x")
    with pytest.raises(StoreError) as caught:
        unpack(Path(bundle.path), bundle.id, tmp_path / "cache")
    assert str(caught.value) == f"the code in {bundle.path} is damaged: it is not {bundle.id}"
    assert not (tmp_path / "cache").exists()


def test_a_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        unpack(tmp_path / "b.zip", "sha256:" + "0" * 64, tmp_path / "cache")
    assert str(caught.value) == f"cannot unpack {tmp_path}/b.zip: No such file or directory"


def test_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(b"hello")
    with pytest.raises(StoreError, match="is no bundle: File is not a zip file"):
        unpack(path, "sha256:" + hashlib.sha256(b"hello").hexdigest(), tmp_path / "cache")
    assert names(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil", "C:/evil", "a/.."])
def test_names_that_lead_outside(tmp_path: Path, name: str) -> None:
    path, bundle_id = zip_of(tmp_path / "b.zip", {"flows.py": b"", name: b"evil"})
    with pytest.raises(StoreError) as caught:
        unpack(path, bundle_id, tmp_path / "deep" / "cache")
    assert str(caught.value) == f"the code in {path} names {name!r}, outside itself"
    assert not caught.value.retryable
    assert list(tmp_path.rglob("*evil*")) == []
    assert names(tmp_path / "deep" / "cache") == []


def test_links_in_an_archive_are_plain_files(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    (tmp_path / "b.zip").write_bytes(target.getvalue())
    bundle_id = "sha256:" + hashlib.sha256(target.getvalue()).hexdigest()
    folder = unpack(tmp_path / "b.zip", bundle_id, tmp_path / "cache")
    assert not (folder / "link").is_symlink()
    assert (folder / "link").read_text() == "/etc/passwd"


@pytest.mark.parametrize("bundle_id", ["", "sha256:", "sha256:../x", "md5:" + "0" * 64, "0" * 64])
def test_ids_that_are_none(tmp_path: Path, bundle_id: str) -> None:
    with pytest.raises(StoreError) as caught:
        unpack(tmp_path / "b.zip", bundle_id, tmp_path)
    assert str(caught.value) == (f"{bundle_id!r} is no bundle's id: expected sha256:<64 hex digits>")
