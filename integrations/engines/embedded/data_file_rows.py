"""The rows of a table's data files, a piece at a time. Everything here blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowAccessor, ArrowProjectionVisitor, ArrowScan, pyarrow_to_schema
from pyiceberg.manifest import FileFormat
from pyiceberg.schema import Schema, visit_with_partner
from pyiceberg.table import FileScanTask, Table
from pyiceberg.transforms import IdentityTransform

from domain.ports.engine import SOURCE_FILE_COLUMN
from integrations.engines.embedded.workspaces import Workspace

STAGED_ROWS = "staged_rows"

Mask = Callable[[pa.Table], pa.ChunkedArray]
"""Which rows are meant: a boolean for each, never null."""


def pieces(table: Table, schema: Schema, task: FileScanTask) -> Iterator[pa.Table]:
    """A data file's rows under the table's schema, or a part of that: one row group after another.

    PyIceberg's own scan holds all rows of a file at once. It is left to that where more than the file itself has a say.
    """
    with table.io.new_input(task.file.file_path).open() as source:
        if task.delete_files or task.file.file_format != FileFormat.PARQUET:
            yield _whole(table, schema, task)
            return
        fragment = ds.ParquetFileFormat().make_fragment(source)
        file_schema = pyarrow_to_schema(fragment.physical_schema, table.name_mapping(), downcast_ns_timestamp_to_us=True)
        if not _names_its_partition(table, task, file_schema):
            yield _whole(table, schema, task)
            return
        ids = {field.field_id for field in schema.fields}
        file_schema = Schema(*(field for field in file_schema.fields if field.field_id in ids))
        visitor = ArrowProjectionVisitor(file_schema, downcast_ns_timestamp_to_us=True, allow_timestamp_tz_mismatch=True)
        for row_group in fragment.split_by_row_group():
            for batch in row_group.to_batches(columns=[field.name for field in file_schema.fields]):
                rows = visit_with_partner(schema, batch, visitor, ArrowAccessor(file_schema))
                yield pa.Table.from_batches([pa.RecordBatch.from_struct_array(rows)])


def has_any(table: Table, task: FileScanTask, keys: Sequence[str], mask: Mask) -> bool:
    """Whether a data file has a row that is meant, which these columns tell."""
    return any(pc.any(mask(rows)).as_py() for rows in pieces(table, table.schema().select(*keys), task))


def _whole(table: Table, schema: Schema, task: FileScanTask) -> pa.Table:
    return ArrowScan(table.metadata, table.io, schema, AlwaysTrue()).to_table([task])


def _names_its_partition(table: Table, task: FileScanTask, file_schema: Schema) -> bool:
    """Not so for files that came into the table from another system, which had a column's value in the folder's name only."""
    fields = table.specs()[task.file.spec_id].fields
    return file_schema.field_ids.issuperset(field.source_id for field in fields if isinstance(field.transform, IdentityTransform))


def stage(work: Workspace, tables: Iterable[pa.Table]) -> Mapping[str, int]:
    """Put rows into DuckDB's table `STAGED_ROWS`, from where they can spill to disk; how many there are of each source file."""
    counted: Counter[str] = Counter()
    created = False
    for rows in tables:
        work.check()
        work.connection.register("rows_to_stage", rows)
        work.connection.execute(
            f"INSERT INTO {STAGED_ROWS} FROM rows_to_stage"
            if created
            else f"CREATE OR REPLACE TEMP TABLE {STAGED_ROWS} AS FROM rows_to_stage"
        )
        work.connection.unregister("rows_to_stage")
        created = True
        counted += rows_by_path(rows)
    return counted


def rows_by_path(rows: pa.Table) -> Counter[str]:
    """How many of the rows are of each source file."""
    return Counter({item["values"]: item["counts"] for item in rows.column(SOURCE_FILE_COLUMN).value_counts().to_pylist()})
