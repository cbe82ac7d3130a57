"""Tables in the catalog: found, created, dropped, described. Everything here blocks."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypedDict
from uuid import UUID

import duckdb
import pyarrow as pa
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.io import load_file_io
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError, ProgrammingError

from domain.errors import ValidationError
from domain.ingestions.entities import Destination
from domain.ports.engine import (
    BATCH_ID_COLUMN,
    RESCUED_DATA_COLUMN,
    SOURCE_FILE_COLUMN,
    Column,
    TableReplacedError,
    TableSchema,
    TableState,
    TableUnavailableError,
)
from integrations.engines.embedded import column_types as types
from integrations.engines.embedded.errors import OWN_ERRORS
from integrations.engines.embedded.partition_transforms import parse_partition
from integrations.engines.embedded.settings import EmbeddedEngineSettings
from integrations.engines.embedded.target_columns import RESERVED_COLUMNS

log = logging.getLogger(__name__)

COMMIT_RETRIES = "commit.retry.num-retries"
TABLE_PROPERTIES = {
    # A retry inside PyIceberg would go around the lease: a commit conflict must come back to the guard.
    COMMIT_RETRIES: "0",
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    # Each commit reads and rewrites the metadata: keep it short.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "commit.manifest-merge.enabled": "true",
    # Whole, where 16 characters of each would do for a query: paths of one folder begin alike.
    f"write.metadata.metrics.column.{SOURCE_FILE_COLUMN}": "full",
    f"write.metadata.metrics.column.{BATCH_ID_COLUMN}": "full",
}
_ICEBERG_TYPES: dict[pa.DataType, IcebergType] = {
    types.INT: IntegerType(),
    types.LONG: LongType(),
    types.FLOAT: FloatType(),
    types.DOUBLE: DoubleType(),
    types.BOOLEAN: BooleanType(),
    types.STRING: StringType(),
    types.BINARY: BinaryType(),
    types.DATE: DateType(),
    types.TIME: TimeType(),
    types.TIMESTAMP: TimestampType(),
    types.TIMESTAMPTZ: TimestamptzType(),
    types.UUID: UUIDType(),
}


@contextmanager
def catalog_errors() -> Iterator[None]:
    """Whatever the catalog or the warehouse raises becomes `TableUnavailableError`; the domain's errors and our own pass."""
    try:
        yield
    except (*OWN_ERRORS, duckdb.Error):
        raise
    except Exception as error:
        # Its own words may name hosts, users and buckets: they are for the log, and tenants see the message.
        log.warning("the table catalog or the warehouse failed", exc_info=error)
        raise TableUnavailableError(
            f"the table catalog or the warehouse failed ({type(error).__name__}); the server's log tells more"
        ) from error


def iceberg_schema(columns: Mapping[str, pa.DataType]) -> Schema:
    """A schema with ids of its own, for creating a table or for merging into one by name."""
    ids = itertools.count(1)
    return Schema(*(NestedField(next(ids), name, _iceberg_type(type_, ids), required=False) for name, type_ in columns.items()))


def _iceberg_type(type_: pa.DataType, ids: Iterator[int]) -> IcebergType:
    if types.is_struct(type_):
        fields = types.struct_fields(type_).items()
        return StructType(*(NestedField(next(ids), name, _iceberg_type(inner, ids), required=False) for name, inner in fields))
    if types.is_list(type_):
        return ListType(next(ids), _iceberg_type(type_.value_type, ids), element_required=False)
    if types.is_map(type_):
        key_id, value_id = next(ids), next(ids)
        key, value = _iceberg_type(type_.key_type, ids), _iceberg_type(type_.item_type, ids)
        return MapType(key_id, key, value_id, value, value_required=False)
    if types.is_decimal(type_):
        return DecimalType(type_.precision, type_.scale)
    return _ICEBERG_TYPES[type_]


def user_columns(schema: Schema) -> dict[str, pa.DataType]:
    """The table's columns without the provenance ones."""
    return {field.name: types.from_iceberg(field.field_type) for field in schema.fields if field.name not in RESERVED_COLUMNS}


def with_provenance(columns: Mapping[str, pa.DataType], *, rescue_column: bool) -> dict[str, pa.DataType]:
    extra = [SOURCE_FILE_COLUMN, BATCH_ID_COLUMN, *([RESCUED_DATA_COLUMN] if rescue_column else [])]
    return {**columns, **dict.fromkeys(extra, types.STRING)}


def table_schema(columns: Mapping[str, pa.DataType]) -> TableSchema:
    return TableSchema(tuple(Column(name, types.describe(type_)) for name, type_ in columns.items()))


class Tables:
    """The catalog's tables, by destination. Opens the catalog when it is first needed."""

    def __init__(self, settings: EmbeddedEngineSettings) -> None:
        self._settings = settings
        self._catalog: SqlCatalog | None = None
        self._lock = threading.Lock()

    @property
    def catalog(self) -> SqlCatalog:
        with self._lock:
            if self._catalog is None:
                settings = self._settings
                # A connection that died with the database's last restart is replaced, not an error.
                own = {"uri": settings.catalog_uri, "warehouse": settings.warehouse, "pool_pre_ping": "true"}
                properties = {**settings.catalog_properties, **own}
                try:
                    self._catalog = SqlCatalog(settings.catalog_name, **properties)
                except (IntegrityError, ProgrammingError):
                    # Another process has made the catalog's tables since PyIceberg looked for them: now they are there.
                    self._catalog = SqlCatalog(settings.catalog_name, **properties)
            return self._catalog

    def close(self) -> None:
        if self._catalog is not None:
            self._catalog.engine.dispose()

    def find(self, destination: Destination) -> Table | None:
        try:
            return self.catalog.load_table(self._identifier(destination))
        except NoSuchTableError:
            return None

    def find_the_one(self, destination: Destination, table_uuid: UUID | None) -> Table | None:
        """The table. Raises `TableReplacedError` when it has another UUID than the one given."""
        table = self.find(destination)
        if table is not None and table_uuid is not None and str(table.metadata.table_uuid) != str(table_uuid):
            raise TableReplacedError(f"{destination.key} is another table than the one that was loaded into before")
        return table

    def find_or_create(self, destination: Destination, columns: Mapping[str, pa.DataType], *, rescue_column: bool) -> Table:
        identifier = self._identifier(destination)
        self._ensure_namespace(destination.database)
        with suppress(TableAlreadyExistsError):
            return self.catalog.create_table(identifier, **_definition(destination, columns, rescue_column=rescue_column))
        return self.catalog.load_table(identifier)

    def planned(self, destination: Destination, columns: Mapping[str, pa.DataType], *, rescue_column: bool) -> Table:
        """The table that `find_or_create` would create; it is not in the catalog. Files that are written for it fit the created one."""
        identifier = self._identifier(destination)
        self._ensure_namespace(destination.database)
        catalog = self.catalog
        definition = _definition(destination, columns, rescue_column=rescue_column)
        metadata = catalog.create_table_transaction(identifier, **definition).table_metadata
        return Table(identifier, metadata, "", load_file_io(catalog.properties, metadata.location), catalog)

    def _ensure_namespace(self, name: str) -> None:
        try:
            self.catalog.create_namespace((name,))
        except NamespaceAlreadyExistsError:
            pass
        except IntegrityError:
            # PyIceberg looks and then inserts: another load may have come between.
            if not self.catalog.namespace_exists((name,)):
                raise

    def drop(self, destination: Destination, table_uuid: UUID | None) -> bool:
        """Drop the table and its files; False when there was none. Raises `TableReplacedError`."""
        aside = self.set_aside(destination, table_uuid)
        if aside is None:
            return False
        with suppress(NoSuchTableError):
            self.catalog.purge_table(aside)
        return True

    def set_aside(self, destination: Destination, table_uuid: UUID | None) -> tuple[str, str] | None:
        """Give the table a name that no other ever has, and say which: whoever drops that one drops no other, however late.

        None when there is no table. One with `table_uuid` that was set aside before, and is still there, is found again. Raises
        `TableReplacedError` as `find_the_one` does.
        """
        if table_uuid is not None and self.catalog.table_exists(aside := _aside(destination, table_uuid)):
            return aside
        while (table := self.find_the_one(destination, table_uuid)) is not None:
            aside = _aside(destination, table.metadata.table_uuid)
            if self._rename(table, aside[1]):
                return aside
        return None

    def _rename(self, table: Table, name: str) -> bool:
        """Whether the table was still as it had been loaded: the catalog's row changes on that condition, as it does in a commit."""
        database, old_name = table.name()
        statement = (
            update(IcebergTables)
            .where(
                IcebergTables.catalog_name == self.catalog.name,
                IcebergTables.table_namespace == database,
                IcebergTables.table_name == old_name,
                IcebergTables.metadata_location == table.metadata_location,
            )
            .values(table_name=name)
            .returning(IcebergTables.table_name)
        )
        with self.catalog.engine.begin() as connection:
            return connection.execute(statement).first() is not None

    def ping(self) -> None:
        """Ask the catalog something small."""
        self.catalog.list_namespaces()

    def state(self, destination: Destination) -> TableState | None:
        table = self.find(destination)
        if table is None:
            return None
        snapshot = table.current_snapshot()
        total = snapshot.summary["total-records"] if snapshot and snapshot.summary else None
        return TableState(
            uuid=UUID(str(table.metadata.table_uuid)),
            snapshot_id=snapshot.snapshot_id if snapshot else None,
            schema=table_schema(user_columns(table.schema())),
            rows=int(total or 0),
        )

    def _identifier(self, destination: Destination) -> tuple[str, str]:
        if destination.catalog != self._settings.catalog_name:
            message = f"there is no catalog {destination.catalog!r}; the embedded engine serves {self._settings.catalog_name!r}"
            raise ValidationError.of("destination", "catalog", message=message)
        return (destination.database, destination.table)


def _aside(destination: Destination, table_uuid: UUID) -> tuple[str, str]:
    return (destination.database, f"dropped_{table_uuid.hex}")


class _Definition(TypedDict):
    schema: Schema
    partition_spec: PartitionSpec
    sort_order: SortOrder
    properties: dict[str, str]


def _definition(destination: Destination, columns: Mapping[str, pa.DataType], *, rescue_column: bool) -> _Definition:
    """Raises `ValidationError` when the destination's partitions or order do not go with the columns."""
    schema = iceberg_schema(with_provenance(columns, rescue_column=rescue_column))
    return {
        "schema": schema,
        "partition_spec": _partition_spec(destination, schema),
        "sort_order": _sort_order(destination, schema),
        "properties": TABLE_PROPERTIES,
    }


def _partition_spec(destination: Destination, schema: Schema) -> PartitionSpec:
    fields = []
    for number, text in enumerate(destination.partition_by):
        partition = parse_partition(text)
        source = _field(schema, partition.column, "partitionBy")
        if not partition.transform.can_transform(source.field_type):
            message = f"{text!r} does not work on a column of type {source.field_type}"
            raise ValidationError.of("destination", "partitionBy", message=message)
        fields.append(PartitionField(source.field_id, 1000 + number, partition.transform, partition.name))
    return PartitionSpec(*fields)


def _sort_order(destination: Destination, schema: Schema) -> SortOrder:
    if not destination.sort_by:
        return SortOrder(order_id=0)
    sources = [_field(schema, name, "sortBy") for name in destination.sort_by]
    return SortOrder(
        *(SortField(source.field_id, IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST) for source in sources), order_id=1
    )


def _field(schema: Schema, name: str, option: str) -> NestedField:
    for field in schema.fields:
        if field.name == name:
            return field
    raise ValidationError.of("destination", option, message=f"the files have no column {name!r}")
