"""CSV files as frames: columns by the names in each file's own header, all of them text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.connect import functions as F

from domain.ingestions.entities import SchemaEvolution
from domain.ingestions.formats import CsvOptions
from integrations.engines.embedded.batch_files import LoadFile, excerpt
from integrations.engines.embedded.casts import Cast
from integrations.engines.embedded.column_types import BOOLEAN, DOUBLE, LONG, STRING
from integrations.engines.embedded.content import FileContentError
from integrations.engines.embedded.csv_text import header_names, refuse_wrong_delimiter
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import ColumnNamesError, TargetColumns
from integrations.engines.spark.casts import from_text
from integrations.engines.spark.frames import NUMBERED_SQL, PLACE, PLACE_SQL, PROBLEM, RAW, URI, Frame, SparkSource
from integrations.engines.spark.types import literal

_CORRUPT = "__autoloader_corrupt"
_FIELD = "__autoloader_field_{}"
_LONGEST_HEADER = 1_000_000
_EMPTY = "''"
_CHARSETS = {"utf-8": "UTF-8", "latin-1": "ISO-8859-1", "utf-16": "UTF-16"}
_RETURN = "'\\r'"
_LAST_RETURN = r"\r\z"
_NUMBER = r"^-?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d{1,3})?\z"
"""A leading zero means text (`007`), and so do whole numbers longer than a double holds."""
_TESTS: Mapping[pa.DataType, str] = {
    LONG: "coalesce(CAST(try_cast({0} AS BIGINT) AS STRING) = {0}, false)",
    DOUBLE: f"({{0}} RLIKE {literal(_NUMBER)} AND abs(try_cast({{0}} AS DOUBLE)) < double('Infinity'))",
    BOOLEAN: "lower({0}) IN ('true', 'false')",
}
"""In the order in which types are tried; `{0}` stands for the field."""


def _cast(text: str, read: pa.DataType, target: pa.DataType, hinted: bool) -> Cast:
    return from_text(text, target)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Files that are read alike. With quotes a row may go over lines, and then a file is read in one piece.

    `returns` says that lines of such a file end with carriage returns. Spark would take them out of quotes, too, where all lines do, and
    leave them in fields where only some do; so they are taken for text, and taken off then.
    """

    names: tuple[str, ...]
    quotes: bool
    returns: bool


class CsvFrames:
    def __init__(self, source: SparkSource, options: CsvOptions, rules: RowRules) -> None:
        self._source = source
        self._options = options
        self._charset = _CHARSETS[options.encoding]
        self._rules = rules
        self._kinds: dict[int, _Kind] = {}
        self._clean: set[int] = set()
        self._fitting: dict[int, dict[str, tuple[bool, frozenset[pa.DataType]]]] = {}

    def survey(self, files: Sequence[LoadFile]) -> None:
        lines = self._look_at_lines(files)
        broken = self._broken_quotes([file for file in files if file.index in lines and self._has_odd_quotes(lines[file.index])])
        for file in files:
            found = lines.get(file.index)
            if found is None or found["first"] is None:
                file.empty = True
                continue
            try:
                if file.index in broken:
                    raise FileContentError(f"The file is not CSV: {broken[file.index]}.")
                self._kinds[file.index] = self._kind(found)
            except FileContentError as error:
                file.fail(str(error))
        for kind, alike in self._by_kind(files).items():
            rows = self._look_at_rows(kind, alike)
            doubtful = [file for file in alike if file.index in rows and rows[file.index]["last_is_bad"]]
            cut = self._source.unended(doubtful, charset=self._charset)
            for file in alike:
                self._judge(file, kind, lines[file.index], rows.get(file.index), cut_short=file.index in cut)

    def offer(self, files: Sequence[LoadFile], target: TargetColumns) -> None:
        known = target.columns
        for file in files:
            names = self._kinds[file.index].names
            try:
                target.check_names(names)
                refuse_wrong_delimiter(names, names[0] in known, self._options)
                new = [name for name in names if name not in known]
                if new and not target.creating and self._rules.evolution is SchemaEvolution.FAIL_ON_NEW_COLUMNS:
                    shown = ", ".join(f'"{name}"' for name in new)
                    raise ColumnNamesError(f"The file has columns that the table does not have: {shown}.")
            except (FileContentError, ColumnNamesError) as error:
                file.fail(str(error))
        present = [file for file in files if file.is_open]
        for file in present:
            types = {name: known.get(name) or self._inferred(name, present) for name in self._kinds[file.index].names}
            try:
                target.offer(types)
                file.asks_for = target.needs(self._new(file, target))
            except ColumnNamesError as error:
                file.fail(str(error))

    def frames(self, files: Sequence[LoadFile], *, numbered: bool = False) -> list[Frame]:
        made = []
        for kind, alike in self._by_kind([file for file in files if file.is_open]).items():
            columns = {name: _FIELD.format(number) for number, name in enumerate(kind.names)}
            rows = self._rows(kind, alike, numbered=numbered)
            clean = all(file.index in self._clean for file in alike)
            made.append(Frame(rows, alike, dict.fromkeys(kind.names, STRING), columns, _cast, clean=clean))
        return made

    def _by_kind(self, files: Sequence[LoadFile]) -> dict[_Kind, list[LoadFile]]:
        kinds: dict[_Kind, list[LoadFile]] = defaultdict(list)
        for file in files:
            if file.is_open:
                kinds[self._kinds[file.index]].append(file)
        return kinds

    def _look_at_lines(self, files: Sequence[LoadFile]) -> dict[int, dict[str, Any]]:
        lines = self._source.text(files, charset=self._charset)
        filled = f"rtrim({literal(chr(13))}, {RAW}) <> ''"
        quote = literal(self._options.quote)
        counted = lines.groupBy(URI).agg(
            *(
                F.expr(expression).alias(name)
                for name, expression in {
                    "lines": f"count_if({filled})",
                    "returns": f"count_if({filled} AND endswith({RAW}, {_RETURN}))",
                    "first": f"min_by(left({RAW}, {_LONGEST_HEADER}), {PLACE}) FILTER (WHERE {filled})",
                    "quotes": f"sum(length({RAW}) - length(replace({RAW}, {quote}, '')))",
                    "odd_lines": f"count_if({RAW} RLIKE {literal(self._odd_quotes())})",
                    "not_utf8": f"count_if(NOT is_valid_utf8({RAW}))",
                }.items()
            )
        )
        return {self._source.index_of(row[URI]): row for row in counted.toArrow().to_pylist()}

    def _odd_quotes(self) -> str:
        """What only lines have in which quotes may stand where CSV has none: a pattern."""
        quote, delimiter = re.escape(self._options.quote), re.escape(self._options.delimiter)
        text = f"[^{delimiter}{quote}\\r]"
        return f"{text}{quote}({quote}{quote})*{text}|(^|{delimiter})({quote}{quote})+{text}"

    def _has_odd_quotes(self, found: Mapping[str, Any]) -> bool:
        """Whether the file's quotes have to be looked at one by one. Where they are doubled, each tells what it is by what is around it."""
        return self._options.escape == self._options.quote and bool(found["quotes"] % 2 or found["odd_lines"])

    def _broken_quotes(self, files: Sequence[LoadFile]) -> dict[int, str]:
        """Those of the files of which Spark's reader would make something where a strict one stops, with what is wrong."""
        if not files:
            return {}
        delimiter = re.escape(self._options.delimiter)
        first, begins, ends = (literal(pattern) for pattern in (r"\A\ufeff?\z", rf"\A({delimiter}|[\r\n])", rf"[{delimiter}\r\n]\z"))
        # By the parts between the quotes: where the part before ends tells what the quote is, and so where the part in hand does.
        place = (
            "CASE WHEN place = 'within' THEN 'closed' WHEN place = 'closed' AND part = '' THEN 'within'"
            f" WHEN place = 'broken' OR (place = 'closed' AND NOT part RLIKE {begins}) THEN 'broken'"
            f" WHEN (place = 'begun' AND part RLIKE {first}) OR part RLIKE {ends} THEN 'within' ELSE 'outside' END"
        )
        parts = f"split({RAW}, {literal(re.escape(self._options.quote))})"
        whole = self._source.whole(files, charset=self._charset)
        told = whole.selectExpr(URI, f"aggregate({parts}, 'begun', (place, part) -> {place}) AS place").where(
            "place IN ('broken', 'closed')"
        )
        words = {"broken": "there is text after a closing quote", "closed": "a quote is opened and never closed"}
        return {self._source.index_of(row[URI]): words[row["place"]] for row in told.toArrow().to_pylist()}

    def _kind(self, found: Mapping[str, Any]) -> _Kind:
        if found["not_utf8"] and self._options.encoding == "utf-8":
            raise FileContentError("The file is not UTF-8: set the format's encoding.")
        names = header_names(found["first"].removeprefix("\ufeff").rstrip("\r"), self._options)
        return _Kind(names, found["quotes"] > 0, found["quotes"] > 0 and found["returns"] > 0)

    def _look_at_rows(self, kind: _Kind, files: Sequence[LoadFile]) -> dict[int, dict[str, Any]]:
        aggregates = {
            "rows": "count(*)",
            "bad": f"count({PROBLEM})",
            "last_is_bad": f"max_by({PROBLEM} IS NOT NULL, {PLACE})",
            "last_bad": f"max_by(left({RAW}, 200), {PLACE})",
        }
        for number in range(len(kind.names)):
            field = _FIELD.format(number)
            aggregates[f"seen_{number}"] = f"count({field}) > 0"
            for place, test in enumerate(_TESTS.values()):
                aggregates[f"fits_{number}_{place}"] = f"bool_and({field} IS NULL OR {test.replace('{0}', field)})"
        rows = self._rows(kind, files, numbered=False)
        counted = rows.groupBy(URI).agg(*(F.expr(expression).alias(name) for name, expression in aggregates.items()))
        return {self._source.index_of(row[URI]): row for row in counted.toArrow().to_pylist()}

    def _judge(self, file: LoadFile, kind: _Kind, lines: Mapping[str, Any], found: Mapping[str, Any] | None, *, cut_short: bool) -> None:
        header = 1 if self._options.header else 0
        rows = 0 if found is None else found["rows"]
        self._fitting[file.index] = {
            name: (
                found is not None and found[f"seen_{number}"],
                frozenset(type_ for place, type_ in enumerate(_TESTS) if found is None or found[f"fits_{number}_{place}"]),
            )
            for number, name in enumerate(kind.names)
        }
        file.rows_read = rows
        if found is None or not found["bad"]:
            self._clean.add(file.index)
        if not kind.quotes and rows != lines["lines"] - header:
            file.fail(f"The file has {lines['lines'] - header} lines after its header, but Spark reads {rows} rows.")
        elif found is None:
            return
        elif found["bad"] == rows:
            file.fail(f"No row fits the header: {excerpt(found['last_bad'] or '')}")
        elif cut_short:
            file.fail(f"The file is truncated: it ends in the middle of a row: {excerpt(found['last_bad'] or '')}")

    def _new(self, file: LoadFile, target: TargetColumns) -> dict[str, pa.DataType]:
        """The file's own types of the columns that somebody has to decide on, if anybody is asked."""
        found = self._fitting[file.index] if target.asks else {}
        return {name: self._inferred(name, [file]) for name, (seen, _) in found.items() if seen and name not in target.decided}

    def _inferred(self, name: str, files: Sequence[LoadFile]) -> pa.DataType:
        """The narrowest type that every value of the open files is written in."""
        found = [self._fitting[file.index][name] for file in files if name in self._fitting[file.index]]
        if not any(seen for seen, _ in found):
            return STRING
        return next((type_ for type_ in _TESTS if all(type_ in fitting for _, fitting in found)), STRING)

    def _rows(self, kind: _Kind, files: Sequence[LoadFile], *, numbered: bool) -> DataFrame:
        options = self._options
        fields = [_FIELD.format(number) for number in range(len(kind.names))]
        schema = ", ".join(f"{field} STRING" for field in [*fields, _CORRUPT])
        read = self._source.read(
            "csv",
            files,
            schema=schema,
            sep=options.delimiter,
            quote=options.quote,
            escape=options.escape,
            header=str(options.header).lower(),
            encoding=self._charset,
            # Spark would look for the ends of lines among bytes, and two are one character of UTF-16.
            multiLine=str(kind.quotes or options.encoding == "utf-16").lower(),
            **({"lineSep": "\n"} if kind.returns else {}),
            mode="PERMISSIVE",
            columnNameOfCorruptRecord=_CORRUPT,
            columnPruning="false",
            enforceSchema="true",
            # What is between two delimiters, as it is; which texts are nulls is decided below.
            nullValue="\x00",
            emptyValue="",
        )
        rows = read.selectExpr(f"_metadata.file_path AS {URI}", f"{PLACE_SQL} AS {PLACE}", *fields, _CORRUPT)
        if kind.returns:
            blank = " AND ".join([f"{fields[0]} <=> {_RETURN}", *(f"{field} IS NULL" for field in fields[1:])])
            ended = (f"regexp_replace({text}, {literal(_LAST_RETURN)}, '') AS {text}" for text in (fields[-1], _CORRUPT))
            rows = rows.where(f"NOT ({blank})").selectExpr(URI, PLACE, *fields[:-1], *ended)
        if numbered:
            first = 1 if options.header else 0
            rows = rows.selectExpr(URI, f"{NUMBERED_SQL} + {first} AS {PLACE}", *fields, _CORRUPT)
        nulls = ", ".join(literal(value) for value in options.null_values)
        # Spark refuses to read its column of corrupt rows alone, so a condition that always holds has it read a field, too.
        always = f"coalesce(length({fields[0]}), 0) >= 0"
        problem = f"CASE WHEN {_CORRUPT} IS NOT NULL AND {always} THEN 'it does not have {len(kind.names)} fields' END"
        return rows.selectExpr(
            URI,
            PLACE,
            f"coalesce({_CORRUPT}, {self._written(fields)}) AS {RAW}",
            f"{problem} AS {PROBLEM}",
            *(
                f"CASE WHEN {_CORRUPT} IS NULL{f' AND coalesce({field}, {_EMPTY}) NOT IN ({nulls})' if nulls else ''}"
                f" THEN coalesce({field}, '') END AS {field}"
                for field in fields
            ),
        )

    def _written(self, fields: Sequence[str]) -> str:
        """The row as text; Spark keeps that of rows alone which it cannot read."""
        quote = self._options.quote
        special = "[" + "".join(f"\\{character}" for character in (self._options.delimiter, quote)) + "\\r\\n]"
        doubled = f"replace({{0}}, {literal(quote)}, {literal(self._options.escape + quote)})"
        each = (
            f"CASE WHEN {field} RLIKE {literal(special)} THEN concat({literal(quote)}, {doubled.format(field)}, {literal(quote)})"
            f" ELSE coalesce({field}, '') END"
            for field in fields
        )
        return f"concat_ws({literal(self._options.delimiter)}, {', '.join(each)})"
