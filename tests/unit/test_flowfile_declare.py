"""What `ingest` and `analysis` declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from aero_core.errors import FlowFileError
from aero_core.flowfile import Code, DataRef, Declaration, analysis, ingest, specs
from aero_core.models import (
    ArgumentSet,
    Data,
    FlowSpec,
    Function,
    Input,
    InputShape,
    Output,
    PolicyEnum,
    Rule,
    Schedule,
    Source,
)

URL = "https://example.org/cases.csv"
FUNCTION = Function("f", "sha256:1", "sha256:2", "file:///b.zip", 1, "flows.py", ("cases",))
cases = ingest("cases", url=URL)


def rt(cases: str, window: int = 7) -> None:
    """R of t."""


def board(table: Any, run: Any, previous: Any, table_url: str, table_version: int) -> None: ...


def anything(**data: Any) -> None: ...


def spec(declaration: Declaration) -> FlowSpec:
    """The flow that bears the declaration's name."""
    return declaration.drafts[-1].spec


class TestIngest:
    def test_the_bytes_as_they_come(self) -> None:
        made = ingest("cases", URL, every="1d", limit="1MB", rule="csv", tags=["x"])
        assert [draft.spec for draft in made.drafts] == [
            FlowSpec(
                "cases",
                source=Source((URL,), limit=10**6),
                outputs=(Output("", "cases"),),
                policy=PolicyEnum.INGESTION,
                schedule=Schedule(86400.0),
                rule=Rule("csv"),
                tags=("x",),
            )
        ]

    def test_over_a_function(self) -> None:
        def cases(path: str, skip: int = 3) -> None: ...

        made = _declared(cases, ingest(url=URL, every="1d", rule="csv", retries=2, timeout="5m", memory="1GB"))
        common: dict[str, Any] = {"retries": 2, "timeout": 300.0, "memory": 10**9}
        assert [draft.spec for draft in made.drafts] == [
            FlowSpec(
                "cases.raw",
                source=Source((URL,), limit=10**10),
                outputs=(Output("", "cases.raw"),),
                policy=PolicyEnum.INGESTION,
                schedule=Schedule(86400.0),
                rule=Rule("csv"),
                **common,
            ),
            FlowSpec(
                "cases",
                inputs=(Input("path", "cases.raw"),),
                outputs=(Output("", "cases"),),
                policy=PolicyEnum.ANY,
                **common,
            ),
        ]
        assert made.name == "cases"
        assert made.data == DataRef("cases")
        assert made["raw"] == DataRef("cases.raw")

    def test_over_a_function_under_another_name(self) -> None:
        made = _declared(rt, ingest("cases", url=URL))
        assert [draft.spec.name for draft in made.drafts] == ["cases.raw", "cases"]

    def test_an_absolute_path_is_a_source(self, tmp_path: Path) -> None:
        source = spec(ingest("a", tmp_path / "a b.csv")).source
        assert source is not None
        assert source.urls == (f"file://{tmp_path}/a%20b.csv",)

    @pytest.mark.parametrize(
        "url",
        [
            "file:///data/a.csv",
            "file://localhost/data/a.csv",
            "s3://bucket/a",
            "https://example.org:8443/a?key={secret:KEY}&q=a%20b#x",
            "http://[::1]:80/a",
            "https://example.org/a@b",
        ],
    )
    def test_urls(self, url: str) -> None:
        source = spec(ingest("a", url)).source
        assert source is not None
        assert source.urls == (url,)

    @pytest.mark.parametrize("policy", ["ingestion", "INGESTION_EVENT", "timer", -1])
    def test_policies(self, policy: Any) -> None:
        assert spec(ingest("a", URL, policy=policy)).policy in PolicyEnum


def _declared(function: Any, declaration: Declaration) -> Declaration:
    made = declaration(function)
    assert isinstance(made, Declaration)
    return made


@pytest.fixture(autouse=True)
def _inner_functions_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of these tests stay where they are used."""
    monkeypatch.setattr("aero_core.flowfile.drafts.plain_function", lambda function: function)


class TestAnalysis:
    def test_defaults(self) -> None:
        made = analysis(rt, inputs=[cases])
        assert spec(made) == FlowSpec(
            "rt",
            inputs=(Input("cases", "cases"),),
            outputs=(Output("", "rt"),),
            policy=PolicyEnum.ANY,
        )

    def test_everything(self) -> None:
        made = analysis(
            rt,
            inputs={"cases": "cases@3"},
            policy="all",
            every="0 6 * * *",
            tz="America/Chicago",
            outputs=("table", "plot"),
            kwargs={"window": 14},
            name="rt_14",
            code=["model.R", Path("table.csv")],
            rule={"name": "csv", "ignore": ("at",)},
            store="s3",
            endpoint="here",
            retries=1,
            timeout=5,
            memory="2GiB",
            rerun=False,
            readonly_inputs=True,
            tags=("rt",),
            description="R of t",
        )
        assert spec(made) == FlowSpec(
            "rt_14",
            inputs=(Input("cases", "cases", version=3),),
            outputs=(Output("table", "rt_14.table"), Output("plot", "rt_14.plot")),
            argument_sets=(ArgumentSet({"window": 14}),),
            policy=PolicyEnum.ALL,
            schedule=Schedule(cron="0 6 * * *", tz="America/Chicago"),
            rule=Rule("csv", {"ignore": ["at"]}),
            endpoint="here",
            retries=1,
            timeout=5.0,
            memory=2 * 1024**3,
            rerun=False,
            readonly_inputs=True,
            tags=("rt",),
            description="R of t",
        )
        assert made.drafts[0].code == ("model.R", "table.csv")
        assert made.drafts[0].store == "s3"

    def test_bare_decorator(self) -> None:
        def clock() -> None: ...

        assert spec(analysis(clock)) == FlowSpec("clock", outputs=(Output("", "clock"),), policy=PolicyEnum.TIMER)

    def test_one_decorator_over_several_functions(self) -> None:
        def one(cases: str) -> None: ...

        def two(cases: str) -> None: ...

        over = analysis(inputs=[cases])
        assert [_declared(function, over).name for function in (one, two)] == ["one", "two"]

    def test_no_outputs(self) -> None:
        assert spec(analysis(rt, inputs=[cases], outputs=[])).outputs == ()

    def test_a_declared_function_again(self) -> None:
        first = analysis(rt, inputs=[cases])
        again = analysis(first, inputs=[cases], name="again")
        assert again.function is rt

    @pytest.mark.parametrize(
        ("inputs", "expected"),
        [
            ([cases], (Input("cases", "cases"),)),
            (cases, (Input("cases", "cases"),)),
            ("cases@12", (Input("cases", "cases", version=12),)),
            (["other.cases"], (Input("cases", "other.cases"),)),
            ([DataRef("x.cases", 2)], (Input("cases", "x.cases", version=2),)),
            ({"cases": "x-1.y_2"}, (Input("cases", "x-1.y_2"),)),
            (
                {"cases": ["a", cases]},
                (
                    Input("cases", "a", item="0", shape=InputShape.LIST),
                    Input("cases", "cases", item="1", shape=InputShape.LIST),
                ),
            ),
            (
                {"cases": {"x": "a", "y": "b@1"}},
                (
                    Input("cases", "a", item="x", shape=InputShape.DICT),
                    Input("cases", "b", item="y", shape=InputShape.DICT, version=1),
                ),
            ),
            ([Data("0f9a", "cases")], (Input("cases", "0f9a"),)),
            (
                {"cases": "3a0f8e5c-4f0e-4f6e-9d42-0d8a2c9a7b11"},
                (Input("cases", "3a0f8e5c-4f0e-4f6e-9d42-0d8a2c9a7b11"),),
            ),
        ],
    )
    def test_inputs(self, inputs: Any, expected: tuple[Input, ...]) -> None:
        assert spec(analysis(rt, inputs=inputs)).inputs == expected

    def test_the_whole_name_comes_before_its_last_part(self) -> None:
        def both(a_b: str, b: str = "") -> None: ...

        assert spec(analysis(both, inputs=["a-b"])).inputs == (Input("a_b", "a-b"),)

    def test_any_name_will_do_for_keywords(self) -> None:
        made = analysis(anything, inputs=["x", "y.z"], kwargs={"k": [1, {"a": None}]})
        assert [item.parameter for item in spec(made).inputs] == ["x", "z"]

    def test_parameters_that_the_run_gives(self) -> None:
        assert spec(analysis(board, inputs={"table": "x"})).inputs == (Input("table", "x"),)

    def test_kwargs_are_as_json_gives_them_back(self) -> None:
        made = analysis(rt, inputs=[cases], kwargs={"window": (1, 2.5, "x", None, True)})
        assert spec(made).argument_sets == (ArgumentSet({"window": [1, 2.5, "x", None, True]}),)


class TestDeclarations:
    def test_outputs_are_inputs_elsewhere(self) -> None:
        made = analysis(rt, inputs=[cases], outputs=["table", "plot"])
        assert made["plot"] == DataRef("rt.plot")
        assert str(DataRef("rt.plot", 3)) == "rt.plot@3"
        then = analysis(anything, inputs={"x": made["table"]})
        assert spec(then).inputs == (Input("x", "rt.table"),)

    def test_a_single_named_output_needs_no_name(self) -> None:
        assert analysis(rt, inputs=[cases], outputs=["table"]).data == DataRef("rt.table")

    def test_it_calls_the_function(self) -> None:
        def double(x: int) -> int:
            """Twice."""
            return 2 * x

        made = analysis(double, kwargs={"x": 1})
        assert made(21) == made(x=21) == 42
        assert made.__doc__ == "Twice."
        assert made.__name__ == "double"

    @pytest.mark.parametrize(
        ("declaration", "shown"),
        [
            (cases, f"<ingest 'cases', from {URL}, makes cases>"),
            (analysis(rt, inputs=[cases]), "<analysis 'rt', from cases, makes rt>"),
            (
                analysis(rt, inputs=["cases"], outputs=["a", "b"]),
                "<analysis 'rt', from cases, makes rt.a, rt.b>",
            ),
            (analysis(anything, outputs=[]), "<analysis 'anything'>"),
            (analysis(inputs=[cases]), "<analysis, without a name or a function>"),
        ],
    )
    def test_it_shows_what_it_is(self, declaration: Declaration, shown: str) -> None:
        assert repr(declaration) == shown

    def test_it_knows_where_it_was_declared(self) -> None:
        made = ingest("a", URL)
        assert made.place.file == __file__

    def test_it_is_no_sequence(self) -> None:
        with pytest.raises(TypeError):
            list(analysis(rt, inputs=[cases], outputs=["a", "b"]))  # type: ignore[call-overload]


class TestSpecs:
    def test_code_is_packed_once_for_each_function(self, tmp_path: Path) -> None:
        packed: list[Code] = []

        def pack(code: Code) -> Function:
            packed.append(code)
            return attrs.evolve(FUNCTION, name=code.function.__name__)

        declared = [
            cases,
            analysis(rt, inputs=[cases], name="one"),
            analysis(rt, inputs=[cases], name="two", store="s3"),
            analysis(rt, inputs=[cases], name="three", code=["x"]),
            analysis(anything),
        ]
        found = specs(
            declared,
            pack,
            folder=tmp_path,
            origin="flows.py",
            project="p",
            namespace="n",
            store="disk",
            executor="parsl",
        )
        assert [code.function for code in packed] == [rt, rt, anything]
        assert packed[1] == Code(rt, tmp_path, ("x",))
        assert [item.name for item in found] == ["cases", "one", "two", "three", "anything"]
        assert [item.function and item.function.name for item in found] == [
            None,
            "rt",
            "rt",
            "rt",
            "anything",
        ]
        assert [item.store for item in found] == ["disk", "disk", "s3", "disk", "disk"]
        for item in found:
            assert (item.origin, item.project, item.namespace) == ("flows.py", "p", "n")
            assert item.executor == "parsl"

    def test_complaints_name_the_flow(self) -> None:
        def pack(code: Code) -> Function:
            raise FlowFileError("code names 'x', but it is not there")

        with pytest.raises(FlowFileError) as caught:
            specs([analysis(rt, inputs=[cases])], pack)
        assert str(caught.value) == "flow 'rt': code names 'x', but it is not there"

    def test_an_unfinished_declaration(self) -> None:
        with pytest.raises(FlowFileError) as caught:
            specs([analysis(inputs=[cases])], lambda code: FUNCTION)
        assert str(caught.value) == ("analysis(...) has no name here: put it over a function, or give name=")
