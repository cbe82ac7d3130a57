"""Which rows and files of the parts go into the table: the policies, applied and counted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import duckdb

from domain.ingestions.entities import BadRowPolicy, SchemaEvolution
from domain.ports.engine import RESCUED_DATA_COLUMN, ColumnChange
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.casts import cast
from integrations.engines.embedded.column_decisions import without_a_place
from integrations.engines.embedded.column_types import describe, identifier, literal, sql_type
from integrations.engines.embedded.parts import FILE, LINE, PROBLEM, RAW, SURPLUS, Part
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.embedded.type_merging import missing_fields


@dataclass(frozen=True, slots=True)
class _TypedPart:
    """A part's SQL under the target columns; `bad` and `surplus` are conditions on a row, None for never.

    `complaint` is what is wrong with a bad row, `surplus_names` what it has too much; `misfits` tells of each column when it
    makes a row bad, and of `PROBLEM`.
    """

    part: Part
    values: dict[str, str]
    misfits: dict[str, str]
    bad: str | None
    surplus: str | None
    complaint: str
    surplus_names: str


def _typed(part: Part, target: TargetColumns, rules: RowRules, *, sure: bool = False) -> _TypedPart:
    """`sure` when every row that will be taken is known to fit."""
    columns = target.columns
    values, misfits, surplus, names, complaints = {}, {}, [], [], []
    if part.careful:
        misfits[PROBLEM] = f"{PROBLEM} IS NOT NULL"
        complaints.append(PROBLEM)
        surplus.append(f"{SURPLUS} IS NOT NULL")
        names.append(SURPLUS)
    for name, type_ in part.types.items():
        column = identifier(name)
        if name not in columns:
            surplus.append(f"{column} IS NOT NULL")
            names.append(f"CASE WHEN {column} IS NOT NULL THEN {literal(name)} END")
            continue
        typed = cast(column, type_, columns[name], text=not part.typed or name in target.hints)
        values[name] = (typed.sure or typed.value) if sure else typed.value
        if typed.fits:
            misfits[name] = f"NOT {typed.fits}"
            label, wanted = f'column "{name}": ', f" is not of type {describe(columns[name])}"
            text = f"{literal(label)} || left(CAST({column} AS VARCHAR), 40) || {literal(wanted)}"
            complaints.append(f"CASE WHEN NOT {typed.fits} THEN {text} END")
        if typed.surplus:
            surplus.append(typed.surplus)
            missing = ", ".join(missing_fields(type_, columns[name], name)) or name
            names.append(f"CASE WHEN {typed.surplus} THEN {literal(missing)} END")
    if rules.evolution is SchemaEvolution.IGNORE:
        surplus = []
    elif rules.evolution is SchemaEvolution.ADD_NEW_COLUMNS and surplus:
        # Whatever could be added has been: what is left stands against a pinned type.
        misfits[SURPLUS] = " OR ".join(surplus)
        complaints.append(f"CASE WHEN {_any(surplus)} THEN 'fields that the pinned type does not have: ' || {_joined(names)} END")
        surplus = []
    return _TypedPart(part, values, misfits, _any(list(misfits.values())), _any(surplus), _joined(complaints), _joined(names))


def _any(conditions: Sequence[str]) -> str | None:
    return f"({' OR '.join(conditions)})" if conditions else None


def _joined(texts: Sequence[str]) -> str:
    return f"concat_ws(', ', {', '.join(texts)})" if texts else "''"


class Settlement:
    """Settles parts one after another; then writes the statement for what is to be stored."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, target: TargetColumns, rules: RowRules) -> None:
        self._connection = connection
        self._target = target
        self._rules = rules
        self._settled: list[tuple[Part, frozenset[int]]] = []

    def settle(self, part: Part, doubtful: Collection[int] = ()) -> list[LoadFile]:
        """Count the part's rows into its files under the policies. Returns the files to be read again carefully.

        The `doubtful` will be read again anyway: their rows in this part do not count.
        """
        typed = _typed(part, self._target, self._rules)
        again: list[LoadFile] = []
        if typed.bad or typed.surplus:
            by_index = {file.index: file for file in part.files}
            for index, rows, bad, surplus, either in self._counts(typed):
                file = by_index[index]
                if index in doubtful:
                    continue
                if not part.careful and (bad or surplus):
                    again.append(file)
                elif file.is_open:
                    self._settle_file(typed, file, rows, bad, surplus, either)
        self._settled.append((part, frozenset(file.index for file in again) | frozenset(doubtful)))
        return again

    def _counts(self, typed: _TypedPart) -> list[tuple[int, int, int, int, int]]:
        bad, surplus = typed.bad or "false", typed.surplus or "false"
        rescued = self._rescued_when(typed) or "false"
        return self._connection.execute(
            f"SELECT {FILE}, count(*), count(*) FILTER ({bad}), count(*) FILTER ({surplus}), count(*) FILTER ({rescued})"
            f" FROM {typed.part.relation} GROUP BY ALL"
        ).fetchall()

    def _settle_file(self, typed: _TypedPart, file: LoadFile, rows: int, bad: int, surplus: int, rescued: int) -> None:
        needs = without_a_place(file.asks_for, partial(self._does_not_fit, typed, file)) if bad or surplus else ()
        if needs and not (self._rules.bad_rows is BadRowPolicy.FAIL_FILE and bad and self._is_bad_anyway(typed, file, needs)):
            file.hold(needs)
        elif surplus and self._rules.evolution is SchemaEvolution.FAIL_ON_NEW_COLUMNS:
            file.fail(f"The file has columns that the table does not have: {self._surplus_names(typed, file)}.")
        elif bad and self._rules.bad_rows is BadRowPolicy.FAIL_FILE:
            file.fail(self._complaint(typed, file, bad))
        else:
            file.rows_skipped += bad if self._rules.bad_rows is BadRowPolicy.SKIP_ROW else 0
            file.rows_rescued += rescued

    def _does_not_fit(self, typed: _TypedPart, file: LoadFile, column: str) -> bool:
        return column in typed.misfits and self._has(typed, file, typed.misfits[column])

    def _is_bad_anyway(self, typed: _TypedPart, file: LoadFile, needs: Sequence[ColumnChange]) -> bool:
        """Whether a row of the file stays bad, whatever is decided."""
        changed = {change.column for change in needs}
        others = _any([condition for name, condition in typed.misfits.items() if name not in changed])
        return others is not None and self._has(typed, file, others)

    def _has(self, typed: _TypedPart, file: LoadFile, condition: str) -> bool:
        query = f"SELECT 1 FROM {typed.part.relation} WHERE {FILE} = {file.index} AND ({condition}) LIMIT 1"
        return bool(self._connection.execute(query).fetchall())

    def _rescued_when(self, typed: _TypedPart) -> str | None:
        """The rows that are stored with their raw text."""
        if self._rules.bad_rows is BadRowPolicy.RESCUE:
            return _any([condition for condition in (typed.bad, typed.surplus) if condition])
        if typed.surplus and typed.bad:
            return f"({typed.surplus} AND NOT {typed.bad})"
        return typed.surplus

    def _complaint(self, typed: _TypedPart, file: LoadFile, bad: int) -> str:
        row = self._connection.execute(
            f"SELECT {LINE}, {typed.complaint} FROM {typed.part.relation}"
            f" WHERE {FILE} = {file.index} AND {typed.bad} ORDER BY {LINE} LIMIT 1"
        ).fetchall()[0]
        others = f" ({bad - 1} more bad {'row' if bad == 2 else 'rows'}.)" if bad > 1 else ""
        return f"{typed.part.unit} {row[0]}: {row[1]}.{others}"

    def _surplus_names(self, typed: _TypedPart, file: LoadFile) -> str:
        rows = self._connection.execute(
            f"SELECT DISTINCT {typed.surplus_names} FROM {typed.part.relation} WHERE {FILE} = {file.index} AND {typed.surplus} LIMIT 20"
        ).fetchall()
        texts = {name.strip('[]" ') for (text,) in rows for name in text.split(",")}
        return ", ".join(f'"{name}"' for name in sorted(texts))

    def drop_columns_of_left_files(self) -> None:
        """Take back new columns that only files brought of which nothing is stored."""
        fresh = [name for name in self._target.columns if self._target.is_new(name)]
        if not fresh:
            return
        kept: set[str] = set()
        for part, excluded in self._settled:
            files = [file for file in part.files if file.is_open and file.index not in excluded]
            if not files:
                continue
            if part.brought:
                kept.update(*(part.brought[file.index] for file in files))
                continue
            names = [name for name in fresh if name in part.types and name not in kept]
            if names:
                counted = ", ".join(f"count({identifier(name)})" for name in names)
                where = f"WHERE {FILE} IN ({', '.join(str(file.index) for file in files)})"
                counts = self._connection.execute(f"SELECT {counted} FROM {part.relation} {where}").fetchall()[0]
                kept.update(name for name, count in zip(names, counts, strict=True) if count)
        self._target.drop([name for name in fresh if name not in kept])

    def statement(self, *, rescue_column: bool) -> str:
        """The rows to be stored: the target's columns, perhaps `_rescued_data`, and `FILE`."""
        selects = [select for part, excluded in self._settled if (select := self._select(part, excluded, rescue_column))]
        return " UNION ALL ".join(selects)

    def _select(self, part: Part, excluded: frozenset[int], rescue_column: bool) -> str | None:
        if not any(file.is_open and file.index not in excluded for file in part.files):
            return None
        columns = self._target.columns
        # In a part that was read quickly, a row that does not fit has sent its file to the careful reader.
        typed = _typed(part, self._target, self._rules, sure=not part.careful)
        values = [f"{typed.values.get(name, f'CAST(NULL AS {sql_type(type_)})')} AS {identifier(name)}" for name, type_ in columns.items()]
        if rescue_column:
            rescued = self._rescued_when(typed) if part.careful else None
            raw = f"CASE WHEN {rescued} THEN {RAW} END" if rescued else "CAST(NULL AS VARCHAR)"
            values.append(f"{raw} AS {RESCUED_DATA_COLUMN}")
        unwanted = sorted(file.index for file in part.files if file.index in excluded or not file.is_open)
        conditions = [f"{FILE} NOT IN ({', '.join(map(str, unwanted))})"] if unwanted else []
        if typed.bad and part.careful and self._rules.bad_rows is BadRowPolicy.SKIP_ROW:
            conditions.append(f"NOT {typed.bad}")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {', '.join([*values, FILE])} FROM {part.relation}{where}"
