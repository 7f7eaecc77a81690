"""Models to JSON and back, and what a person reads when a value does not fit."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero_core.converter import from_json, structure, structure_strict, to_json, unstructure
from aero_core.errors import ConfigError, InvalidValue
from aero_core.models import (
    LARGEST,
    ArgumentSet,
    Flow,
    FlowSpec,
    FlowState,
    Function,
    Input,
    InputMode,
    InputShape,
    Output,
    PolicyEnum,
    Rule,
    Schedule,
    Source,
)

SPEC = FlowSpec(
    "rt",
    function=Function("rt", "sha256:1", "sha256:2", "file:///b", 1, "flows.py", ("cases",)),
    source=Source(("https://example.org/a",), 10, {"headers": {"a": "b"}}),
    inputs=(
        Input("cases", "cases", version=3, mode=InputMode.EACH),
        Input("more", "x", item="0", shape=InputShape.LIST),
    ),
    outputs=(Output("plot", "rt.plot"),),
    argument_sets=(ArgumentSet({"window": [7, 1.5, None, True, {"a": "\u00fc"}]}, "k"),),
    policy=PolicyEnum.ALL,
    schedule=Schedule(cron="0 6 * * *", tz="Europe/Berlin"),
    rule=Rule("csv", {"ignore": ["at"]}),
    timeout=1.5,
    tags=("a", "b"),
)
WORDS = st.text(max_size=5)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
INPUTS = st.builds(
    Input,
    WORDS,
    WORDS,
    shape=st.sampled_from(InputShape),
    version=st.none() | st.integers(1, LARGEST),
    mode=st.sampled_from(InputMode),
)
SPECS = st.builds(
    FlowSpec,
    name=WORDS,
    inputs=st.lists(INPUTS, max_size=2).map(tuple),
    argument_sets=st.tuples(st.builds(ArgumentSet, st.dictionaries(WORDS, JSON_VALUES), WORDS)),
    policy=st.sampled_from(PolicyEnum),
    schedule=st.none() | st.builds(Schedule, st.floats(0.1, 1e9)),
    memory=st.none() | st.integers(1, LARGEST),
    rerun=st.booleans(),
    tags=st.lists(WORDS, max_size=2).map(tuple),
)


def changed(*path: str | int, value: Any) -> Any:
    """The JSON of a flow with one value replaced."""
    found = json.loads(to_json(SPEC))
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return found


@settings(max_examples=40, deadline=None)
@given(SPECS)
def test_json_brings_a_model_back(spec: FlowSpec) -> None:
    assert from_json(to_json(spec), FlowSpec) == spec
    assert structure(unstructure(spec), FlowSpec) == spec
    assert "\n" not in to_json(spec)


def test_a_whole_flow() -> None:
    flow = Flow(
        "id",
        SPEC,
        state=FlowState.PAUSED,
        anchor=datetime(2026, 3, 8, 7, 30, 0, 5, tzinfo=UTC),
    )
    assert from_json(to_json(flow), Flow) == flow
    assert json.loads(to_json(flow))["state"] == "paused"


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-08T07:30:00Z",
        "2026-03-08T07:30:00",
        "2026-03-08T01:30:00-06:00",
        datetime(2026, 3, 8, 2, 30, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_times_become_utc(text: Any) -> None:
    flow = structure({"id": "x", "spec": unstructure(SPEC), "anchor": text}, Flow)
    assert flow.anchor == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)
    assert flow.anchor is not None
    assert flow.anchor.tzinfo is UTC


def test_a_whole_number_will_do_for_a_number() -> None:
    assert structure({"seconds": 5}, Schedule) == Schedule(5.0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["name"], 5, "name is 5: expected text"),
        (["retries"], "5", "retries is '5': expected a whole number"),
        (["retries"], True, "retries is True: expected a whole number"),
        (["retries"], 1.5, "retries is 1.5: expected a whole number"),
        (["timeout"], "1", "timeout is '1': expected a number"),
        (["rerun"], "no", "rerun is 'no': expected true or false"),
        (["rerun"], 1, "rerun is 1: expected true or false"),
        (["policy"], 99, "policy is 99: expected one of -1, 0, 1, 2, 3, 4"),
        (["policy"], "ANY", "policy is 'ANY': expected one of -1, 0, 1, 2, 3, 4"),
        (["inputs"], 5, "inputs is 5: expected a list"),
        (["inputs"], {"a": 1}, "inputs is {'a': 1}: expected a list"),
        (["inputs"], None, "inputs is None: expected a list"),
        (["inputs", 1], "x", "inputs[1] is 'x': expected a mapping"),
        (["inputs", 1, "data"], 7, "inputs[1].data is 7: expected text"),
        (["inputs", 0, "version"], "7", "inputs[0].version is '7': expected a whole number"),
        (
            ["inputs", 0, "mode"],
            "all",
            "inputs[0].mode is 'all': expected one of 'latest', 'each', 'new', 'members'",
        ),
        (["tags"], "abc", "tags is 'abc': expected a list"),
        (["tags", 1], 5, "tags[1] is 5: expected text"),
        (["schedule"], 5, "schedule is 5: expected a mapping"),
        (["schedule", "seconds"], "x", "schedule.seconds is 'x': expected a number"),
        (["function"], {"name": "f"}, "function.digest is missing"),
        (["argument_sets", 0, "kwargs"], 5, "argument_sets[0].kwargs is 5: expected a mapping"),
        (["rule", "options"], [1], "rule.options is [1]: expected a mapping"),
    ],
)
def test_an_error_names_field_value_and_what_was_expected(path: list[str | int], value: Any, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        structure(changed(*path, value=value), FlowSpec, "the flow")
    assert str(caught.value) == f"the flow: {message}"


def test_a_missing_field() -> None:
    with pytest.raises(InvalidValue) as caught:
        structure({}, FlowSpec)
    assert str(caught.value) == "FlowSpec: name is missing"


@pytest.mark.parametrize("value", [[], None, "x", 5])
def test_anything_but_a_mapping(value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        structure(value, FlowSpec)
    assert str(caught.value) == f"FlowSpec: the value is {value!r}: expected a mapping"


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", 5])
def test_no_time(text: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        structure({"id": "x", "spec": unstructure(SPEC), "anchor": text}, Flow)
    assert str(caught.value) == (f"Flow: anchor is {text!r}: expected a time such as '2026-01-31T12:00:00Z'")


def test_long_values_are_cut() -> None:
    with pytest.raises(InvalidValue) as caught:
        structure(changed("retries", value="x" * 10_000), FlowSpec)
    assert len(str(caught.value)) < 200


def test_no_json() -> None:
    with pytest.raises(InvalidValue) as caught:
        from_json("{", FlowSpec, "the answer")
    assert str(caught.value).startswith("the answer is not JSON: Expecting property name")


UNKNOWN = {"seconds": 5.0, "often": True, "cran": "x"}


class TestUnknownFields:
    def test_are_ignored_from_a_wire(self) -> None:
        assert structure(UNKNOWN, Schedule) == Schedule(5.0)

    def test_are_errors_in_configuration(self) -> None:
        with pytest.raises(ConfigError) as caught:
            structure_strict(UNKNOWN, Schedule, "aero.toml", ConfigError)
        assert str(caught.value) == (
            "aero.toml: unknown field 'cran', 'often' in the value: expected cron, seconds, tz"
        )

    def test_are_errors_within_another_model(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            structure_strict(changed("schedule", value=UNKNOWN), FlowSpec, "flow")
        assert str(caught.value) == ("flow: unknown field 'cran', 'often' in schedule: expected cron, seconds, tz")


def test_settings_of_plugins_take_lists_only() -> None:
    @attrs.frozen
    class Settings:
        hosts: list[str] = attrs.field(factory=list)
        modules: tuple[str, ...] = ()

    assert structure({"hosts": ["a"], "modules": ["b"]}, Settings) == Settings(["a"], ("b",))
    for field in ("hosts", "modules"):
        with pytest.raises(InvalidValue, match=f"Settings: {field} is 'ab': expected a list"):
            structure({field: "ab"}, Settings)
