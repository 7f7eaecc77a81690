"""Whether a flow is due, what may not be registered together, and what a changed flow changes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero_core.errors import InvalidValue, RegistrationError
from aero_core.models import (
    ArgumentSet,
    FlowSpec,
    Function,
    Input,
    InputState,
    Output,
    PolicyEnum,
    Rule,
    Schedule,
    Source,
)
from aero_core.policy import (
    check_together,
    decide,
    differences,
    find_cycle,
    parse_policy,
    starts_by_itself,
)

ANY, ALL = PolicyEnum.ANY, PolicyEnum.ALL


def state(
    data: str,
    latest: int | None,
    consumed: int = 0,
    attempted: int | None = None,
    pinned: int | None = None,
) -> InputState:
    return InputState(data, "", data, data, latest, consumed, attempted, pinned)


STATES = st.lists(
    st.builds(
        state,
        st.sampled_from("abcd"),
        st.none() | st.integers(1, 4),
        st.integers(0, 4),
        st.none() | st.integers(1, 4),
        st.none() | st.integers(1, 4),
    ),
    max_size=4,
)


#: A busy machine is no error.
UNHURRIED = settings(deadline=None)


class TestParsing:
    @pytest.mark.parametrize("value", ["any", "ANY", "Any", 2, PolicyEnum.ANY])
    def test_by_name_or_number(self, value: Any) -> None:
        assert parse_policy(value) is ANY

    @pytest.mark.parametrize("value", ["sometimes", 7, "2", None, 1.5])
    def test_refused(self, value: Any) -> None:
        with pytest.raises(InvalidValue) as caught:
            parse_policy(value)
        assert str(caught.value) == (
            f"policy is {value!r}: expected one of NONE -1, INGESTION 0, TIMER 1, ANY 2, ALL 3, INGESTION_EVENT 4"
        )

    def test_which_policies_start_by_themselves(self) -> None:
        assert {policy for policy in PolicyEnum if not starts_by_itself(policy)} == {
            PolicyEnum.NONE,
            PolicyEnum.INGESTION_EVENT,
        }


class TestDecision:
    def test_any_names_what_is_new(self) -> None:
        decision = decide(ANY, [state("a", 3, 2), state("b", 1, 1)])
        assert decision.due
        assert decision.news == ("a@3",)

    def test_any_waits_for_any(self) -> None:
        decision = decide(ANY, [state("a", 2, 2), state("b", 1, 1)])
        assert not decision.due
        assert decision.reason == "waits for a new version of a or b"

    def test_all_says_what_it_waits_for(self) -> None:
        decision = decide(ALL, [state("a", 3, 2), state("b", 1, 1), state("c", 1, 1)])
        assert not decision.due
        assert decision.reason == "waits for a new version of b and c"

    def test_all_with_all(self) -> None:
        assert decide(ALL, [state("a", 3, 2), state("b", 2, 1)]).news == ("a@3", "b@2")

    def test_a_pinned_input_never_triggers_and_never_holds_up(self) -> None:
        pinned = state("p", 1, 0, pinned=1)
        assert not decide(ANY, [pinned, state("a", 1, 1)]).due
        assert decide(ALL, [pinned, state("a", 2, 1)]).due
        assert decide(ANY, [pinned]).reason == "has no input that can change"

    @pytest.mark.parametrize("policy", list(PolicyEnum))
    @pytest.mark.parametrize("revision_due", [False, True])
    def test_an_input_without_a_version_holds_up(self, policy: PolicyEnum, revision_due: bool) -> None:
        decision = decide(policy, [state("a", 2), state("b", None)], revision_due)
        assert not decision.due
        assert decision.reason == "waits for a first version of b"

    def test_a_new_revision_is_due_on_what_is_there(self) -> None:
        assert decide(ALL, [state("a", 1, 1)], revision_due=True).due
        assert decide(PolicyEnum.TIMER, [], revision_due=True).due

    def test_after_a_failure_it_waits_for_a_change(self) -> None:
        failed = state("a", 3, 2, attempted=3)
        assert decide(ANY, [failed]).reason.startswith("failed for good on these inputs")
        assert decide(ANY, [attrs.evolve(failed, latest=4)]).due
        assert decide(ANY, [failed], revision_due=True).due

    def test_all_runs_again_when_one_input_changed_since_the_failure(self) -> None:
        failed = [state("a", 3, 2, attempted=3), state("b", 5, 4, attempted=5)]
        assert not decide(ALL, failed).due
        assert decide(ALL, [failed[0], attrs.evolve(failed[1], latest=6)]).due

    @UNHURRIED
    @given(st.sampled_from(PolicyEnum), STATES)
    def test_only_any_and_all_are_due_by_inputs(self, policy: PolicyEnum, states: list[InputState]) -> None:
        decision = decide(policy, states)
        assert decision.reason
        if policy not in (ANY, ALL):
            assert not decision.due

    @UNHURRIED
    @given(STATES)
    def test_all_is_never_due_without_any(self, states: list[InputState]) -> None:
        if decide(ALL, states).due:
            assert decide(ANY, states).due
            assert all((s.latest or 0) > s.consumed for s in states if s.pinned is None)

    @UNHURRIED
    @given(st.sampled_from([ANY, ALL]), STATES)
    def test_nothing_is_due_twice(self, policy: PolicyEnum, states: list[InputState]) -> None:
        """Once what is there has been used, nothing more is due."""
        used = [attrs.evolve(s, consumed=s.latest or 0, attempted=None) for s in states]
        assert not decide(policy, used).due
        tried = [attrs.evolve(s, attempted=s.latest) for s in states]
        assert not decide(policy, tried).due


class TestCycles:
    def test_found_in_the_order_of_making(self) -> None:
        makes = {"a": ["b"], "b": ["c"], "c": ["a"]}
        assert find_cycle(makes) == ["a", "c", "b", "a"]

    def test_of_one(self) -> None:
        assert find_cycle({"a": ["a"]}) == ["a", "a"]

    def test_none(self) -> None:
        assert find_cycle({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) == []
        assert find_cycle({}) == []

    def test_of_a_long_chain(self) -> None:
        makes = {f"d{number}": [f"d{number + 1}"] for number in range(5000)}
        assert find_cycle(makes) == []
        cycle = find_cycle({**makes, "d5000": ["d0"]})
        assert len(cycle) == 5002

    @UNHURRIED
    @given(st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=4)))
    def test_against_the_definition(self, graph: dict[int, list[int]]) -> None:
        makes = {str(data): [str(source) for source in sources] for data, sources in graph.items()}
        cycle = find_cycle(makes)
        if cycle:
            assert cycle[0] == cycle[-1]
            assert len(set(cycle)) == len(cycle) - 1
            assert all(source in makes[data] for source, data in pairwise(cycle))
        else:
            assert not any(_reaches(makes, data, data) for data in makes)


def _reaches(makes: dict[str, list[str]], start: str, end: str) -> bool:
    seen: set[str] = set()
    todo = list(makes.get(start, ()))
    while todo:
        data = todo.pop()
        if data == end:
            return True
        if data not in seen:
            seen.add(data)
            todo += makes.get(data, ())
    return False


SPEC = FlowSpec(
    "f",
    function=Function("f", "sha256:1", "sha256:2", "file:///a", 1, "flows.py"),
    source=Source(("https://example.org/a",), limit=10),
    inputs=(Input("a", "a"), Input("b", "b")),
    outputs=(Output("", "f"),),
    argument_sets=(ArgumentSet({"x": 1}),),
)


def evolve_function(**change: Any) -> FlowSpec:
    assert SPEC.function is not None
    return attrs.evolve(SPEC, function=attrs.evolve(SPEC.function, **change))


class TestDifferences:
    @pytest.mark.parametrize(
        ("new", "content"),
        [
            (evolve_function(digest="sha256:3"), ("code",)),
            (evolve_function(name="g"), ("code",)),
            (attrs.evolve(SPEC, source=Source(("https://example.org/b",), limit=10)), ("source",)),
            (attrs.evolve(SPEC, inputs=(Input("a", "a"),)), ("inputs",)),
            (attrs.evolve(SPEC, inputs=(Input("a", "a", version=1), Input("b", "b"))), ("inputs",)),
            (attrs.evolve(SPEC, argument_sets=(ArgumentSet({"x": 2}),)), ("kwargs",)),
            (attrs.evolve(SPEC, outputs=()), ("outputs",)),
            (attrs.evolve(SPEC, outputs=(), inputs=()), ("inputs", "outputs")),
        ],
    )
    def test_content_makes_a_revision(self, new: FlowSpec, content: tuple[str, ...]) -> None:
        found, settings = differences(SPEC, new)
        assert sorted(found) == sorted(content)
        assert settings == ()

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"policy": ALL}, "policy"),
            ({"schedule": Schedule(60.0)}, "every"),
            ({"rule": Rule("csv")}, "rule"),
            ({"store": "s3"}, "store"),
            ({"executor": "parsl"}, "executor"),
            ({"endpoint": "here"}, "endpoint"),
            ({"retries": 1}, "retries"),
            ({"timeout": 1.0}, "timeout"),
            ({"memory": 1}, "memory"),
            ({"rerun": False}, "rerun"),
            ({"readonly_inputs": True}, "readonly_inputs"),
            ({"tags": ("x",)}, "tags"),
            ({"description": "x"}, "description"),
            ({"source": Source(("https://example.org/a",), limit=11)}, "limit"),
        ],
    )
    def test_settings_make_none(self, change: dict[str, Any], word: str) -> None:
        assert differences(SPEC, attrs.evolve(SPEC, **change)) == ((), (word,))

    def test_equal_flows_differ_in_nothing(self) -> None:
        swapped = attrs.evolve(SPEC, inputs=SPEC.inputs[::-1])
        assert differences(SPEC, swapped) == ((), ())
        moved = evolve_function(bundle_id="sha256:9", location="file:///b", size=2)
        assert differences(SPEC, moved) == ((), ())


class TestTogether:
    def test_two_flows_of_one_name(self) -> None:
        with pytest.raises(RegistrationError) as caught:
            check_together([FlowSpec("f"), FlowSpec("f")])
        assert str(caught.value) == "flow 'f' is declared twice: give one of them another name"

    def test_two_makers_of_one_data(self) -> None:
        one, two = (FlowSpec(name, outputs=(Output("", "d"),)) for name in ("f", "g"))
        with pytest.raises(RegistrationError) as caught:
            check_together([one, two])
        assert str(caught.value) == ("data 'd' would be made by both flow 'f' and flow 'g': rename one of them")

    def test_equal_names_in_two_origins(self) -> None:
        check_together([FlowSpec("f", origin="a.py"), FlowSpec("f", origin="b.py")])
