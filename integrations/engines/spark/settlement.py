"""Which rows and files of the frames go into the table: the policies, applied and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql.connect import functions as F

from domain.ingestions.entities import BadRowPolicy, SchemaEvolution
from domain.ports.engine import RESCUED_DATA_COLUMN
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.column_decisions import without_a_place
from integrations.engines.embedded.column_types import describe
from integrations.engines.embedded.parts import INTERNAL_PREFIX
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.spark.frames import PLACE, PROBLEM, RAW, URI, Frame, Frames, SparkSource
from integrations.engines.spark.types import identifier, literal, sql_type

_SURPLUS = f"{INTERNAL_PREFIX}surplus"


@dataclass(frozen=True, slots=True)
class _Typed:
    """A frame's SQL under the target columns; `bad` and `surplus` are conditions on a row, None for never.

    `misfits` tells of each column when it makes a row bad, and of `PROBLEM`.
    """

    values: dict[str, str]
    misfits: dict[str, str]
    bad: str | None
    surplus: str | None
    complaint: str
    surplus_names: str


def _typed(frame: Frame, target: TargetColumns, rules: RowRules) -> _Typed:
    columns = target.columns
    values, misfits, surplus, names = {}, {PROBLEM: f"{PROBLEM} IS NOT NULL"}, [], []
    complaints = [PROBLEM]
    for name, type_ in frame.types.items():
        column = frame.columns[name]
        if name not in columns:
            there = f"NOT {frame.is_null.format(column)}"
            surplus.append(there)
            names.append(f"CASE WHEN {there} THEN {literal(name)} END")
            continue
        cast = frame.cast(column, type_, columns[name], name in target.hints)
        values[name] = cast.value
        if cast.fits:
            misfits[name] = f"NOT {cast.fits}"
            label, wanted = f'column "{name}": ', f" is not of type {describe(columns[name])}"
            text = f"concat({literal(label)}, left(CAST({column} AS STRING), 40), {literal(wanted)})"
            complaints.append(f"CASE WHEN NOT {cast.fits} THEN {text} END")
        if cast.surplus:
            surplus.append(cast.surplus)
            names.append(f"CASE WHEN {cast.surplus} THEN {literal(name)} END")
    if frame.surplus:
        surplus.append(frame.surplus)
    if rules.evolution is SchemaEvolution.IGNORE:
        surplus = []
    elif rules.evolution is SchemaEvolution.ADD_NEW_COLUMNS and surplus:
        # Whatever could be added has been: what is left stands against a pinned type.
        misfits[_SURPLUS] = " OR ".join(surplus)
        complaints.append(f"CASE WHEN {_any(surplus)} THEN concat('fields that the pinned type does not have: ', {_joined(names)}) END")
        surplus = []
    return _Typed(values, misfits, _any(list(misfits.values())), _any(surplus), _joined(complaints), _joined(names))


def _any(conditions: Sequence[str]) -> str | None:
    return f"({' OR '.join(conditions)})" if conditions else None


def _joined(texts: Sequence[str]) -> str:
    return f"concat_ws(', ', {', '.join(texts)})" if texts else "''"


def _rescued_when(typed: _Typed, rules: RowRules) -> str | None:
    """The rows that are stored with their raw text."""
    if rules.bad_rows is BadRowPolicy.RESCUE:
        return _any([condition for condition in (typed.bad, typed.surplus) if condition])
    if typed.surplus and typed.bad:
        return f"({typed.surplus} AND NOT {typed.bad})"
    return typed.surplus


def _doubtful(frame: Frame, typed: _Typed) -> bool:
    """Whether any row may be bad or hold more than the columns: without, nobody has to look."""
    return not frame.clean or typed.surplus is not None or typed.bad != f"({PROBLEM} IS NOT NULL)"


def settle(source: SparkSource, frames: Frames, files: Sequence[LoadFile], target: TargetColumns, rules: RowRules) -> bool:
    """Count the rows of the open files under the policies, and fail or hold files; whether any has been left out."""
    left = False
    for file in files:
        file.rows_skipped = file.rows_rescued = 0
    for frame in frames.frames(files):
        typed = _typed(frame, target, rules)
        if not _doubtful(frame, typed):
            continue
        by_index = {file.index: file for file in frame.files}
        counted = (
            frame.rows.groupBy(URI)
            .agg(
                F.expr(f"count_if({typed.bad or 'false'})").alias("bad"),
                F.expr(f"count_if({typed.surplus or 'false'})").alias("surplus"),
                F.expr(f"count_if({_rescued_when(typed, rules) or 'false'})").alias("rescued"),
            )
            .toArrow()
            .to_pylist()
        )
        found = {source.index_of(row[URI]): row for row in counted}
        asking = [file for file in frame.files if file.asks_for and _has_misfits(found.get(file.index))]
        misfits = _misfits(source, frames, asking, target, rules)
        new, complaining = [], {}
        for index, row in found.items():
            file = by_index[index]
            needs = without_a_place(file.asks_for, misfits[index].__contains__) if index in misfits else ()
            bad_anyway = needs and misfits[index] - {change.column for change in needs}
            if needs and not (rules.bad_rows is BadRowPolicy.FAIL_FILE and bad_anyway):
                file.hold(needs)
                left = True
            elif row["surplus"] and rules.evolution is SchemaEvolution.FAIL_ON_NEW_COLUMNS:
                new.append(file)
            elif row["bad"] and rules.bad_rows is BadRowPolicy.FAIL_FILE:
                complaining[file.index] = row["bad"]
            else:
                file.rows_skipped = row["bad"] if rules.bad_rows is BadRowPolicy.SKIP_ROW else 0
                file.rows_rescued = row["rescued"]
        left = left or bool(new or complaining)
        _fail_for_new_columns(source, frame, typed, new)
        _fail_for_bad_rows(source, frames, [file for file in frame.files if file.index in complaining], complaining, target, rules)
    return left


def _has_misfits(counts: Mapping[str, int] | None) -> bool:
    return counts is not None and bool(counts["bad"] or counts["surplus"])


def _misfits(
    source: SparkSource, frames: Frames, files: Sequence[LoadFile], target: TargetColumns, rules: RowRules
) -> dict[int, frozenset[str]]:
    """Of each of the files, by index, the columns that make a row of it bad, and `PROBLEM`."""
    found: dict[int, frozenset[str]] = {}
    for frame in frames.frames(files):
        conditions = _typed(frame, target, rules).misfits
        any_row = [F.expr(f"bool_or({condition})").alias(f"misfit_{place}") for place, condition in enumerate(conditions.values())]
        for row in frame.rows.groupBy(URI).agg(*any_row).toArrow().to_pylist():
            names = (name for place, name in enumerate(conditions) if row[f"misfit_{place}"])
            found[source.index_of(row[URI])] = frozenset(names)
    return found


def _fail_for_new_columns(source: SparkSource, frame: Frame, typed: _Typed, files: Sequence[LoadFile]) -> None:
    if not files:
        return
    names = f"sort_array(array_distinct(flatten(collect_set(split({typed.surplus_names}, ', ')) FILTER (WHERE {typed.surplus}))))"
    for row in frame.rows.groupBy(URI).agg(F.expr(names).alias("names")).toArrow().to_pylist():
        index = source.index_of(row[URI])
        for file in (file for file in files if file.index == index):
            shown = ", ".join(f'"{name}"' for name in row["names"][:20])
            file.fail(f"The file has columns that the table does not have: {shown}.")


def _fail_for_bad_rows(
    source: SparkSource, frames: Frames, files: Sequence[LoadFile], bad: dict[int, int], target: TargetColumns, rules: RowRules
) -> None:
    """Read those files again, to tell the first bad row of each."""
    for frame in frames.frames(files, numbered=True):
        typed = _typed(frame, target, rules)
        first = frame.rows.where(typed.bad or "false").selectExpr(URI, PLACE, f"{typed.complaint} AS complaint")
        told = first.groupBy(URI).agg(F.expr(f"min({PLACE})").alias("number"), F.expr(f"min_by(complaint, {PLACE})").alias("complaint"))
        by_index = {file.index: file for file in frame.files}
        for row in told.toArrow().to_pylist():
            file = by_index[source.index_of(row[URI])]
            others = bad[file.index] - 1
            more = f" ({others} more bad {'row' if others == 1 else 'rows'}.)" if others else ""
            file.fail(f"{frame.unit} {row['number']}: {row['complaint']}.{more}")
    for file in files:
        if file.is_open:
            file.fail("The file changed while it was being read.", transient=True)


def stored_rows(frame: Frame, target: TargetColumns, rules: RowRules) -> DataFrame:
    """The rows to be stored: the target's columns, perhaps `_rescued_data`, and `URI`."""
    typed = _typed(frame, target, rules)
    selected = [
        f"{typed.values.get(name, f'CAST(NULL AS {sql_type(type_)})')} AS {identifier(name)}" for name, type_ in target.columns.items()
    ]
    if rules.rescues:
        rescued = _rescued_when(typed, rules) or "false"
        selected.append(f"CASE WHEN {rescued} THEN {RAW} END AS {RESCUED_DATA_COLUMN}")
    rows = frame.rows
    if typed.bad and rules.bad_rows is BadRowPolicy.SKIP_ROW:
        rows = rows.where(f"NOT {typed.bad}")
    return rows.selectExpr(*selected, URI)
