"""Policies for schema changes where columns are objects and lists, stand in another order, are missing, or differ in case alone."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from domain.ingestions.entities import BadRowPolicy, FormatType, SchemaEvolution
from domain.ports.engine import ColumnChange, Decisions, FileOutcome, OutcomeStatus
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import EngineBench
from tests.integration.embedded_engine.test_embedded_engine_evolution import parquet

LOADED, FAILED, NEEDS_APPROVAL = OutcomeStatus.LOADED, OutcomeStatus.FAILED, OutcomeStatus.NEEDS_APPROVAL
ADD, RESCUE, FAIL, IGNORE, ASK = SchemaEvolution

NESTED: dict[str, tuple[Any, Any, str, str, str]] = {
    "in an object": ({"a": 1}, {"a": 2, "b": "x"}, "struct<a: long>", "struct<a: long, b: string>", "o.b"),
    "in an object in an object": (
        {"p": {"a": 1}},
        {"p": {"a": 2, "b": True}},
        "struct<p: struct<a: long>>",
        "struct<p: struct<a: long, b: boolean>>",
        "b",
    ),
    "in a list of objects": ([{"a": 1}], [{"a": 2}, {"b": 1.5}], "list<struct<a: long>>", "list<struct<a: long, b: double>>", "b"),
}
"""What a table has, what a file brings, both types, and what a message has to name."""


@pytest.mark.parametrize("format_", [FormatType.JSON, FormatType.PARQUET])
@pytest.mark.parametrize("evolution", list(SchemaEvolution))
@pytest.mark.parametrize("case", NESTED)
async def test_a_new_field(bench: EngineBench, case: str, evolution: SchemaEvolution, format_: FormatType) -> None:
    has, brings, before, after, named = NESTED[case]
    for name, value in (("a", has), ("b", brings), ("c", has)):
        bench.land(name, lines({"o": value}) if format_ is FormatType.JSON else parquet(o=pa.array([value])))
    await bench.load("a", format=format_)

    outcomes = await bench.load("b", "c", format=format_, evolution=evolution)

    outcome = outcomes["b"]
    assert outcomes["c"].status is LOADED
    assert bench.columns() == {"o": after if evolution is ADD else before}
    assert outcome.status is {FAIL: FAILED, ASK: NEEDS_APPROVAL}.get(evolution, LOADED)
    assert outcome.rows_rescued == (evolution is RESCUE)
    assert len(bench.rows("o")) == (3 if outcome.status is LOADED else 2)
    if evolution is FAIL:
        assert named in (outcome.message or "")
    if evolution is ASK:
        assert outcome.needs == (ColumnChange("o", before, after),)


@pytest.mark.parametrize("format_", [FormatType.JSON, FormatType.PARQUET])
@pytest.mark.parametrize("case", NESTED)
async def test_a_new_field_that_was_approved_or_rejected(bench: EngineBench, case: str, format_: FormatType) -> None:
    has, brings, before, after, _ = NESTED[case]
    for name, value in (("a", has), ("b", brings), ("c", brings)):
        bench.land(name, lines({"o": value}) if format_ is FormatType.JSON else parquet(o=pa.array([value])))
    await bench.load("a", format=format_)
    change = ColumnChange("o", before, after)

    rejected = (await bench.load("b", format=format_, evolution=ASK, decisions=Decisions(rejected=(change,))))["b"]
    assert (rejected.status, rejected.rows_rescued, bench.columns()) == (LOADED, 1, {"o": before})
    approved = (await bench.load("c", format=format_, evolution=ASK, decisions=Decisions(approved=(change,))))["c"]

    assert (approved.status, approved.rows_rescued, bench.columns()) == (LOADED, 0, {"o": after})
    assert len([raw for raw in bench.rows("_rescued_data") if raw]) == 1


PROMOTIONS: dict[str, tuple[Any, Any, str, str]] = {
    "of a column": (pa.array([1], pa.int32()), pa.array([2**40], pa.int64()), "int", "long"),
    "in an object": (
        pa.array([{"a": 1}], pa.struct([("a", pa.int32())])),
        pa.array([{"a": 2**40}], pa.struct([("a", pa.int64())])),
        "struct<a: int>",
        "struct<a: long>",
    ),
    "in a list of objects": (
        pa.array([[{"a": 0.5}]], pa.list_(pa.struct([("a", pa.float32())]))),
        pa.array([[{"a": 0.1}]], pa.list_(pa.struct([("a", pa.float64())]))),
        "list<struct<a: float>>",
        "list<struct<a: double>>",
    ),
    "of a decimal in an object": (
        pa.array([{"a": 1}], pa.struct([("a", pa.decimal128(3, 1))])),
        pa.array([{"a": 1000}], pa.struct([("a", pa.decimal128(5, 1))])),
        "struct<a: decimal(3, 1)>",
        "struct<a: decimal(5, 1)>",
    ),
}


@pytest.mark.parametrize("evolution", list(SchemaEvolution))
@pytest.mark.parametrize("case", PROMOTIONS)
async def test_a_promotion(bench: EngineBench, case: str, evolution: SchemaEvolution) -> None:
    """Without leave for it, a value that does not fit is a bad row, and the policy for these decides; it is never bent."""
    has, brings, before, after = PROMOTIONS[case]
    bench.land("a", parquet(o=has))
    bench.land("b", parquet(o=brings))
    await bench.load("a", format=FormatType.PARQUET)

    outcome = (await bench.load("b", format=FormatType.PARQUET, evolution=evolution))["b"]

    assert outcome.status is {ADD: LOADED, ASK: NEEDS_APPROVAL}.get(evolution, FAILED)
    assert bench.columns() == {"o": after if evolution is ADD else before}
    if evolution is not ASK:
        return
    change = ColumnChange("o", before, after)
    assert outcome.needs == (change,)
    rejected = (await bench.load("b", format=FormatType.PARQUET, evolution=ASK, decisions=Decisions(rejected=(change,))))["b"]
    assert (rejected.status, bench.columns()) == (FAILED, {"o": before})
    assert 'column "o"' in (rejected.message or "")
    approved = (await bench.load("b", format=FormatType.PARQUET, evolution=ASK, decisions=Decisions(approved=(change,))))["b"]
    assert (approved.status, bench.columns()) == (LOADED, {"o": after})


async def test_nobody_is_asked_for_a_wider_type_whose_values_fit(bench: EngineBench) -> None:
    bench.land("a", parquet(i=pa.array([1], pa.int32())))
    await bench.load("a", format=FormatType.PARQUET)
    bench.land("fits", parquet(i=pa.array([2], pa.int64())))
    bench.land("new", parquet(i=pa.array([3], pa.int64()), x=pa.array(["y"])))

    outcomes = await bench.load("fits", "new", format=FormatType.PARQUET, evolution=ASK)

    assert (outcomes["fits"].status, bench.columns()) == (LOADED, {"i": "int"})
    assert outcomes["new"].needs == (ColumnChange("x", None, "string"),)


async def test_two_files_with_two_types_of_one_new_column(bench: EngineBench) -> None:
    bench.land("a", lines({"id": 1}))
    await bench.load("a")
    for name, value in {"number": 1, "fraction": 0.5, "text": "x"}.items():
        bench.land(name, lines({"id": 2, "v": value}))
    names = ("number", "fraction", "text")

    needs = {name: outcome.needs for name, outcome in (await bench.load(*names, evolution=ASK)).items()}

    as_long, as_double, as_text = (ColumnChange("v", None, type_) for type_ in ("long", "double", "string"))
    assert needs == {"number": (as_long,), "fraction": (as_double,), "text": (as_text,)}
    outcomes = await bench.load(*names, evolution=ASK, decisions=Decisions(approved=(as_long, as_double)))
    # What holds both is approved; text is nothing that a number becomes unasked.
    assert bench.columns() == {"id": "long", "v": "double"}
    assert [outcomes[name].status for name in names] == [LOADED, LOADED, FAILED]
    assert outcomes["text"].message == "Line 1: column \"v\": 'x' is not of type double."


async def test_of_approved_types_that_have_nothing_in_common_the_first_stays(bench: EngineBench) -> None:
    bench.land("a", lines({"id": 1}))
    await bench.load("a")
    bench.land("number", lines({"id": 2, "v": 1}))
    bench.land("flag", lines({"id": 3, "v": True}))
    approved = (ColumnChange("v", None, "boolean"), ColumnChange("v", None, "long"))

    outcomes = await bench.load("number", "flag", evolution=ASK, decisions=Decisions(approved=approved))

    assert bench.columns() == {"id": "long", "v": "boolean"}
    assert (outcomes["number"].status, outcomes["flag"].status) == (FAILED, LOADED)


async def test_files_that_bring_different_fields_of_one_new_object(bench: EngineBench) -> None:
    bench.land("a", lines({"id": 1}))
    await bench.load("a")
    bench.land("b", lines({"o": {"y": 1, "x": 1}}, {"o": {"x": 2, "y": None}}))
    bench.land("c", lines({"o": {"x": 1}}))
    whole, part = ColumnChange("o", None, "struct<x: long, y: long>"), ColumnChange("o", None, "struct<x: long>")

    outcomes = await bench.load("b", "c", evolution=ASK)
    assert (outcomes["b"].needs, outcomes["c"].needs) == ((whole,), (part,))
    # Whoever has rejected an object has rejected each of its fields.
    assert (await bench.load("c", evolution=ASK, decisions=Decisions(rejected=(whole,))))["c"].rows_rescued == 1
    outcomes = await bench.load("b", "c", evolution=ASK, decisions=Decisions(approved=(part,)))
    assert outcomes["b"].needs == (ColumnChange("o", "struct<x: long>", "struct<x: long, y: long>"),)
    outcomes = await bench.load("b", evolution=ASK, decisions=Decisions(approved=(part, whole)))
    assert (outcomes["b"].status, bench.columns()) == (LOADED, {"id": "long", "o": "struct<x: long, y: long>"})


async def test_what_many_files_need_is_kept_once(bench: EngineBench) -> None:
    bench.land("a", lines({"id": 1}))
    await bench.load("a")
    for name in "bc":
        bench.land(name, lines({f"c{number}": number for number in range(1_000)}))

    outcomes = await bench.load("b", "c", evolution=ASK)

    assert len(outcomes["b"].needs) == 1_000
    assert outcomes["b"].needs is outcomes["c"].needs


async def test_names_of_any_kind_survive_a_decision(bench: EngineBench) -> None:
    bench.land("a", lines({"id": 1}))
    await bench.load("a")
    bench.land("b", lines({"o": {"a:b": 1, "c, d": {"<e>": "x"}, 'f"g': 2, " h ": 3, "(i)": [{"j": 4}]}}))
    (change,) = (await bench.load("b", evolution=ASK))["b"].needs

    outcome = (await bench.load("b", evolution=ASK, decisions=Decisions(approved=(change,))))["b"]

    assert (outcome.status, bench.columns()["o"]) == (LOADED, change.after)
    assert bench.rows("o")[-1] == {"a:b": 1, "c, d": {"<e>": "x"}, 'f"g': 2, " h ": 3, "(i)": [{"j": 4}]}


@pytest.mark.parametrize("evolution", list(SchemaEvolution))
@pytest.mark.parametrize("format_", [FormatType.JSON, FormatType.CSV, FormatType.PARQUET])
async def test_reordered_and_missing_columns_are_no_change(bench: EngineBench, format_: FormatType, evolution: SchemaEvolution) -> None:
    def land(file: str, **columns: Any) -> None:
        if format_ is FormatType.PARQUET:
            bench.land(file, parquet(**{column: pa.array([value]) for column, value in columns.items()}))
        elif format_ is FormatType.CSV:
            bench.land(file, ",".join(columns) + "\n" + ",".join(map(str, columns.values())) + "\n")
        else:
            bench.land(file, lines(columns))

    land("a", id=1, name="x", n=5)
    await bench.load("a", format=format_)
    land("other-order", n=6, id=2, name="y")
    land("fewer", name="z", id=3)

    outcomes = await bench.load("other-order", "fewer", format=format_, evolution=evolution)

    assert {outcome.status for outcome in outcomes.values()} == {LOADED}
    assert bench.columns() == {"id": "long", "name": "string", "n": "long"}
    assert bench.rows("id", "name", "n") == [(1, "x", 5), (2, "y", 6), (3, "z", None)]


@pytest.mark.parametrize("evolution", list(SchemaEvolution))
@pytest.mark.parametrize("format_", [FormatType.JSON, FormatType.CSV, FormatType.PARQUET])
@pytest.mark.parametrize("where", ["in one file", "against the table"])
async def test_names_that_differ_in_case_alone(bench: EngineBench, where: str, format_: FormatType, evolution: SchemaEvolution) -> None:
    """What can only be one column is never two, and no value goes under the other name in silence."""

    def land(file: str, **columns: int) -> None:
        if format_ is FormatType.PARQUET:
            bench.land(file, parquet(**{column: pa.array([value]) for column, value in columns.items()}))
        elif format_ is FormatType.CSV:
            bench.land(file, ",".join(columns) + "\n" + ",".join(map(str, columns.values())) + "\n")
        else:
            bench.land(file, lines(columns))

    land("a", id=1)
    await bench.load("a", format=format_)
    land("b", **({"id": 2, "ID": 3} if where == "in one file" else {"ID": 3}))

    outcome = (await bench.load("b", format=format_, evolution=evolution))["b"]

    assert (outcome.status, bench.columns(), bench.rows("id")) == (FAILED, {"id": "long"}, [1])
    assert outcome.message == 'The columns "id" and "ID" differ only in case, which a table cannot hold: rename one.'


@pytest.mark.parametrize("evolution", [ADD, ASK])
async def test_names_that_differ_in_case_alone_across_files(bench: EngineBench, evolution: SchemaEvolution) -> None:
    bench.land("a", lines({"id": 1}))
    await bench.load("a")
    bench.land("lower", lines({"id": 2, "extra": 1}))
    bench.land("upper", lines({"id": 3, "Extra": 1}))

    outcomes = await bench.load("lower", "upper", evolution=evolution)

    lower, upper = ColumnChange("extra", None, "long"), ColumnChange("Extra", None, "long")
    if evolution is ADD:
        assert sorted(outcome.status for outcome in outcomes.values()) == [FAILED, LOADED]
        return
    assert (outcomes["lower"].needs, outcomes["upper"].needs) == ((lower,), (upper,))
    outcomes = await bench.load("upper", "lower", evolution=ASK, decisions=Decisions(approved=(lower, upper)))
    assert (outcomes["lower"].status, outcomes["upper"].status) == (LOADED, FAILED)
    assert bench.columns() == {"id": "long", "extra": "long"}


@pytest.mark.parametrize("evolution", list(SchemaEvolution))
@pytest.mark.parametrize("where", ["in one row", "in one file", "against the table", "across files"])
@pytest.mark.parametrize("format_", [FormatType.JSON, FormatType.PARQUET])
async def test_fields_that_differ_in_case_alone(bench: EngineBench, format_: FormatType, where: str, evolution: SchemaEvolution) -> None:
    """Nested as at the top: the file that would bring the second one fails, and says so."""

    def land(name: str, *values: dict[str, int]) -> None:
        if format_ is FormatType.JSON:
            bench.land(name, lines({"id": 1}, *({"o": value} for value in values)))
        else:
            names = list(dict.fromkeys(key for value in values for key in value))
            type_ = pa.struct([(field, pa.int64()) for field in names])
            arrays = [pa.array([value.get(field) for value in values], pa.int64()) for field in names]
            bench.land(name, parquet(o=pa.StructArray.from_arrays(arrays, fields=list(type_))))

    land("a", {"a": 1})
    await bench.load("a", format=format_)
    outcomes: dict[str, FileOutcome] = {}
    if where == "in one row":
        land("b", {"a": 1, "A": 2})
    elif where == "in one file":
        land("b", {"b": 1}, {"B": 2})
    elif where == "against the table":
        land("b", {"A": 2})
    else:
        land("b", {"B": 1})
        land("c", {"b": 1})
    outcomes = await bench.load(*(["b", "c"] if where == "across files" else ["b"]), format=format_, evolution=evolution)
    if where == "across files":
        assert (
            sorted(outcome.status for outcome in outcomes.values())
            == {
                ADD: [FAILED, LOADED],
                RESCUE: [LOADED, LOADED],
                FAIL: [FAILED, FAILED],
                IGNORE: [LOADED, LOADED],
                ASK: [NEEDS_APPROVAL, NEEDS_APPROVAL],
            }[evolution]
        )
        return
    assert outcomes["b"].status is FAILED
    assert "differ only in case" in (outcomes["b"].message or "")
    assert bench.columns() == {**({"id": "long"} if format_ is FormatType.JSON else {}), "o": "struct<a: long>"}


@pytest.mark.parametrize("evolution", list(SchemaEvolution))
@pytest.mark.parametrize("value", ["x", [1], {"a": 1}, True])
async def test_a_type_conflict_is_rescued_or_fails_and_never_bent(bench: EngineBench, evolution: SchemaEvolution, value: Any) -> None:
    bench.land("a", lines({"n": 1}))
    await bench.load("a")
    bench.land("b", lines({"n": value}))

    failed = (await bench.load("b", evolution=evolution))["b"]
    rescued = (await bench.load("b", evolution=evolution, bad_rows=BadRowPolicy.RESCUE))["b"]

    assert (failed.status, rescued.status, rescued.rows_rescued) == (FAILED, LOADED, 1)
    assert bench.columns() == {"n": "long"}
    assert bench.rows("n") == [1, None]
