"""Rows of a stream of JSON files, ready to be written. Nobody has read the files before: what does not fit is kept, raw."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import pyarrow as pa
from pyspark.sql import DataFrame

from domain.ingestions.entities import FormatSpec, SchemaEvolution
from domain.ingestions.formats import JsonLayout, JsonOptions
from domain.ports.engine import BATCH_ID_COLUMN, SOURCE_FILE_COLUMN
from integrations.engines.embedded.casts import Cast
from integrations.engines.embedded.column_types import STRING, is_list, is_map, is_struct, struct_fields, struct_of
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.spark.casts import from_variant
from integrations.engines.spark.frames import PROBLEM, RAW, URI, Frame
from integrations.engines.spark.json_frames import FILLED_SQL, KEPT_SQL, PARSED, PARSED_SQL, ROW, WHOLE_SQL
from integrations.engines.spark.settlement import stored_rows
from integrations.engines.spark.stream_source import FileStream, path_sql
from integrations.engines.spark.types import identifier, literal

_FIELDS = "__autoloader_fields"
_TEXT = "__autoloader_text"
_NO_OBJECT = f"{ROW} IS NULL OR NOT startswith(schema_of_variant({ROW}), 'OBJECT<')"


def streamed_rows(
    read: DataFrame, stream: FileStream, format_: FormatSpec, columns: Mapping[str, pa.DataType], rules: RowRules, run_id: UUID
) -> DataFrame:
    """The table's user columns, `_rescued_data`, and where each row comes from."""
    target = TargetColumns(columns, format_.hints, rules.evolution)
    frame = _frame(_rows(read, format_), target, rules)
    provenance = [f"{path_sql(URI, stream)} AS {SOURCE_FILE_COLUMN}", f"{literal(str(run_id))} AS {BATCH_ID_COLUMN}"]
    return stored_rows(frame, target, rules).selectExpr("*", *provenance).drop(URI)


def _rows(read: DataFrame, format_: FormatSpec) -> DataFrame:
    """Each row as text that a table can hold, and as a variant, null where it is no JSON."""
    text = read.selectExpr(f"_metadata.file_path AS {URI}", f"value AS {_TEXT}", f"make_valid_utf8(value) AS {RAW}").where(FILLED_SQL)
    whole = f"CASE WHEN {WHOLE_SQL} AND is_valid_utf8({_TEXT}) THEN {{}} END"
    if JsonOptions.model_validate(dict(format_.options)).layout is not JsonLayout.ARRAY:
        return text.selectExpr("*", f"{PARSED_SQL} AS {PARSED}").selectExpr(
            URI, RAW, f"{whole.format(_get(PARSED, '$[0]', 'variant'))} AS {ROW}"
        )
    elements = whole.format(_get(PARSED, "$[0]", "array<variant>"))
    each = f"explode(coalesce({elements}, array(CAST(NULL AS VARIANT)))) AS {ROW}"
    return (
        text.selectExpr("*", f"{PARSED_SQL} AS {PARSED}")
        .selectExpr(URI, RAW, each)
        # Of what is no array the whole text is kept.
        .selectExpr(URI, f"CASE WHEN {ROW} IS NULL THEN {RAW} ELSE to_json({ROW}) END AS {RAW}", ROW)
    )


def _frame(rows: DataFrame, target: TargetColumns, rules: RowRules) -> Frame:
    columns = target.columns
    problem = f"CASE WHEN {_NO_OBJECT} THEN 'it is not a JSON object' END"
    struct = f"struct<{', '.join(f'{identifier(name)}: variant' for name in columns)}>"
    fields = _get(ROW, "$", struct)
    surplus = None if rules.evolution is SchemaEvolution.IGNORE else _unknown_fields(ROW, struct_of(columns))
    selected = rows.selectExpr(URI, f"{KEPT_SQL} AS {RAW}", ROW, f"{problem} AS {PROBLEM}", f"{fields} AS {_FIELDS}")
    return Frame(
        selected,
        (),
        # Values may be of any kind: each is looked at as its text.
        dict.fromkeys(columns, STRING),
        {name: f"{_FIELDS}.{identifier(name)}" for name in columns},
        _cast,
        "({0} IS NULL OR is_variant_null({0}))",
        surplus=surplus,
    )


def _cast(value: str, observed: pa.DataType, target: pa.DataType, hinted: bool) -> Cast:
    return from_variant(value, observed, target, lenient=hinted)


def _unknown_fields(value: str, type_: pa.DataType, depth: int = 0) -> str | None:
    """Whether an object in the variant has a field, not null, that the type has not."""
    if is_struct(type_):
        inside, item = _get(value, "$", "map<string, variant>"), f"v{depth}"
        known = ", ".join(literal(name) for name in struct_fields(type_))
        nothing = f"{item}.value IS NULL OR is_variant_null({item}.value)"
        conditions = [f"exists(map_entries({inside}), {item} -> NOT ({item}.key IN ({known}) OR {nothing}))"]
        for name, inner in struct_fields(type_).items():
            field = _get(value, "$", f"struct<{identifier(name)}: variant>") + f".{identifier(name)}"
            conditions += [found] if (found := _unknown_fields(field, inner, depth + 1)) else []
        return f"coalesce({' OR '.join(conditions)}, false)"
    item = f"v{depth}"
    if is_list(type_):
        found = _unknown_fields(item, type_.value_type, depth + 1)
        return f"coalesce(exists({_get(value, '$', 'array<variant>')}, {item} -> {found}), false)" if found else None
    if is_map(type_):
        found = _unknown_fields(item, type_.item_type, depth + 1)
        return f"coalesce(exists(map_values({_get(value, '$', 'map<string, variant>')}), {item} -> {found}), false)" if found else None
    return None


def _get(value: str, path: str, type_: str) -> str:
    return f"try_variant_get({value}, {literal(path)}, {literal(type_)})"
