"""State, settings and plugins that cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from aero_core import api
from aero_core.errors import NotFound
from tests.e2e.conftest import fill
from tests.e2e.program import AERO, Done, Project, at_once, one_line, refused, without_override, without_search


def test_a_corrupt_database(counting: Project) -> None:
    counting.aero("run", "flows.py")
    file = counting.folder / ".aero" / "catalog.sqlite"
    kept = file.read_bytes()
    file.write_bytes(b"no database at all, " * 500)
    said = counting.refuses("list", "data", code=4)
    assert f"the catalog {file} is damaged" in said
    assert "restore it from a backup" in said
    counting.refuses("run", "flows.py", code=4)
    done = counting.aero("doctor", code=4)
    assert "is damaged" in done.out
    file.write_bytes(kept)
    assert counting.aero("get", "notes", "-o", "-").out == "one\ntwo\n"
    counting.aero("run", "flows.py")


def test_an_emptied_database_beside_versions(counting: Project) -> None:
    counting.aero("run", "flows.py")
    file = counting.folder / ".aero" / "catalog.sqlite"
    kept = file.read_bytes()
    file.write_bytes(b"")
    for command in (("list", "data"), ("run", "flows.py"), ("apply", "flows.py")):
        said = counting.refuses(*command, code=4)
        assert f"the catalog {file} is empty" in said
        assert "restore it from a backup" in said
    assert "is empty" in counting.aero("doctor", code=4).out
    file.write_bytes(kept)
    assert counting.aero("get", "notes", "-o", "-").out == "one\ntwo\n"


def test_a_database_of_a_newer_release(counting: Project) -> None:
    counting.aero("apply", "flows.py")
    file = counting.folder / ".aero" / "catalog.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    said = counting.refuses("run", "flows.py", code=4)
    assert "was written by a newer AERO" in said
    assert "`pip install --upgrade aero-core`" in said


def test_user_settings_that_cannot_be_reached_are_none(counting: Project) -> None:
    folder = counting.home / ".config" / "aero"
    folder.mkdir(parents=True)
    (folder / "aero.toml").write_text("no settings")
    for locked in (folder, folder.parent):
        locked.chmod(0)
        done = counting.call([str(AERO), "-v", "apply", "flows.py"], before=without_search)
        assert done.code == 0, done
        assert f"{folder / 'aero.toml'} is passed over, it cannot be reached: Permission denied" in done.err
        done = counting.call([str(AERO), "list", "data"], before=without_search)
        assert (done.code, done.err) == (0, ""), done
        locked.chmod(0o700)
    (folder / "aero.toml").chmod(0)
    done = counting.call([str(AERO), "list", "data"], before=without_search)
    assert f"{folder / 'aero.toml'} cannot be read: Permission denied" in refused(done)


def test_a_project_below_a_folder_that_may_not_be_entered(counting: Project) -> None:
    counting.aero("apply", "flows.py")
    state = counting.folder / ".aero"
    state.chmod(0)
    done = counting.call([str(AERO), "list", "data"], before=without_search)
    assert f"the state folder {state} cannot be written" in refused(done, 4)
    counting.folder.chmod(0)
    done = counting.call([str(AERO), "list", "data"], before=without_search)
    assert "no aero.toml and no .aero folder in" in refused(done, 3)
    counting.folder.chmod(0o700)
    state.chmod(0o700)


def test_a_state_folder_that_is_read_only(counting: Project) -> None:
    counting.aero("run", "flows.py")
    state = counting.folder / ".aero"
    state.chmod(0o555)
    for words in (["run", "flows.py"], ["list", "data"]):
        done = counting.call([str(AERO), *words], before=without_override)
        assert done.code == 4, done
        said = one_line(done.err, "Error: ")
        assert f"the state folder {state} cannot be written" in said
        assert "--state" in said
    state.chmod(0o700)
    counting.aero("run", "flows.py")


SETTINGS = {
    "x = [": "aero.toml is not TOML",
    "projekt = 'x'": "projekt",
    "[limits]\nruns = 'many'": "runs",
    "[limits]\nruns = 0": "[limits] runs is 0: expected a whole number of at least 1",
    "profile = 'team'": "no profile is named 'team': add [profiles.team]",
    "[profiles.default]\nstore = 'far'": "no store is named 'far': add [stores.far]",
    "[profiles.default]\nexecutor = 'slurm'": "no plugin serves executor 'slurm'",
    "[stores.far]\nurl = 7": "[stores.far] url is 7: expected a URL",
    "[plugins]\nmodules = 'site.py'": "modules",
    "[plugins.http]\nretires = 3": "retires",
    "[plugins.local]\nlog_limit = 'much'": "[plugins.local] log_limit is 'much': expected bytes above 0",
    "[plugins.sql]\nbusy_timeout = 'long'": "busy_timeout",
    "[plugins.sql]\nbusy_timeout = inf": "[plugins.sql] busy_timeout is inf: expected above 0",
    "[plugins.sql]\nlease = 1e12": "[plugins.sql] lease is 1e+12: expected 45 to 2e+06 seconds",
    "[plugins.sql]\nlease = nan": "[plugins.sql] lease is nan: expected 45 to 2e+06 seconds",
    'state = "a\\u0000b"': "no path holds a NUL character",
    '[stores.far]\nurl = "a\\u0000b"': "no path holds a NUL character",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What `aero` says to each `aero.toml`."""
    folder = tmp_path_factory.mktemp("settings")

    def run(text: str) -> Done:
        project = Project(folder / str(list(SETTINGS).index(text)))
        fill(project)
        project.write("aero.toml", text + "\n")
        done = project.call([str(AERO), "run", "flows.py"])
        assert done == project.call([str(AERO), "apply", "flows.py", "--dry-run"])
        assert not (project.folder / ".aero").exists()
        return done

    return at_once(run, SETTINGS)


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_that_cannot_be(told: dict[str, Done], text: str) -> None:
    assert SETTINGS[text] in refused(told[text])


def test_a_plugin_that_cannot_be_imported(counting: Project) -> None:
    counting.write("aero.toml", '[plugins]\nmodules = ["site_adapters.py"]\n')
    counting.write("site_adapters.py", "import no_such_thing\n")
    warning = (
        "warn  plugin site_adapters is left out: ModuleNotFoundError: No module named 'no_such_thing' "
        "(`aero doctor` checks all)"
    )
    for words in (["apply", "flows.py", "--dry-run"], ["apply", "flows.py"], ["run", "flows.py"]):
        done = counting.aero(*words)
        assert done.err.splitlines()[0] == warning
    assert "lines@1" in done.out
    plugins = {item["name"]: item for item in counting.json("plugins", "list")}
    assert plugins["site_adapters"]["status"] == "broken"
    assert "No module named 'no_such_thing'" in plugins["site_adapters"]["reason"]
    out = counting.out("doctor", code=4)
    assert "plugin site_adapters failed ModuleNotFoundError: No module named" in out
    counting.write("site_adapters.py", "x = 1\n")
    assert "site_adapters" in counting.out("doctor")


SITE = """\
import hashlib
from pathlib import Path

import click

from aero_core.hookspecs import hookimpl
from aero_core.models import Artifact, Fetched, Family, Provides


@hookimpl
def aero_provides():
    return [Provides(Family.FETCH, "lab", machine_local=True)]


@hookimpl
def aero_fetch(member, target, previous, expected, progress):
    content = member.url.encode()
    Path(target).write_bytes(content)
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    return Fetched(Artifact(str(target), checksum, len(content), "text/plain", None, ".txt"))


@hookimpl
def aero_commands(group):
    group.add_command(click.Command("lab", callback=lambda: click.echo("in the lab")))
"""


def test_a_site_module_serves_like_any_plugin(project: Project) -> None:
    project.write("aero.toml", '[plugins]\nmodules = ["site_adapters.py"]\n')
    (project.folder / "site_adapters.py").write_text(SITE)
    project.write("flows.py", 'from aero_core import ingest\ningest("x", url="lab://bench/1")\n')
    assert "x@1" in project.out("run", "flows.py")
    assert project.aero("get", "x", "-o", "-").out == "lab://bench/1"
    assert "site_adapters" in project.out("plugins", "list")
    assert project.aero("lab").out == "in the lab\n"
    assert "No such command 'labs'" in project.refuses("labs")


def test_disabled_plugins_are_read_first(counting: Project) -> None:
    env = {"AERO_DISABLE_PLUGINS": "*"}
    before = counting.tree()
    done = counting.aero("plugins", "list", env=env)
    assert done.out.count("disabled") == 3
    said = counting.refuses("run", "flows.py", code=4, env=env)
    assert "no plugin serves" in said
    assert "disabled: " in said
    assert counting.tree() == before


def test_a_mistyped_state_folder_is_not_made(counting: Project, tmp_path: Path) -> None:
    counting.aero("run", "flows.py")
    before = counting.tree()
    project, state = counting.folder, counting.folder / ".aero"
    for words in (("list", "data"), ("why", "lines"), ("get", "lines", "-o", "-"), ("pause", "lines"), ("up",)):
        said = counting.refuses("--state", project, *words, code=3)
        assert said == f"no state folder at {project}: did you mean {state}?"
        said = counting.refuses(*words, code=3, env={"AERO_STATE": str(tmp_path / "typo")})
        assert said == f"no state folder at {tmp_path / 'typo'}: name the one that `aero run` made"
    assert "no state folder at" in counting.out("--state", project, "doctor", code=4)
    with api.open(state=project) as aero, pytest.raises(NotFound, match="did you mean"):
        aero.data("lines")
    assert counting.tree() == before
    assert not (tmp_path / "typo").exists()


def test_a_folder_of_other_things_becomes_no_state_folder(counting: Project, tmp_path: Path) -> None:
    (counting.folder / ".gitignore").write_text("build\n")
    before = counting.tree()
    for words in (("apply", "flows.py"), ("run", "flows.py"), ("up", "flows.py")):
        said = counting.refuses("--state", ".", *words, code=4)
        assert said == (
            f"the folder {counting.folder} holds other things than AERO's state: "
            "name a new or empty folder with --state"
        )
    assert counting.tree() == before
    counting.aero("--state", tmp_path / "new", "run", "flows.py")
    assert "lines" in counting.out("--state", tmp_path / "new", "list", "data")


def test_a_catalog_elsewhere_needs_no_state_folder_yet(counting: Project, tmp_path: Path) -> None:
    counting.write("aero.toml", f'[profiles.default]\ncatalog = "sqlite:///{tmp_path}/shared.sqlite"\n')
    counting.aero("apply", "flows.py")
    assert "lines" in counting.out("--state", tmp_path / "fresh", "list", "data")
    assert (tmp_path / "fresh" / ".gitignore").read_text() == "*\n"
    assert "lines" in counting.out("--state", tmp_path / "fresh", "list", "data")


def test_a_state_folder_that_was_there_becomes_private(counting: Project) -> None:
    state = counting.folder / ".aero"
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    counting.aero("run", "flows.py")
    for folder in (state, *(path for path in state.iterdir() if path.is_dir())):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    # Afterwards it is the owner's to open.
    state.chmod(0o750)
    counting.aero("run", "flows.py")
    assert state.stat().st_mode & 0o777 == 0o750
    assert (state / "store").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["logs", "engines", "scratch"])
def test_a_folder_of_the_engine_that_is_read_only(counting: Project, name: str) -> None:
    counting.aero("apply", "flows.py")
    folder = counting.folder / ".aero" / name
    folder.chmod(0o500)
    for words in (["run", "flows.py"], ["up"]):
        done = counting.call([str(AERO), *words], before=without_override)
        assert refused(done, 4) == f"the folder {folder} cannot be written by user {os.geteuid()}: make it writable"
    folder.chmod(0o700)
    counting.aero("run", "flows.py")


FILLING = """\
    from pathlib import Path

    from aero_core import analysis, ingest

    notes = ingest("notes", url=Path(__file__).with_name("notes.txt"))


    @analysis(inputs=[notes])
    def much(notes):
        with open("much.txt", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
"""
SMALL_DISK = "mkdir -p disk && mount -t tmpfs -o size=3m tmpfs disk && cp flows.py notes.txt disk && cd disk"


@pytest.fixture
def on_a_small_disk(project: Project) -> Callable[[str], Done]:
    """Runs a shell's commands in a folder that is a disk of 3 MB, which needs a mount of one's own."""
    project.write("flows.py", FILLING)
    project.write("notes.txt", "one\n")
    if shutil.which("unshare") is None or project.call("unshare -rm mount -t tmpfs tmpfs .").code:
        pytest.skip("this system lets nobody mount")
    return lambda commands: project.call(["unshare", "-rm", "sh", "-c", f"{SMALL_DISK} && {{ {commands}; }}"])


def test_a_run_that_fills_the_disk_is_recorded_as_failed(on_a_small_disk: Callable[[str], Done]) -> None:
    done = on_a_small_disk(f"{AERO} run flows.py; {AERO} list run")
    assert done.code == 0, done
    assert "No space left on device" in done.out
    assert [line for line in done.out.splitlines() if " much " in line and "failed" in line], done


def test_commands_on_a_full_disk_say_so(on_a_small_disk: Callable[[str], Done]) -> None:
    start = f"{AERO} apply flows.py >&2 && cat /dev/zero > filler 2> /dev/null"
    done = on_a_small_disk(f"{start}; {AERO} list data 2>&1")
    assert done.code == 4, done
    assert one_line(done.out, "Error: the disk of the catalog ").endswith(" is full: make room")
    done = on_a_small_disk(f"{start}; {AERO} doctor")
    assert done.code == 4, done
    assert "0 B free" in done.out
    (line,) = (line for line in done.out.splitlines() if "0 B free" in line)
    assert line.split()[:2] == ["state", "failed"]
