"""Contract of a catalog's lookups, outbox, collecting and settings."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from aero_core.catalog import Catalog
from aero_core.errors import CommitConflict, InvalidValue, NotFound
from aero_core.models import (
    Commit,
    Cursor,
    FlowState,
    OutboxRecord,
    PolicyEnum,
    RunState,
    Standing,
)
from aero_core.testing.catalog_world import (
    ASKED,
    World,
    analysis,
    at_once,
    check,
    content,
    every,
    function,
    source,
)


class LookingContract:
    """What can be looked up, and the small services beside."""

    # One thing

    def test_data_by_id_prefix_and_name(self, world: World) -> None:
        world.make_data("a", versions=2)
        data = world.data("a")
        assert (data.name, data.latest) == ("a", 2)
        assert world.catalog.data(data.id) == world.catalog.data(data.id[:8]) == data

    def test_what_is_not_found_names_the_nearest(self, world: World) -> None:
        world.register(source("hospital_cases"))
        with pytest.raises(NotFound, match=r"'hospital_case'.*hospital_cases"):
            world.catalog.data("hospital_case")
        with pytest.raises(NotFound, match=r"'hospital_case'.*hospital_cases"):
            world.catalog.flow("hospital_case")
        with pytest.raises(NotFound, match="0123abcd"):
            world.catalog.run("0123abcd")

    def test_an_unknown_id_is_not_found(self, world: World) -> None:
        nobody = "00000000-0000-4000-8000-000000000000"
        for look in (
            lambda: world.catalog.explain(nobody),
            lambda: world.catalog.queue(nobody, ASKED, "ada"),
            lambda: world.catalog.cancel(nobody, "ada"),
            lambda: world.catalog.set_flow_state(nobody, FlowState.PAUSED, "ada"),
            lambda: world.catalog.commit(Commit(nobody, 1)),
        ):
            with pytest.raises(NotFound, match=nobody):
                look()

    @pytest.mark.parametrize("ref", ["", "%", "_", "a' OR 1=1 --", "\x00", "é" * 300, "g" * 8])
    def test_odd_references_are_not_found(self, world: World, ref: str) -> None:
        world.register(source("a"))
        for look in (world.catalog.data, world.catalog.flow, world.catalog.run):
            with pytest.raises(NotFound):
                look(ref)

    def test_prefixes_have_at_least_four_characters_and_mean_one(self, world: World) -> None:
        world.register(source("a"))
        data = world.data("a")
        assert world.catalog.data(data.id[:4]) == data
        with pytest.raises(NotFound):
            world.catalog.data(data.id[:3])

    def test_flow_by_id_prefix_and_name(self, world: World) -> None:
        world.register(source("a"))
        flow = world.flow("a")
        assert world.catalog.flow(flow.id) == world.catalog.flow(flow.id[:8]) == flow

    def test_a_flow_name_that_several_bear_is_refused(self, world: World) -> None:
        world.register(analysis("a", outputs=()))
        world.register(analysis("a", outputs=(), origin="other.py"))
        with pytest.raises(InvalidValue, match=r"other\.py"):
            world.catalog.flow("a")
        world.register(origins=("other.py",), prune=True)
        assert world.flow("a").spec.origin == "flows.py"

    def test_run_by_id_and_prefix(self, world: World) -> None:
        world.register(source("a"))
        (run,) = world.runs("a")
        assert world.catalog.run(run.id) == world.catalog.run(run.id[:8]) == run

    def test_version_by_number(self, world: World) -> None:
        world.make_data("a", versions=2)
        data = world.data("a")
        assert world.catalog.version(data.id, 1).number == 1
        for number in (0, -1, 3, 10**30):
            with pytest.raises(NotFound, match="a@"):
                world.catalog.version(data.id, number)

    def test_latest_as_of_a_time(self, world: World) -> None:
        world.make_data("a", "b", versions=3)
        data_id = world.data("a").id
        for number in (1, 2, 3):
            moment = world.catalog.version(data_id, number).available_at
            assert moment is not None
            found = world.catalog.latest(data_id, moment)
            assert found is not None
            assert found.number == number
            before = world.catalog.latest(data_id, moment - timedelta(microseconds=1))
            assert (before and before.number) == (number - 1 or None)

    def test_latest_is_current(self, world: World) -> None:
        world.make_data("a", versions=1)
        world.ask("a")
        claim = world.claim("a")
        held = content(claim.flow.spec.outputs[0], "odd", held="why")
        world.commit(claim, versions=(held,))
        data_id = world.data("a").id
        for moment in (None, world.catalog.now()):
            latest = world.catalog.latest(data_id, moment)
            assert latest is not None
            assert latest.number == 1
        newest = world.catalog.versions(data_id).items[0]
        assert (newest.number, newest.standing) == (2, Standing.HELD)

    def test_latest_of_nothing_is_none(self, world: World) -> None:
        world.make_data("a")
        assert world.catalog.latest(world.data("a").id) is None
        assert world.data("a").latest is None

    # Pages

    def test_data_in_pages_by_name(self, world: World) -> None:
        names = sorted(["b", "a", "c-1", "c.x", "c_2", "A", "d"])
        world.register(*(source(name) for name in names))
        found = every(lambda after: world.catalog.list_data(after, limit=2))
        assert [data.name for data in found] == names
        flow = world.flow("c.x")
        assert [d.name for d in world.catalog.list_data(flow_id=flow.id).items] == ["c.x"]

    def test_a_full_last_page_has_no_next(self, world: World) -> None:
        world.register(source("a"), source("b"))
        assert world.catalog.list_data(limit=2).next is None
        assert world.catalog.list_flows(limit=2).next is None

    def test_flows_in_pages_by_name(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("b", "x"), analysis("a", "x", origin="other.py"), analysis("c"))
        world.catalog.set_flow_state(world.flow("b").id, FlowState.DISABLED, "ada")
        found = every(lambda after: world.catalog.list_flows(after, limit=1))
        assert [flow.name for flow in found] == ["a", "b", "c", "x"]
        of_origin = world.catalog.list_flows(origin="other.py").items
        assert [flow.name for flow in of_origin] == ["a"]
        of_data = world.catalog.list_flows(data_id=world.data("x").id).items
        assert [flow.name for flow in of_data] == ["a", "b"]

    def test_versions_in_pages_either_way(self, world: World) -> None:
        world.make_data("a", versions=5)
        data_id = world.data("a").id
        for newest_first, numbers in ((True, [5, 4, 3, 2, 1]), (False, [1, 2, 3, 4, 5])):
            found = every(
                lambda after, n=newest_first: world.catalog.versions(data_id, after, 2, n)  # type: ignore[misc]
            )
            assert [version.number for version in found] == numbers

    def test_runs_in_pages_newest_first(self, world: World) -> None:
        world.register(source("a"), source("b"))
        ids = [world.make(name, f"{turn}").run.id for turn in range(3) for name in "ab"]
        found = every(lambda after: world.catalog.list_runs(after, limit=4))
        assert [run.id for run in found] == ids[::-1]
        flow_id = world.flow("a").id
        of_flow = every(lambda after: world.catalog.list_runs(after, limit=1, flow_id=flow_id))
        assert [run.id for run in of_flow] == ids[::-1][1::2]

    def test_runs_in_some_states(self, world: World) -> None:
        world.register(source("a"), source("b"), source("c"), source("d"))
        world.commit(world.claim("a"), "one")
        world.fail(world.claim("b"))
        world.claim("c")
        for states, names in (
            ([RunState.FAILED], ["b"]),
            ([RunState.QUEUED, RunState.RUNNING], ["d", "c"]),
            ([RunState.SUCCEEDED, RunState.FAILED], ["b", "a"]),
        ):
            page = world.catalog.list_runs(states=states)
            assert sorted(run.flow for run in page.items) == sorted(names)

    def test_readers_of_a_version_newest_first(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"), analysis("b", "x"))
        for name in "ab":
            world.commit(world.claim(name), name)
        world.make("x", "second")
        world.commit(world.claim("a"), "again")
        x = world.data("x").id
        found = every(lambda after: world.catalog.readers(x, 1, after, limit=1))
        assert [run.flow for run in found] == ["b", "a"]
        assert [run.flow for run in world.catalog.readers(x, 2).items] == ["a"]

    def test_members_in_pages_by_key(self, world: World) -> None:
        urls = [f"https://example.org/{n}" for n in range(3)]
        world.register(source("a", *urls))
        world.commit(world.claim("a"), members=tuple(check(url, url) for url in urls))
        data_id = world.data("a").id
        found = every(lambda after: world.catalog.members(data_id, after, limit=2))
        assert [member.key for member in found] == urls

    # The outbox

    def test_commits_are_recorded_in_order(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        world.commit(world.claim("a"), "one")
        records = world.catalog.outbox(0)
        assert [record.kind for record in records] == [
            "registered",
            "committed",
            "registered",
            "committed",
        ]
        positions = [record.position for record in records]
        assert positions == sorted(set(positions))
        assert world.catalog.outbox(positions[1]) == records[2:]
        assert world.catalog.outbox(0, limit=2) == records[:2]

    def test_a_record_is_complete(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        claim = world.claim("a")
        (version,) = world.commit(claim, "one").versions
        record = world.catalog.outbox(0)[-1]
        text = json.dumps(dict(record.payload))
        for part in (
            claim.run.id,
            claim.flow.id,
            function().digest,
            function().bundle_id,
            str(version.checksum),
            version.location,
            world.data("x").id,
            version.data_id,
        ):
            assert part in text

    def test_an_unchanged_analysis_is_recorded_and_an_unchanged_poll_is_not(self, world: World) -> None:
        world.register(source("a", policy=PolicyEnum.NONE), analysis("b"))
        for name in "ab":
            world.make(name, "one")
        before = world.catalog.outbox(0)[-1].position
        world.make("a", "one")
        assert world.catalog.outbox(before) == ()
        world.make("b", "one")
        assert [record.kind for record in world.catalog.outbox(before)] == ["committed"]

    def test_a_retired_flow_is_recorded(self, world: World) -> None:
        world.register(source("a"), source("b"))
        world.register(source("a"), origins=("flows.py",), prune=True)
        assert world.catalog.outbox(0)[-1].kind == "retired"
        world.catalog.set_flow_state(world.flow("a").id, FlowState.DISABLED, "ada")
        assert [r.kind for r in world.catalog.outbox(0)] == ["registered"] * 2 + ["retired"] * 2

    def test_a_reader_never_misses_a_record(self, world: World, another_catalog: Catalog) -> None:
        other = World(another_catalog)
        names = [f"s{n}" for n in range(4)]
        world.register(*(source(name) for name in names))
        claims = world.begin()
        seen: list[OutboxRecord] = []

        def follow() -> None:
            since = 0
            while sum(record.kind == "committed" for record in seen) < len(claims):
                seen.extend(world.catalog.outbox(since, limit=1))
                since = seen[-1].position if seen else 0

        works = [lambda w=w, c=c: w.commit(c, "one") for w, c in zip([world, other] * 2, claims, strict=True)]
        at_once(follow, *works)
        assert tuple(seen) == world.catalog.outbox(0)

    def test_cursors_are_kept(self, world: World) -> None:
        assert world.catalog.cursors() == ()
        moved = Cursor("prov", 7, "not reachable", 3, world.catalog.now())
        world.catalog.move_cursor(moved)
        world.catalog.move_cursor(Cursor("lake", 2))
        assert world.catalog.cursors() == (Cursor("lake", 2), moved)
        world.catalog.move_cursor(Cursor("prov", 8))
        assert world.catalog.cursors()[1] == Cursor("prov", 8)

    def test_a_parked_record_is_passed(self, world: World) -> None:
        world.make_data("x", versions=1)
        first, second = world.catalog.outbox(0)
        world.catalog.move_cursor(Cursor("prov", 0, "refused", 2))
        world.catalog.park("prov", first, "no such thing")
        world.catalog.park("prov", first, "no such thing")
        assert world.catalog.cursors() == (Cursor("prov", first.position, parked=1),)
        world.catalog.park("prov", second, "nor that")
        assert world.catalog.cursors() == (Cursor("prov", second.position, parked=2),)
        assert world.catalog.outbox(0) == (first, second)

    # Collecting

    def test_named_locations_are_not_collected(self, world: World) -> None:
        world.make_data("x", versions=1)
        world.register(analysis("a", "x"))
        named = world.catalog.latest(world.data("x").id)
        assert named is not None
        places = [named.location, "file:///garbage", function().location]
        assert world.catalog.mark_collecting(places) == ("file:///garbage",)
        assert world.catalog.mark_collecting(places) == ("file:///garbage",)
        world.catalog.unmark_collecting(places)
        world.catalog.unmark_collecting(places)
        assert world.catalog.mark_collecting([]) == ()

    def test_code_that_is_being_collected_cannot_be_registered(self, world: World) -> None:
        place = function().location
        assert world.catalog.mark_collecting([place]) == (place,)
        with pytest.raises(CommitConflict):
            world.register(analysis("a"))
        world.catalog.unmark_collecting([place])
        world.register(analysis("a"))

    # Settings

    def test_settings_are_kept(self, world: World, another_catalog: Catalog) -> None:
        assert world.catalog.setting("timer.a") is None
        value = {"id": 7, "parts": ["a", None, 1.5], "text": "ü"}
        world.catalog.save_setting("timer.a", value)
        assert another_catalog.setting("timer.a") == value
        world.catalog.save_setting("timer.a", None)
        assert world.catalog.setting("timer.a") is None

    # The record itself

    def test_a_sound_record_passes_its_check(self, world: World) -> None:
        world.make_data("x", versions=2)
        assert world.catalog.check() == []

    def test_another_catalog_sees_the_same_record(self, world: World, another_catalog: Catalog) -> None:
        world.make_data("x", versions=2)
        assert World(another_catalog).picture() == world.picture()

    def test_the_clock_goes_on_in_utc(self, world: World) -> None:
        first, second = world.catalog.now(), world.catalog.now()
        assert first.utcoffset() == timedelta()
        assert first <= second
