"""Files as rows of a DataFrame, before the policies have looked at them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.connect import functions as F
from pyspark.sql.connect.session import SparkSession

from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.casts import Cast
from integrations.engines.embedded.parts import INTERNAL_PREFIX
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.spark.types import literal

URI = f"{INTERNAL_PREFIX}uri"
"""The column with the URI of the row's file, as Spark writes it."""
PLACE = f"{INTERNAL_PREFIX}place"
"""The row's place in its file: comparable, and where a frame is numbered, what a person would count."""
RAW = f"{INTERNAL_PREFIX}raw"
PROBLEM = f"{INTERNAL_PREFIX}problem"
"""Why the row is bad whatever its columns, or null."""
NUMBERED_SQL = f"CAST(row_number() OVER (PARTITION BY {URI} ORDER BY {PLACE}) AS BIGINT)"
PLACE_SQL = "struct(_metadata.file_block_start AS block, monotonically_increasing_id() AS id)"


MakeCast = Callable[[str, pa.DataType, pa.DataType, bool], Cast]
"""The SQL of a column, the type as read, the table's, and whether that is pinned by a hint."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows of `files`: `URI`, `PLACE`, `RAW`, `PROBLEM` and what the columns are made of.

    `types` are the columns as read, `columns` the SQL of each; `is_null` is the pattern of what says that a row does not have it.
    `cast` makes a column's SQL one of the table's types. `unit` is what a person would count the rows in. `surplus` is the condition
    that a row holds fields beyond the columns, where these are not all that there are. `clean` says that no row is known to have a
    `PROBLEM`.
    """

    rows: DataFrame
    files: Sequence[LoadFile]
    types: Mapping[str, pa.DataType]
    columns: Mapping[str, str]
    cast: MakeCast
    is_null: str = "{} IS NULL"
    unit: str = "Line"
    surplus: str | None = None
    clean: bool = False


class Frames(Protocol):
    """The files of one format. `survey` comes first, then `offer`; both may fail files."""

    def survey(self, files: Sequence[LoadFile]) -> None:
        """Count the rows of each file and see what they hold; fail what cannot be loaded under any policy."""
        ...

    def offer(self, files: Sequence[LoadFile], target: TargetColumns) -> None:
        """Offer the open files' columns to the table."""
        ...

    def frames(self, files: Sequence[LoadFile], *, numbered: bool = False) -> list[Frame]:
        """The rows of the files that are open."""
        ...


_GLOB = re.compile(r"[\\{}\[\]*?]")


class SparkSource:
    """How Spark reads the files of one batch: the URI of each by index, and options that may be secret."""

    def __init__(self, session: SparkSession, uris: Mapping[int, str], options: Mapping[str, str] | None = None) -> None:
        self.session = session
        self._uris = uris
        self._options = dict(options or {})
        self._index_of = {uri: index for index, uri in uris.items()}
        self.spelling: dict[int, str] = {}
        """The URIs as Spark writes them in rows, by index; of files of which rows have been seen."""

    def read(self, format_: str, files: Sequence[LoadFile], *, schema: str | None = None, **options: str) -> DataFrame:
        """Exactly these files: no name is a pattern."""
        reader = self.session.read.format(format_).options(**self._options | options)
        if schema is not None:
            reader = reader.schema(schema)
        return reader.load([_GLOB.sub(r"\\\g<0>", self._uris[file.index]) for file in files])

    def text(self, files: Sequence[LoadFile], separator: str = "\n", *, charset: str = "UTF-8") -> DataFrame:
        """The files' lines, or what else a separator parts: `URI`, `PLACE` and `RAW`."""
        if charset == "UTF-8":
            read = self.read("text", files, lineSep=separator)
            return read.selectExpr(f"_metadata.file_path AS {URI}", f"{PLACE_SQL} AS {PLACE}", f"value AS {RAW}")
        parts = f"split({RAW}, {literal(re.escape(separator))})"
        return self.whole(files, charset=charset).selectExpr(URI, f"posexplode({parts}) AS ({PLACE}, {RAW})")

    def whole(self, files: Sequence[LoadFile], *, charset: str = "UTF-8") -> DataFrame:
        """The text of each file: `URI` and `RAW`."""
        # Spark's reader of text decodes nothing: what it calls text are the file's bytes.
        text = "value" if charset == "UTF-8" else f"decode(CAST(value AS BINARY), '{charset}')"
        return self.read("text", files, wholetext="true").selectExpr(f"_metadata.file_path AS {URI}", f"{text} AS {RAW}")

    def unended(self, files: Sequence[LoadFile], *, charset: str = "UTF-8") -> set[int]:
        """The files whose last line has no end: the lines themselves do not tell, the parts between quotes do."""
        if not files:
            return set()
        parts = self.text(files, '"', charset=charset)
        last = parts.groupBy(URI).agg(F.expr(f"max_by(endswith({RAW}, '\\n'), {PLACE})").alias("ended"))
        return {self.index_of(row[URI]) for row in last.toArrow().to_pylist() if not row["ended"]}

    def index_of(self, written: str) -> int:
        """The file behind a URI in a row."""
        index = self._index_of[_plain(written)]
        self.spelling[index] = written
        return index

    def named_in(self, text: str) -> int | None:
        """The file that an error of Spark's names, if it names one of these."""
        plain = _plain(text)
        named = [uri for uri in self._index_of if uri in plain or uri.removeprefix("file://") in plain]
        # One name may begin with another.
        return self._index_of[max(named, key=len)] if named else None


def _plain(written: str) -> str:
    """A URI as we give it to Spark, from the one that Spark writes."""
    return unquote(written).replace("file:///", "file:/").replace("file:/", "file:///")
