"""Executes an ingestion as a stream: the port `domain.ports.streaming.StreamingEngine`, and previews of what would be loaded.

What is loaded is Spark's to say: its file source keeps in the checkpoint which files it has seen, and Iceberg's sink commits no epoch of
a query that is in the table already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from uuid import UUID

import pyarrow as pa
from pyiceberg.table import Table
from pyspark.errors import PySparkException
from pyspark.sql.streaming.query import StreamingQuery

from domain.errors import ValidationError
from domain.ingestions.entities import Destination, FormatSpec, Policies, SchemaEvolution, Source
from domain.ports.engine import Preview, TableUnavailableError
from domain.ports.object_store import StoredObject
from domain.ports.streaming import CHECKPOINT_PROPERTY, Committed, StreamCommit, StreamedFile, StreamHistory, StreamMetrics, StreamOrder
from domain.tenants import Grants
from integrations.engines.embedded.column_types import UnsupportedTypeError
from integrations.engines.embedded.previews import json_ready
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.tables import Tables, catalog_errors, table_schema, user_columns
from integrations.engines.spark.additive_columns import with_room
from integrations.engines.spark.client import SparkConnectClient, unavailable
from integrations.engines.spark.frames import URI
from integrations.engines.spark.loading import SparkLoading
from integrations.engines.spark.opened_source import OpenedSource
from integrations.engines.spark.sessions import SparkSessions
from integrations.engines.spark.stream_commits import files_of, history
from integrations.engines.spark.stream_progress import StreamProgress, observed
from integrations.engines.spark.stream_rows import streamed_rows
from integrations.engines.spark.stream_source import FileStream, checkpoint_uri, lines_of
from integrations.engines.spark.types import identifier

log = logging.getLogger(__name__)

_POLL_SECONDS = 1
_STOP_SECONDS = 60.0


class IngestionExecutor:
    """Works in the sessions' threads."""

    def __init__(self, sessions: SparkSessions, tables: Tables) -> None:
        self._sessions = sessions
        self._threads = sessions.threads
        self._lookups = sessions.lookups
        self._tables = tables

    async def preview(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject], *, limit: int) -> Preview:
        """See `domain.ports.engine.Engine.preview`."""
        async with self._sessions.opened(source, grants, objects) as (opened, client):
            return await self._threads.run_to_end(lambda: _preview(opened, format, limit), stop=client.interrupt)

    async def execute(self, order: StreamOrder, committed: Committed) -> StreamMetrics:
        table = await self._table(order)
        if table is None:
            return StreamMetrics()
        credential = await self._sessions.admitted(order.source, order.grants)
        stream = lines_of(order.source, order.format, credential, max_files=order.max_files)
        async with self._sessions.client(order.grants) as client:
            query = await self._threads.run_to_end(lambda: _started(client, order, stream, table))
            return StreamMetrics() if query is None else await self._followed(query, committed)

    async def history(self, destination: Destination, *, table_uuid: UUID | None, checkpoint: str) -> StreamHistory:
        return await self._lookups.run_to_end(lambda: history(self._tables, destination, table_uuid, checkpoint))

    async def files_of(self, destination: Destination, *, table_uuid: UUID | None, commit: StreamCommit) -> Sequence[StreamedFile]:
        return await self._lookups.run_to_end(lambda: files_of(self._tables, destination, table_uuid, commit))

    async def _table(self, order: StreamOrder) -> Table | None:
        """The table, with the columns that the samples bring; None as long as there is nothing to make one of."""
        table = await self._threads.run_to_end(lambda: self._find(order.destination))
        existing = None if table is None else user_columns(table.schema())
        columns: Mapping[str, pa.DataType] = existing or {}
        if order.samples and (existing is None or order.policies.schema_evolution is SchemaEvolution.ADD_NEW_COLUMNS):
            columns = await self._surveyed(order, existing)
        if not columns:
            return None
        make = partial(with_room, self._tables, order.destination, table, columns, rescue_column=True)
        return await self._threads.run_to_end(lambda: _in_catalog(make))

    def _find(self, destination: Destination) -> Table | None:
        with catalog_errors():
            return self._tables.find(destination)

    async def _surveyed(self, order: StreamOrder, existing: Mapping[str, pa.DataType] | None) -> Mapping[str, pa.DataType]:
        async with self._sessions.opened(order.source, order.grants, order.samples) as (opened, client):
            return await self._threads.run_to_end(lambda: _columns(opened, order, existing), stop=client.interrupt)

    async def _followed(self, query: StreamingQuery, committed: Committed) -> StreamMetrics:
        progress = StreamProgress()
        try:
            ended = False
            while not ended:
                ended = await self._threads.run_to_end(lambda: bool(query.awaitTermination(_POLL_SECONDS)))
                if progress.take(await self._threads.run_to_end(lambda: query.recentProgress)):
                    await committed()
        except PySparkException as error:
            raise _failed(error) from error
        except BaseException:
            await asyncio.shield(self._stopped(query))
            raise
        return progress.metrics

    async def _stopped(self, query: StreamingQuery) -> None:
        """Returns when nothing more is committed. A server that cannot be told goes on, until another run starts the same stream."""
        try:
            await asyncio.wait_for(self._threads.run(query.stop), _STOP_SECONDS)
        except (PySparkException, TimeoutError) as error:
            log.warning("a stream could not be stopped: %r", error)


def _started(client: SparkConnectClient, order: StreamOrder, stream: FileStream, table: Table) -> StreamingQuery | None:
    """None where there is no folder: a prefix of S3 is one as long as objects lie below it."""
    schema, destination = table.schema(), order.destination
    columns = user_columns(schema)
    try:
        rows = streamed_rows(client.read_stream(stream), stream, order.format, columns, RowRules.of(order.policies), order.run_id)
        # Iceberg's sink takes columns by their place.
        ordered = observed(rows).select(*(rows[identifier(field.name)] for field in schema.fields))
        name = ".".join(identifier(part) for part in (destination.catalog, destination.database, destination.table))
        return client.write_stream(
            ordered, name, checkpoint=checkpoint_uri(order.checkpoint), properties={CHECKPOINT_PROPERTY: order.checkpoint}
        )
    except PySparkException as error:
        if error.getCondition() == "PATH_NOT_FOUND":
            return None
        raise _failed(error) from error
    except UnsupportedTypeError as error:
        raise TableUnavailableError(f"{destination.key} cannot be loaded by Spark: {error}") from error


def _columns(opened: OpenedSource, order: StreamOrder, existing: Mapping[str, pa.DataType] | None) -> Mapping[str, pa.DataType]:
    """The table's columns and what the samples bring. Raises `ValidationError` when there are none, though the samples are not empty."""
    loading = _surveying(opened, order.format, order.policies, existing)
    columns = loading.target.columns
    if not columns and any(file.failure for file in opened.files):
        raise ValidationError.of("source", "path", message=_failures(opened))
    return columns


def _surveying(opened: OpenedSource, format_: FormatSpec, policies: Policies, existing: Mapping[str, pa.DataType] | None) -> SparkLoading:
    loading = SparkLoading(opened.spark, format_, RowRules.of(policies))
    try:
        loading.read(opened.files, existing)
    except PySparkException as error:
        raise _failed(error) from error
    except UnsupportedTypeError as error:
        raise TableUnavailableError(f"the files cannot be loaded by Spark: {error}") from error
    return loading


def _preview(opened: OpenedSource, format_: FormatSpec, limit: int) -> Preview:
    loading = _surveying(opened, format_, Policies(), None)
    if not any(file.failure is None for file in opened.files):
        raise ValidationError.of("source", "path", message=_failures(opened) or "there is no file to look at")
    try:
        rows = loading.stored().orderBy(URI).drop(URI).limit(limit).toArrow().to_pylist() if limit and loading.rows else []
    except PySparkException as error:
        raise _failed(error) from error
    return Preview(table_schema(loading.target.columns), [{name: json_ready(value) for name, value in row.items()} for row in rows])


def _in_catalog(make: Callable[[], Table]) -> Table:
    with catalog_errors():
        return make()


def _failed(error: PySparkException) -> TableUnavailableError:
    # Spark's own words may name hosts, buckets and data: they are for the log, and tenants see the message.
    log.warning("Spark failed over a stream", exc_info=error)
    return TableUnavailableError(unavailable(error).message)


def _failures(opened: OpenedSource) -> str:
    return "; ".join(f"{file.path}: {file.failure}" for file in opened.files if file.failure is not None)[:1_000]
