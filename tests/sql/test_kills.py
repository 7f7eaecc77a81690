"""A process that is killed between any two instructions leaves a whole record."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from aero_core.models import RunState
from aero_core.testing.catalog_world import OTHER, PLENTY, World
from aero_sql.catalog import SqlCatalog

COMMIT = """
import sys
from itertools import count
from aero_sql.catalog import SqlCatalog
from aero_core.models import PolicyEnum
from aero_core.testing.catalog_world import World, analysis, source

world = World(SqlCatalog(sys.argv[1]))
world.register(source("x", policy=PolicyEnum.NONE), analysis("a", "x"), analysis("b", "a"))
for turn in count():
    world.make("x", f"{sys.argv[2]} {turn}")
    for name in "ab":
        world.commit(world.claim(name), f"{sys.argv[2]} {turn}")
    print(turn, flush=True)
"""


def commit_and_be_killed(url: str, turn: int) -> int:
    """Let a process commit until it is killed; the number of whole cycles that it told of."""
    process = subprocess.Popen([sys.executable, "-c", COMMIT, url, str(turn)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(random.Random(turn).randint(1, 6)):
        told = int(process.stdout.readline())
    # Wherever it is by now.
    process.kill()
    process.communicate(timeout=60)
    return told + 1


@pytest.mark.parametrize("turn", range(4))
def test_a_kill_in_the_middle_leaves_a_whole_record(tmp_path: Path, turn: int) -> None:
    url = f"sqlite:///{tmp_path}/catalog.sqlite"
    told = commit_and_be_killed(url, turn)
    catalog = SqlCatalog(url)
    world = World(catalog)
    assert catalog.check() == []
    for name in "xab":
        latest = world.latest(name) or 0
        assert latest >= told
        assert world.numbers(name) == list(range(latest, 0, -1))
    done = world.runs(state=RunState.SUCCEEDED)
    assert sum(len(run.generated) for run in done) == sum(world.latest(name) or 0 for name in "xab")
    records = catalog.outbox(0, 10**6)
    assert [record.position for record in records] == list(range(1, len(records) + 1))
    assert sum(record.kind == "committed" for record in records) == len(done)
    catalog.close()


def test_what_a_killed_process_left_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.sqlite"
    commit_and_be_killed(url, 9)
    catalog = SqlCatalog(url)
    world = World(catalog)
    for holder in catalog.holders():
        catalog.release(holder.id)
    while claims := catalog.begin(OTHER, PLENTY):
        for claim in claims:
            world.commit(claim, f"after the kill {claim.run.id}")
    numbers = {name: world.latest(name) for name in "xab"}
    for name in "ab":
        (why,) = catalog.explain(world.flow(name).id)
        assert why.inputs[0].consumed == why.inputs[0].latest
    assert seen_by_another(world, url) == numbers
    catalog.close()


def seen_by_another(world: World, url: str) -> dict[str, int | None]:
    """The latest numbers as another catalog sees them."""
    other = SqlCatalog(url)
    found = {name: World(other).latest(name) for name in "xab"}
    other.close()
    return found
