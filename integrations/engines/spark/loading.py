"""From files to data files on a branch, by Spark. Everything here blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.connect import functions as F

from domain.ingestions.entities import FormatSpec, FormatType
from domain.ingestions.formats import CsvOptions, JsonOptions
from domain.ports.engine import (
    BATCH_ID_COLUMN,
    BATCH_ID_PROPERTY,
    EPOCH_PROPERTY,
    NO_DECISIONS,
    RESCUED_DATA_COLUMN,
    SOURCE_FILE_COLUMN,
    Decisions,
    LoadBatch,
)
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.spark.columnar_frames import ColumnarFrames
from integrations.engines.spark.csv_frames import CsvFrames
from integrations.engines.spark.frames import RAW, URI, Frames, SparkSource
from integrations.engines.spark.json_frames import JsonFrames
from integrations.engines.spark.settlement import settle, stored_rows
from integrations.engines.spark.types import identifier, literal
from integrations.engines.spark.unreadable import isolating


class SparkLoading:
    """Reads the files of one batch, or of a preview, into rows that are ready to be written."""

    def __init__(self, source: SparkSource, format_: FormatSpec, rules: RowRules, decisions: Decisions = NO_DECISIONS) -> None:
        self._source = source
        self._format = format_
        self._rules = rules
        self._decisions = decisions
        self.files: Sequence[LoadFile] = ()
        self._existing: Mapping[str, pa.DataType] | None = None
        self.target = TargetColumns(None, (), rules.evolution)
        self._frames = _frames(source, format_, rules)

    def read(self, files: Sequence[LoadFile], existing: Mapping[str, pa.DataType] | None) -> None:
        """Decide for each file whether it is loaded, and the columns that the table needs for that."""
        self.files, self._existing = files, existing
        isolating(files, self._source, self._frames.survey)
        self._settle()

    def fail_unreadable(self) -> bool:
        """After Spark has failed: read every value of every file, fail the files that cannot be read, and settle the others anew."""
        before = sum(file.is_open for file in self.files)
        isolating(self.files, self._source, self._read_all)
        if sum(file.is_open for file in self.files) == before:
            return False
        self._settle()
        return True

    def _read_all(self, files: Sequence[LoadFile]) -> None:
        for frame in self._frames.frames(files):
            frame.rows.selectExpr(f"sum(length({RAW}))").collect()

    def _settle(self) -> None:
        files = self.files
        while True:
            # Anew each time: what only files that are left out have brought is not to become a column.
            self.target = TargetColumns(self._existing, self._format.hints, self._rules.evolution, self._decisions)
            self._frames.offer([file for file in files if file.is_open], self.target)
            if not any(file.is_open for file in files) or not settle(self._source, self._frames, files, self.target, self._rules):
                return

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files if file.is_open)

    def stored(self) -> DataFrame:
        """The rows to be stored, with `URI`."""
        frames = [stored_rows(frame, self.target, self._rules) for frame in self._frames.frames(self.files)]
        return reduce(lambda rows, more: rows.union(more), frames)

    def append(self, table: str, batch: LoadBatch, *, rescue_column: bool) -> None:
        """Append the open files' rows to a table, or a branch of one; `rescue_column` when it has `_rescued_data`, perhaps from earlier."""
        rows = self.stored()
        paths = [
            (self._source.spelling[file.index], file.path) for file in self.files if file.is_open and file.index in self._source.spelling
        ]
        known = self._source.session.createDataFrame(paths, f"{URI} string, path string")
        provenance = rows.join(F.broadcast(known), URI)
        # Not asked of the DataFrame: that would have Spark look at every file again.
        columns = [identifier(name) for name in [*self.target.columns, *([RESCUED_DATA_COLUMN] if self._rules.rescues else [])]]
        if rescue_column and not self._rules.rescues:
            columns.append(f"CAST(NULL AS STRING) AS {RESCUED_DATA_COLUMN}")
        batch_id = f"{literal(str(batch.batch_id))} AS {BATCH_ID_COLUMN}"
        stored = provenance.selectExpr(*columns, f"path AS {SOURCE_FILE_COLUMN}", batch_id)
        writer = stored.writeTo(table)
        writer.option(f"snapshot-property.{BATCH_ID_PROPERTY}", str(batch.batch_id))
        writer.option(f"snapshot-property.{EPOCH_PROPERTY}", str(batch.epoch))
        writer.append()


def _frames(source: SparkSource, format_: FormatSpec, rules: RowRules) -> Frames:
    match format_.type:
        case FormatType.JSON:
            return JsonFrames(source, JsonOptions.model_validate(dict(format_.options)), rules)
        case FormatType.CSV:
            return CsvFrames(source, CsvOptions.model_validate(dict(format_.options)), rules)
    return ColumnarFrames(source, format_.type, rules)
