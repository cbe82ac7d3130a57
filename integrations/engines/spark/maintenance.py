"""Keeps a table quick to read and to commit to, by Iceberg's procedures. Everything here blocks."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, UNSORTED_SORT_ORDER_ID
from pyiceberg.table.update import AddSortOrderUpdate
from pyspark.errors import PySparkException

from domain.ingestions.entities import Destination
from domain.ports.engine import TableUnavailableError
from integrations.engines.embedded.commits import commit, forbid_retries
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.maintenance import FEWEST_TO_MERGE, KEPT_AGE, KEPT_SNAPSHOTS, MERGED_FILE_BYTES
from integrations.engines.embedded.orphans import ORPHAN_AGE
from integrations.engines.embedded.tables import Tables, catalog_errors
from integrations.engines.spark.branches import BRANCH_PREFIX, abandon, prepared
from integrations.engines.spark.client import SparkConnectClient, unavailable
from integrations.engines.spark.types import literal

BRANCH_AGE = timedelta(days=1)
"""A batch's branch that is older belongs to nobody any more."""


def optimize(client: SparkConnectClient, tables: Tables, destination: Destination) -> None:
    """Merge small data files, in the table's order where it has one; expire snapshots; sweep what was left behind."""
    with catalog_errors():
        table = tables.find(destination)
        if table is None:
            return
        table = forbid_retries(table)
        _sweep_branches(table)
        if len(destination.sort_by) > 1:
            _know_the_unsorted_order(table)
    now = datetime.now(UTC)
    name = literal(f"{destination.database}.{destination.table}")
    order = f", strategy => 'sort', sort_order => {literal(_order(destination))}" if destination.sort_by else ""
    options = f"map('min-input-files', '{FEWEST_TO_MERGE}', 'target-file-size-bytes', '{MERGED_FILE_BYTES}')"
    calls = [
        f"rewrite_data_files(table => {name}{order}, options => {options})",
        f"expire_snapshots(table => {name}, older_than => {_timestamp(now - KEPT_AGE)}, retain_last => {KEPT_SNAPSHOTS})",
        f"remove_orphan_files(table => {name}, older_than => {_timestamp(now - ORPHAN_AGE)})",
    ]
    try:
        session = client.connect()
        for call in calls:
            session.sql(f"CALL `{destination.catalog}`.system.{call}").collect()
    except PySparkException as error:
        raise TableUnavailableError(unavailable(error).message) from error


def _order(destination: Destination) -> str:
    """One column is sorted by; several are interleaved, so that a filter on any of them reads few files."""
    names = ", ".join(destination.sort_by)
    return f"zorder({names})" if len(destination.sort_by) > 1 else names


def _know_the_unsorted_order(table: Table) -> None:
    """Interleaved files are in none of the table's orders, and Iceberg's writer wants the table to know that one: number 0."""
    table = table.refresh()
    if table.metadata.sort_order_by_id(UNSORTED_SORT_ORDER_ID) is not None:
        return
    transaction = table.transaction()
    # There is no public way to add an order without making it the table's.
    transaction._apply((AddSortOrderUpdate(sort_order=UNSORTED_SORT_ORDER),))
    with suppress(CommitConflictError):
        commit(transaction)


def _timestamp(moment: datetime) -> str:
    return f"TIMESTAMP '{moment.strftime('%Y-%m-%d %H:%M:%S')}'"


def _sweep_branches(table: Table) -> None:
    horizon = (datetime.now(UTC) - BRANCH_AGE).timestamp() * 1000
    for name in [name for name in table.metadata.refs if name.startswith(BRANCH_PREFIX)]:
        head = table.metadata.snapshot_by_name(name)
        if head is not None and head.timestamp_ms < horizon:
            with suppress(CommitConflictError):
                abandon(table, prepared(table, name))
                table = table.refresh()
