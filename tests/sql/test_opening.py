"""What may be wrong with the file of a SQLite catalog, and what is right with it."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from aero_core.errors import CatalogError
from aero_core.testing.catalog_world import World, source
from aero_sql.catalog import SqlCatalog
from aero_sql.database import refuse_network

OPEN = """
import sys
from aero_sql import SqlPlugin

try:
    SqlPlugin().aero_open_catalog(sys.argv[1]).close()
    print("open")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def made(file: Path) -> Path:
    catalog = SqlCatalog(f"sqlite:///{file}")
    World(catalog).make_data("a", versions=3)
    catalog.close()
    return file


def refusal(file: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CatalogError) as caught:
        SqlCatalog(f"sqlite:///{file}").close()
    message = str(caught.value)
    assert "\n" not in message
    assert str(file) in message
    return message


def as_nobody(folder: Path, name: str) -> str:
    """What opening a catalog prints for a user who may nothing, also when the tests run as root."""
    drop = ""
    if os.geteuid() == 0:
        for step in folder.parents:
            if not step.stat().st_mode & 0o001:
                step.chmod(step.stat().st_mode | 0o011)
        drop = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    # Imported before: the installed packages may be root's alone.
    ready = "import aero_sql.catalog, aero_sql.migrate, sqlalchemy.dialects.sqlite.pysqlite\n"
    done = subprocess.run(
        [sys.executable, "-c", ready + drop + OPEN, f"sqlite:///{folder}/{name}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


def test_files_are_for_their_owner_alone(made: Path) -> None:
    catalog = SqlCatalog(f"sqlite:///{made}")
    World(catalog).register(source("b"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    catalog.close()


def test_missing_folders_are_made(tmp_path: Path) -> None:
    SqlCatalog(f"sqlite:///{tmp_path}/new/er/catalog.sqlite").close()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("name", ["with blank", "ümläut", "a#b?c=d", "a%20b"])
def test_odd_paths(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "catalog.sqlite"
    SqlCatalog("sqlite:///" + str(path).replace("%", "%25")).close()
    assert path.exists()


@pytest.mark.parametrize("url", ["sqlite:", "sqlite://", "sqlite:///", "sqlite3:///x", "x"])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(CatalogError, match="sqlite:///"):
        SqlCatalog(url)


@pytest.mark.parametrize("content", [b"not a database " * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "backup" in refusal(file)
    assert file.read_bytes() == content


def test_a_file_that_is_cut_short(made: Path) -> None:
    made.write_bytes(made.read_bytes()[: 3 * 4096])
    assert "backup" in refusal(made)


def test_damage_within_is_found_by_the_check(made: Path) -> None:
    content = bytearray(made.read_bytes())
    content[8 * 4096 : -4096] = b"\xa5" * (len(content) - 9 * 4096)
    made.write_bytes(content)
    try:
        catalog = SqlCatalog(f"sqlite:///{made}")
    except CatalogError:
        return
    assert catalog.check() != []
    catalog.close()


def test_a_database_of_a_newer_release(made: Path) -> None:
    with sqlite3.connect(made) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert "newer" in refusal(made)


def test_a_database_of_somebody_else(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE thing (id INTEGER)")
    connection.close()
    before = file.read_bytes()
    assert "other" in refusal(file)
    assert file.read_bytes() == before


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refusal(tmp_path / "file" / "catalog.sqlite")


def test_a_folder_in_place_of_the_file(file: Path) -> None:
    file.mkdir()
    refusal(file)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_folder_that_takes_no_files() -> None:
    refusal(Path("/proc/catalog.sqlite"))


def test_a_folder_or_file_that_may_not_be_written(made: Path) -> None:
    made.chmod(0o444)
    made.parent.chmod(0o555)
    try:
        for name in (made.name, "new.sqlite"):
            said = as_nobody(made.parent, name)
            assert said.startswith("CatalogError")
            assert "permissions" in said
            assert said.count("\n") == 1
    finally:
        made.parent.chmod(0o700)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "gpfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x /net/my\\040home {kind} rw 0 0\n")
    with pytest.raises(CatalogError, match=rf"{kind}.*aero\.toml"):
        refuse_network(Path("/net/my home/.aero/catalog.sqlite"), mounts)
    refuse_network(Path("/net/my homes/.aero/catalog.sqlite"), mounts)


def test_a_local_disk_below_a_network_one_is_taken(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("server:/x / nfs rw 0 0\n/dev/vda /local ext4 rw 0 0\n")
    refuse_network(Path("/local/catalog.sqlite"), mounts)
    refuse_network(Path("/local/catalog.sqlite"), tmp_path / "no such file")


def test_a_link_to_a_network_file_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "away")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {tmp_path}/away nfs rw 0 0\n")
    with pytest.raises(CatalogError, match="nfs"):
        refuse_network(tmp_path / "near" / "catalog.sqlite", mounts)


def test_many_processes_open_a_new_database_at_once(file: Path) -> None:
    works = [
        subprocess.Popen([sys.executable, "-c", OPEN, f"sqlite:///{file}"], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    assert [work.communicate(timeout=60)[0] for work in works] == ["open\n"] * 6
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchall() == [(1,)]
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    connection.close()


def test_an_up_to_date_database_opens_without_alembic(made: Path) -> None:
    code = f"{OPEN}\nprint('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, f"sqlite:///{made}"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "open\nFalse\n"


def test_importing_the_plugin_loads_no_sqlalchemy() -> None:
    code = "import sys, aero_sql; print({'sqlalchemy', 'alembic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n"


def test_opening_again_leaves_locks_alone(made: Path) -> None:
    """Closing any descriptor of a file drops all of a process's locks on it.

    Without its lock a catalog seems gone to other processes: the next one that closes the database
    removes the log that this one still writes to.
    """
    first = SqlCatalog(f"sqlite:///{made}")
    World(first).make("a", "before")
    SqlCatalog(f"sqlite:///{made}").close()
    subprocess.run([sys.executable, "-c", OPEN, f"sqlite:///{made}"], check=True, timeout=60)
    World(first).make("a", "after")
    seen = "import sys; from aero_sql.catalog import SqlCatalog; print(SqlCatalog(sys.argv[1]).data('a').latest)"
    done = subprocess.run([sys.executable, "-c", seen, f"sqlite:///{made}"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "5\n"
    assert made.with_name(f"{made.name}-wal").exists()
    first.close()


def test_a_catalog_that_is_locked_for_long_says_so(made: Path) -> None:
    catalog = SqlCatalog(f"sqlite:///{made}", busy_timeout=0.05)
    other = sqlite3.connect(made, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CatalogError, match="locked") as caught:
        World(catalog).register(source("b"))
    assert caught.value.retryable
    other.execute("ROLLBACK")
    World(catalog).register(source("b"))
    other.close()
    catalog.close()


def test_a_closed_catalog_says_so(made: Path) -> None:
    catalog = SqlCatalog(f"sqlite:///{made}")
    catalog.close()
    catalog.close()
    with pytest.raises(CatalogError, match="closed"):
        catalog.list_data()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_threads_that_end_close_their_connections(made: Path) -> None:
    catalog = SqlCatalog(f"sqlite:///{made}")
    for _ in range(5):
        thread = Thread(target=catalog.list_data)
        thread.start()
        thread.join()
    gc.collect()
    # SQLite keeps one more for later, rather than drop the locks of another connection by closing it.
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [link.readlink() for link in links].count(made) <= 2
    catalog.close()
