"""Contract of a catalog's registration: plans, refusals, data, and what becomes due."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from aero_core.catalog import Catalog
from aero_core.errors import NotFound, RegistrationError
from aero_core.models import (
    ArgumentSet,
    FlowState,
    Input,
    Output,
    PolicyEnum,
    Rule,
    Schedule,
)
from aero_core.testing.catalog_world import (
    RARELY,
    World,
    analysis,
    at_once,
    function,
    kinds,
    source,
)

YEARLY = Schedule(cron="0 0 1 1 *")


class RegisteringContract:
    """What `register` and `set_flow_state` do."""

    # Plans

    def test_a_first_registration_is_new(self, world: World) -> None:
        (change,) = world.register(source("a"))
        assert (change.kind.value, change.flow) == ("new", "a")
        flow = world.catalog.flow(change.flow_id)
        assert (flow.name, flow.revision, flow.state) == ("a", 1, FlowState.ACTIVE)
        assert flow.owner == "ada"

    def test_an_equal_registration_changes_nothing(self, world: World) -> None:
        specs = source("a", schedule=RARELY), analysis("b", "a", tags=("x",))
        world.register(*specs)
        before = world.picture()
        assert kinds(world.register(*specs)) == ["unchanged", "unchanged"]
        assert world.picture() == before

    def test_kwargs_are_equal_as_json(self, world: World) -> None:
        sets = (ArgumentSet({"days": (1, 2), "of": {"x": 1.5}}),)
        world.register(analysis("a", argument_sets=sets))
        assert kinds(world.register(analysis("a", argument_sets=sets))) == ["unchanged"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("code", {"function": function("second")}),
            ("kwargs", {"argument_sets": (ArgumentSet({"days": 7}),)}),
            ("outputs", {"outputs": (Output("", "b"), Output("plot", "b.plot"))}),
            ("inputs", {"inputs": (Input("other", "a"),)}),
        ],
    )
    def test_other_content_is_a_new_revision(self, world: World, field: str, value: dict[str, Any]) -> None:
        world.register(source("a"), analysis("b", "a"))
        changes = world.register(analysis("b", "a", **value))
        assert [(c.kind.value, c.fields) for c in changes] == [("changed", (field,))]
        assert world.flow("b").revision == 2

    @pytest.mark.parametrize(
        ("word", "value"),
        [
            ("policy", {"policy": PolicyEnum.ALL}),
            ("every", {"schedule": RARELY}),
            ("retries", {"retries": 3}),
            ("tags", {"tags": ("x",)}),
            ("description", {"description": "new words"}),
            ("rule", {"rule": Rule("csv", {"ignore": ["day"]})}),
            ("store", {"store": "vault"}),
        ],
    )
    def test_other_settings_are_no_new_revision(self, world: World, word: str, value: dict[str, Any]) -> None:
        world.make_data("a", versions=1)
        world.register(analysis("b", "a"))
        world.commit(world.claim("b"), "made")
        changes = world.register(analysis("b", "a", **value))
        assert [(c.kind.value, c.fields) for c in changes] == [("updated", (word,))]
        assert world.flow("b").revision == 1
        assert world.due() == []

    def test_settings_reach_the_data(self, world: World) -> None:
        world.register(source("a"))
        world.register(source("a", description="cases", tags=("flu",), store="vault"))
        data = world.data("a")
        assert (data.description, data.tags, data.store) == ("cases", ("flu",), "vault")
        assert data.source is not None
        assert data.flow_id == world.flow("a").id

    def test_a_plan_is_in_order_and_gone_flows_follow_by_name(self, world: World) -> None:
        world.register(source("z"), source("y"), source("x"))
        changes = world.register(source("new"), source("y"), origins=("flows.py",))
        assert [(c.flow, c.kind.value) for c in changes] == [
            ("new", "new"),
            ("y", "unchanged"),
            ("x", "gone"),
            ("z", "gone"),
        ]
        assert not any(change.disabled for change in changes)
        assert world.flow("x").state is FlowState.ACTIVE

    def test_gone_is_judged_within_an_origin(self, world: World) -> None:
        world.register(source("a"), source("b", origin="other.py"))
        assert kinds(world.register(source("a"), origins=("flows.py",))) == ["unchanged"]

    def test_prune_disables_what_is_gone(self, world: World) -> None:
        world.register(source("a"), source("b"))
        changes = world.register(source("a"), origins=("flows.py",), prune=True)
        assert [change.disabled for change in changes] == [False, True]
        assert world.flow("b").state is FlowState.DISABLED
        assert world.due() == ["a"]
        assert world.data("b").name == "b"
        assert kinds(world.register(source("a"), origins=("flows.py",))) == ["unchanged"]

    def test_a_disabled_flow_becomes_active_again(self, world: World) -> None:
        world.register(source("a"))
        world.register(origins=("flows.py",), prune=True)
        (change,) = world.register(source("a"))
        assert change.kind.value != "unchanged"
        assert world.flow("a").state is FlowState.ACTIVE
        assert world.flow("a").revision == 1

    def test_a_revision_is_kept_as_it_was(self, world: World) -> None:
        (change,) = world.register(analysis("a"))
        world.register(analysis("a", code="second"))
        specs = [world.catalog.revision(change.flow_id, number) for number in (1, 2)]
        assert [spec.function for spec in specs] == [function("first"), function("second")]
        with pytest.raises(NotFound):
            world.catalog.revision(change.flow_id, 3)

    def test_adopted_flows_move_and_keep_their_past(self, world: World) -> None:
        world.make_data("a", versions=1)
        old = world.flow("a")
        moved = attrs.evolve(old.spec, origin="moved.py")
        (change,) = world.register(moved, adopt="flows.py")
        assert (change.flow_id, change.kind.value) == (old.id, "updated")
        assert world.flow("a").spec.origin == "moved.py"
        assert world.latest("a") == 1

    def test_namespaces_keep_flows_and_data_apart(self, world: World) -> None:
        for namespace in ("one", "two"):
            changes = world.register(source("a", namespace=namespace), namespace=namespace)
            assert kinds(changes) == ["new"]
        catalog = world.catalog
        for namespace in ("one", "two"):
            (flow,) = catalog.list_flows(namespace=namespace).items
            (data,) = catalog.list_data(namespace=namespace).items
            assert (flow, data) == (catalog.flow("a", namespace), catalog.data("a", namespace))
            assert (flow.spec.namespace, data.namespace, data.flow_id) == (namespace, namespace, flow.id)
            assert catalog.flow(flow.id, "elsewhere") == flow
            assert catalog.data(data.id, "elsewhere") == data
        assert len(catalog.list_flows().items) == len(catalog.list_data().items) == 2
        for look in (catalog.flow, catalog.data):
            with pytest.raises(NotFound, match="'a'"):
                look("a")

    def test_gone_is_judged_within_a_namespace(self, world: World) -> None:
        world.register(source("a", namespace="one"), namespace="one")
        assert kinds(world.register(source("b"), origins=("flows.py",), prune=True)) == ["new"]
        assert world.catalog.flow("a", "one").state is FlowState.ACTIVE

    def test_projects_keep_flows_apart(self, world: World) -> None:
        world.register(source("a"))
        with pytest.raises(RegistrationError, match="'a'"):
            world.register(source("a", project="other"), project="other")
        other = source("a", project="other", outputs=(Output("", "a2"),))
        assert kinds(world.register(other, project="other")) == ["new"]

    def test_registering_at_once_makes_one_flow(self, world: World, another_catalog: Catalog) -> None:
        other = World(another_catalog)
        specs = source("a"), analysis("b", "a")
        answers = at_once(*(lambda w=w: w.register(*specs) for w in (world, other) * 3))
        assert sorted(kinds([a[0] for a in answers])) == ["new", *["unchanged"] * 5]
        assert [flow.name for flow in world.catalog.list_flows().items] == ["a", "b"]
        assert len(world.runs("a")) == 1

    # Dry runs

    def test_a_dry_run_touches_nothing(self, world: World) -> None:
        world.register(source("a"), source("b"))
        before = world.picture()
        specs = source("a", retries=1), analysis("c", "a")
        plan = world.register(*specs, origins=("flows.py",), prune=True, dry_run=True)
        assert world.picture() == before
        real = world.register(*specs, origins=("flows.py",), prune=True)
        assert [(c.kind, c.flow, c.fields) for c in plan] == [(c.kind, c.flow, c.fields) for c in real]

    def test_a_dry_run_refuses_alike(self, world: World) -> None:
        with pytest.raises(RegistrationError, match=r"'b'.*'nothing'"):
            world.register(analysis("b", "nothing"), dry_run=True)

    # Refusals

    def test_an_unknown_input_is_refused_with_the_nearest(self, world: World) -> None:
        world.register(source("hospital_cases"))
        with pytest.raises(RegistrationError, match=r"'b'.*'hospital_case'.*hospital_cases"):
            world.register(analysis("b", "hospital_case"))

    def test_a_refusal_leaves_nothing_behind(self, world: World) -> None:
        before = world.picture()
        with pytest.raises(RegistrationError):
            world.register(source("a"), analysis("b", "nothing"))
        assert world.picture() == before

    def test_a_cycle_is_refused_by_name(self, world: World) -> None:
        with pytest.raises(RegistrationError) as caught:
            world.register(analysis("a", "c"), analysis("b", "a"), analysis("c", "b"))
        assert all(name in str(caught.value) for name in "abc")

    def test_a_cycle_over_two_registrations_is_refused(self, world: World) -> None:
        world.register(source("a"), analysis("b", "a"), analysis("c", "b"))
        with pytest.raises(RegistrationError, match="cycle"):
            world.register(analysis("b", "c"))
        assert [i.data for i in world.flow("b").spec.inputs] == ["a"]

    def test_disabled_flows_make_no_cycle(self, world: World) -> None:
        world.register(source("a"), analysis("b", "a", origin="old.py"))
        world.register(origins=("old.py",), prune=True)
        world.register(analysis("a", "b"), origins=())
        assert world.flow("a").revision == 2

    def test_a_flow_declared_twice_is_refused(self, world: World) -> None:
        with pytest.raises(RegistrationError, match="'a'"):
            world.register(source("a"), source("a"))

    def test_a_data_has_one_maker(self, world: World) -> None:
        world.register(source("a"))
        with pytest.raises(RegistrationError, match=r"'b'.*'a'"):
            world.register(analysis("b", outputs=(Output("", "a"),)))

    def test_a_disabled_flows_data_is_taken_over(self, world: World) -> None:
        world.make_data("a", versions=1)
        before = world.data("a")
        world.catalog.set_flow_state(world.flow("a").id, FlowState.DISABLED, "ada")
        world.register(analysis("b", outputs=(Output("", "a"),)))
        after = world.data("a")
        assert (after.id, after.latest) == (before.id, 1)
        assert after.flow_id == world.flow("b").id

    def test_a_data_moves_between_flows_that_are_registered_together(self, world: World) -> None:
        plot = Output("plot", "plot")
        world.register(analysis("a", outputs=(plot,)), analysis("b"))
        world.register(analysis("a"), analysis("b", outputs=(plot,)))
        assert world.data("plot").flow_id == world.flow("b").id
        world.register(analysis("a", outputs=(plot,)), analysis("b"))
        assert world.data("plot").flow_id == world.flow("a").id

    def test_a_dropped_output_keeps_its_versions(self, world: World) -> None:
        both = (Output("x", "a.x"), Output("y", "a.y"))
        world.register(analysis("a", outputs=both))
        world.make("a", "one")
        world.register(analysis("a", outputs=both[:1]))
        assert world.data("a.y").flow_id is None
        assert world.latest("a.y") == 1

    # Inputs

    def test_inputs_are_found_by_name_or_id(self, world: World) -> None:
        world.register(source("a"), analysis("b", "a"))
        data_id = world.data("a").id
        assert world.flow("b").spec.inputs[0].data_id == data_id
        assert kinds(world.register(analysis("b", data_id))) == ["unchanged"]
        assert world.flow("b").spec.inputs[0].data == "a"

    def test_inputs_made_by_the_same_registration_in_any_order(self, world: World) -> None:
        assert kinds(world.register(analysis("b", "a"), source("a"))) == ["new", "new"]

    def test_inputs_come_from_the_flows_own_namespace(self, world: World) -> None:
        world.register(source("a", namespace="one"), namespace="one")
        with pytest.raises(RegistrationError, match="'b'"):
            world.register(analysis("b", "a", namespace="two"), namespace="two")

    def test_a_pinned_number_must_exist_where_nobody_makes_further_ones(self, world: World) -> None:
        world.make_data("a", versions=1)
        world.register(origins=("flows.py",), prune=True)
        world.register(analysis("b", Input("x", "a", version=1)))
        with pytest.raises(RegistrationError, match=r"'c'.*a@2"):
            world.register(analysis("c", Input("x", "a", version=2)))

    def test_a_flow_waits_for_a_pinned_number_that_is_still_to_come(self, world: World) -> None:
        world.make_data("a")
        world.register(analysis("b", Input("x", "a", version=2)))
        world.make("a", "one")
        assert world.due() == []
        (explained,) = world.catalog.explain(world.flow("b").id)
        assert (explained.inputs[0].latest, explained.inputs[0].pinned) == (None, 2)
        assert "a@2" in explained.decision.reason
        with pytest.raises(RegistrationError, match="a@2"):
            world.ask("b")
        world.make("a", "two")
        world.make("a", "three")
        (claim,) = world.begin("b")
        assert [used.number for used in claim.run.used] == [2]
        world.commit(claim, "b")
        world.make("a", "four")
        assert world.due() == []
