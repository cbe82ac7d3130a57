"""JSON files as frames: each line, or each element of an array, becomes a variant, which loses nothing."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.connect import functions as F

from domain.ingestions.entities import BadRowPolicy
from domain.ingestions.formats import JsonLayout, JsonOptions
from integrations.engines.embedded.batch_files import LoadFile, excerpt
from integrations.engines.embedded.casts import Cast
from integrations.engines.embedded.column_types import BOOLEAN, DOUBLE, LONG, NULL, STRING, is_struct, struct_fields
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import ColumnNamesError, TargetColumns
from integrations.engines.embedded.type_merging import storable, unify
from integrations.engines.spark.casts import from_variant
from integrations.engines.spark.frames import NUMBERED_SQL, PLACE, PROBLEM, RAW, URI, Frame, MakeCast, SparkSource
from integrations.engines.spark.types import DoubleFields, double_fields, from_variants, identifier, literal, sql_type

ROW = "__autoloader_row"
PARSED = "__autoloader_parsed"
_FIELDS = "__autoloader_fields"
_TYPED = "__autoloader_typed"
_BOM = "\ufeff"
_END = secrets.token_hex(8)
"""Follows each line into the parser, which would pass over whatever comes after the first value. No line can know it."""
_SAME_IN_BOTH = frozenset({LONG, BOOLEAN, STRING})
"""Types as which Spark's own JSON parser reads each value of that type exactly as the variant's does, and sooner. Doubles as well, where
they are sure."""
_LONG_NUMBER = r"(^|[^0-9.])[0-9]{16}"
"""Whole numbers that a double may not hold have so many digits."""
_BARE_SQL = f"CASE WHEN startswith({RAW}, '{_BOM}') THEN substr({RAW}, 2) ELSE {RAW} END"
PARSED_SQL = f"try_parse_json(concat('[', {_BARE_SQL}, ',\"{_END}\"]'))"
WHOLE_SQL = f"try_variant_get({PARSED}, '$[1]', 'string') = '{_END}'"
KEPT_SQL = f"trim(BOTH ' \\t\\r\\n' FROM {RAW})"
"""What is kept and told of a bad row: its text, without what is around it."""
FILLED_SQL = f"trim(BOTH ' \\t\\r\\n\\f{_BOM}' FROM {RAW}) <> ''"


@dataclass(frozen=True, slots=True)
class _Survey:
    """What one file holds. `names` are the first row's, in its order.

    `mixed` says that a field may hold values of several types.
    """

    rows: int
    bad: int
    first_bad: str | None
    first_bad_place: int | None
    last_is_bad: bool
    not_utf8: int
    type: pa.DataType | None
    mixed: bool
    doubles: DoubleFields
    names: Sequence[str]
    opens_array: bool


class JsonFrames:
    """Surveys the files first; then gives frames of those that are open."""

    def __init__(self, source: SparkSource, options: JsonOptions, rules: RowRules) -> None:
        self._source = source
        self._options = options
        self._rules = rules
        self._arrays: set[int] = set()
        self._types: dict[int, dict[str, pa.DataType]] = {}
        self._sure_doubles: dict[int, frozenset[str]] = {}
        self._clean: set[int] = set()
        """Whose rows are all objects."""
        self._regular: set[int] = set()
        """Of which, besides, every value is of its field's type."""

    def survey(self, files: Sequence[LoadFile]) -> None:
        if self._options.layout is JsonLayout.ARRAY:
            self._arrays |= {file.index for file in files}
        lines = [file for file in files if file.index not in self._arrays]
        if lines:
            found = self._look(self._lines(lines))
            if self._options.layout is JsonLayout.AUTO:
                self._arrays |= {index for index, survey in found.items() if survey.opens_array}
            lines = [file for file in lines if file.index not in self._arrays]
            if doubtful := [file for file in lines if file.index in found and found[file.index].bad]:
                found |= self._look(self._lines(doubtful, numbered=True), numbered=True)
            cut = self._source.unended([file for file in lines if file.index in found and found[file.index].last_is_bad])
            self._judge_all(lines, found, "Line", cut=cut)
        if arrays := [file for file in files if file.index in self._arrays]:
            self._judge_all(arrays, self._look(self._elements(arrays), numbered=True), "Row")

    def offer(self, files: Sequence[LoadFile], target: TargetColumns) -> None:
        for file in files:
            if not file.is_open:
                continue
            # Objects of nothing but nulls say as little of a column as nulls do.
            types = {name: NULL if storable(type_) is None else type_ for name, type_ in self._types[file.index].items()}
            try:
                target.check_names(list(types))
                target.offer(types)
                file.asks_for = target.needs(types)
            except ColumnNamesError as error:
                file.fail(str(error))

    def frames(self, files: Sequence[LoadFile], *, numbered: bool = False) -> list[Frame]:
        made = []
        for unit, arrays in (("Line", False), ("Row", True)):
            some = [file for file in files if file.is_open and (file.index in self._arrays) is arrays]
            if some:
                made.append(self._frame(self._elements(some) if arrays else self._lines(some, numbered=numbered), some, unit))
        return made

    def _frame(self, rows: DataFrame, files: Sequence[LoadFile], unit: str) -> Frame:
        types: dict[str, pa.DataType] = {}
        for file in files:
            for name, type_ in self._types[file.index].items():
                types[name] = unify(types[name], type_) if name in types else type_
        struct = _struct(dict.fromkeys(types, "variant"))
        problem = f"CASE WHEN {ROW} IS NULL OR NOT startswith(schema_of_variant({ROW}), 'OBJECT<') THEN 'it is not a JSON object' END"
        fields = f"try_variant_get({ROW}, '$', {literal(struct)})"
        columns = {name: f"{_FIELDS}.{identifier(name)}" for name in types}
        computed = [f"{problem} AS {PROBLEM}", f"{fields} AS {_FIELDS}"]
        # What nobody has to look at each value of.
        plain = {columns[name]: f"try_variant_get({columns[name]}, '$', 'double')" for name in self._doubles(files, types)}
        if regular := self._read_alike(files, types):
            # In a mode in which it says so, should it ever not understand what the other parser did.
            parsed = f"from_json({_BARE_SQL}, {literal(_struct(regular))}, map('mode', 'FAILFAST'))"
            computed.append(f"{parsed} AS {_TYPED}")
            plain |= {columns[name]: f"{_TYPED}.{identifier(name)}" for name in regular}
        rows = rows.selectExpr(URI, PLACE, f"{KEPT_SQL} AS {RAW}", *computed)
        clean = all(file.index in self._clean for file in files)
        return Frame(rows, files, types, columns, _casts(plain), "({0} IS NULL OR is_variant_null({0}))", unit, clean=clean)

    def _read_alike(self, files: Sequence[LoadFile], types: Mapping[str, pa.DataType]) -> dict[str, str]:
        """The columns, with their types in SQL, that both parsers read alike in each of the files."""
        if any(file.index not in self._regular for file in files):
            return {}
        alike = self._doubles(files, types)
        for name, type_ in types.items():
            if type_ in _SAME_IN_BOTH and all(self._types[file.index].get(name, NULL) in {NULL, type_} for file in files):
                alike.add(name)
        return {name: sql_type(types[name]) for name in types if name in alike}

    def _doubles(self, files: Sequence[LoadFile], types: Mapping[str, pa.DataType]) -> set[str]:
        """The columns of which a double holds every value of each of the files."""
        doubles = {name for name, type_ in types.items() if type_ == DOUBLE}
        for file in files:
            doubles -= self._types[file.index].keys() - self._sure_doubles[file.index]
        return doubles

    def _lines(self, files: Sequence[LoadFile], *, numbered: bool = False) -> DataFrame:
        rows = self._source.text(files)
        if numbered:
            rows = rows.selectExpr(URI, f"{NUMBERED_SQL} AS {PLACE}", RAW)
        return (
            rows.where(FILLED_SQL)
            .selectExpr("*", f"{PARSED_SQL} AS {PARSED}")
            .selectExpr(URI, PLACE, RAW, f"CASE WHEN {WHOLE_SQL} THEN variant_get({PARSED}, '$[0]', 'variant') END AS {ROW}")
        )

    def _elements(self, files: Sequence[LoadFile]) -> DataFrame:
        """The elements of each file's array; one row without a value for a file that is none."""
        elements = f"CASE WHEN {WHOLE_SQL} THEN try_variant_get({PARSED}, '$[0]', 'array<variant>') END"
        each = f"transform(coalesce({elements}, array(CAST(NULL AS VARIANT))), (e, n) -> struct(e, n))"
        return (
            self._source.whole(files)
            .where(FILLED_SQL)
            .selectExpr(URI, f"{PARSED_SQL} AS {PARSED}")
            .selectExpr(URI, f"explode({each}) AS element")
            .selectExpr(URI, f"CAST(element.n + 1 AS BIGINT) AS {PLACE}", f"to_json(element.e) AS {RAW}", f"element.e AS {ROW}")
        )

    def _look(self, rows: DataFrame, *, numbered: bool = False) -> dict[int, _Survey]:
        bad = f"({ROW} IS NULL)"
        surveyed = rows.groupBy(URI).agg(*_columns(bad, numbered=numbered)).toArrow().to_pylist()
        mixed = [row for row in surveyed if row["nulls"] or not (row["type"] or "OBJECT<").startswith("OBJECT<")]
        if mixed:
            # Some rows are JSON and no objects.
            kept = f"{ROW} IS NOT NULL AND startswith(schema_of_variant({ROW}), 'OBJECT<')"
            uris = ", ".join(literal(row[URI]) for row in mixed)
            strict = rows.where(f"{URI} IN ({uris})").selectExpr(URI, PLACE, RAW, f"CASE WHEN {kept} THEN {ROW} END AS {ROW}")
            again = {row[URI]: row for row in strict.groupBy(URI).agg(*_columns(bad, numbered=numbered)).toArrow().to_pylist()}
            surveyed = [again.get(row[URI], row) for row in surveyed]
        return {self._source.index_of(row[URI]): _survey(row) for row in surveyed}

    def _judge_all(self, files: Sequence[LoadFile], found: Mapping[int, _Survey], unit: str, *, cut: Collection[int] = ()) -> None:
        """`cut` are the files that end in the middle of a line."""
        long = self._with_long_numbers([file for file in files if file.index in found and found[file.index].doubles.unless_long], unit)
        filled = self._filled([file for file in files if file.index not in found and file.index in self._arrays])
        for file in files:
            if file.index in found:
                doubles = found[file.index].doubles
                self._sure_doubles[file.index] = doubles.sure if file.index in long else doubles.sure | doubles.unless_long
                self._judge(file, found[file.index], unit, cut_short=file.index in cut)
            elif file.index in filled:
                # An array without elements is content, too.
                self._types[file.index], self._sure_doubles[file.index] = {}, frozenset()
            else:
                file.empty = True

    def _filled(self, files: Sequence[LoadFile]) -> set[int]:
        """Those of the files that hold more than white space."""
        if not files:
            return set()
        lines = self._source.text(files).where(FILLED_SQL).select(URI).distinct()
        return {self._source.index_of(row[URI]) for row in lines.toArrow().to_pylist()}

    def _with_long_numbers(self, files: Sequence[LoadFile], unit: str) -> set[int]:
        """Those of the files in which a whole number may be more than a double holds."""
        if not files:
            return set()
        rows = self._elements(files) if unit == "Row" else self._lines(files)
        counted = rows.groupBy(URI).agg(F.expr(f"count_if({RAW} RLIKE {literal(_LONG_NUMBER)})").alias("long"))
        return {self._source.index_of(row[URI]) for row in counted.toArrow().to_pylist() if row["long"]}

    def _judge(self, file: LoadFile, found: _Survey, unit: str, *, cut_short: bool) -> None:
        file.rows_read = found.rows
        if not found.bad:
            self._clean.add(file.index)
            # An element of an array has no text of its own that could be parsed.
            if unit == "Line" and not found.mixed:
                self._regular.add(file.index)
        types = struct_fields(found.type) if found.type is not None and is_struct(found.type) else {}
        self._types[file.index] = {name: types[name] for name in [*found.names, *types] if name in types}
        complaint = f"{unit} {found.first_bad_place}: it is not a JSON object: {excerpt(found.first_bad or '')}"
        if found.not_utf8:
            file.fail(f"The file is not UTF-8 in {found.not_utf8} {'line' if found.not_utf8 == 1 else 'lines'}.")
        elif found.bad == found.rows:
            file.fail("The file holds no array of JSON objects." if unit == "Row" else f"The file holds no JSON object. {complaint}")
        elif cut_short:
            file.fail(f"The file is truncated: it ends in the middle of a row. {complaint}")
        elif found.bad and self._rules.bad_rows is BadRowPolicy.FAIL_FILE:
            more = f" ({found.bad - 1} more bad {'row' if found.bad == 2 else 'rows'}.)" if found.bad > 1 else ""
            file.fail(complaint + more)


def _casts(plain: Mapping[str, str]) -> MakeCast:
    """`plain` has by a variant's SQL that of the value as the type that was read, where every one of them is of it."""

    def cast(value: str, observed: pa.DataType, target: pa.DataType, hinted: bool) -> Cast:
        if observed == target and value in plain:
            return Cast(plain[value])
        return from_variant(value, observed, target, lenient=hinted)

    return cast


def _struct(fields: Mapping[str, str]) -> str:
    return f"struct<{', '.join(f'{identifier(name)}: {type_}' for name, type_ in fields.items())}>"


def _columns(bad: str, *, numbered: bool) -> list[Any]:
    return [
        F.expr(expression).alias(name)
        for name, expression in {
            "rows": "count(*)",
            "bad": f"count_if({bad})",
            "first_bad": f"min_by(left({KEPT_SQL}, 200), {PLACE}) FILTER (WHERE {bad})",
            "first_bad_place": f"min({PLACE}) FILTER (WHERE {bad})" if numbered else "CAST(NULL AS BIGINT)",
            # Of which the type that all rows have says nothing.
            "nulls": f"count_if(is_variant_null({ROW}))",
            "last_is_bad": f"max_by({bad}, {PLACE})",
            "not_utf8": f"count_if(NOT is_valid_utf8({RAW}))",
            "type": f"schema_of_variant_agg({ROW})",
            "names": f"json_object_keys(min_by({RAW}, {PLACE}) FILTER (WHERE NOT {bad}))",
            "opens_array": f"startswith(ltrim(min_by({RAW}, {PLACE})), '[')",
        }.items()
    ]


def _survey(row: dict[str, Any]) -> _Survey:
    values = {name: value for name, value in row.items() if name not in {URI, "nulls"}}
    values["type"] = None if row["type"] in {None, "VOID"} else from_variants(row["type"])
    values["mixed"] = "VARIANT" in (row["type"] or "")
    values["doubles"] = double_fields(row["type"]) if (row["type"] or "").startswith("OBJECT<") else DoubleFields()
    values["names"] = row["names"] or ()
    return _Survey(**values)
