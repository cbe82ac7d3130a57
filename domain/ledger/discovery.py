"""Finds what has landed, and enters it into the ledger."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from domain.clock import Clock
from domain.errors import LeaseLostError, UnsupportedError
from domain.ingestions.entities import Ingestion, Source, SourceType
from domain.ledger.source_filters import source_filters
from domain.ports.object_store import ObjectStores, StoredObject
from domain.ports.repositories import Discovered
from domain.ports.unit_of_work import UnitOfWorkFactory
from domain.runs.entities import Run, RunMetrics
from domain.steps import Step, reached
from domain.tenants import Grants
from domain.text import unstorable

log = logging.getLogger(__name__)

SUPPORTED_SOURCES = (SourceType.S3, SourceType.LOCAL)

_LONGEST_PATH_BYTES = 2_048
"""An S3 key has 1,024 at most; an entry of PostgreSQL's index has room for some 2,600."""


_FIRST = 100


@dataclass(frozen=True, slots=True)
class Listing:
    """What a listing has brought. `first` are the paths of its first hundred files, known or not."""

    found: Discovered
    first: tuple[str, ...]


class FileDiscoveryService:
    """Streams listings; memory grows with neither the listing nor the ledger."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, stores: ObjectStores, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._stores = stores
        self._clock = clock

    async def list_files(
        self, source: Source, grants: Grants, *, since: datetime | None = None, max_files: int | None = None
    ) -> AsyncIterator[Sequence[StoredObject]]:
        """The source's files that pass its filters, in chunks, at most `max_files` in all.

        `since` leaves out what was modified at or before it, as the source's own `modified_after` does. Raises
        `UnsupportedError` (a ValueError) for a source type that does not work yet, `SourceUnavailableError` when the
        store cannot be listed.
        """
        if source.type not in SUPPORTED_SOURCES:
            raise UnsupportedError(f"{source.type} sources are not supported yet; S3 and LOCAL are")
        filters = source_filters(source, now=self._clock.now(), since=since)
        left = max_files
        async for chunk in self._stores.open(source, grants).list():
            files = chunk
            for filter in filters:
                files = [object for object in files if filter.passes(object)]
            if left is not None:
                files = files[:left]
                left -= len(files)
            if files:
                yield files
            if left == 0:
                return

    async def discover(self, ingestion: Ingestion, grants: Grants, run: Run) -> Listing:
        """List the source and enter what the ledger does not know; the run's `files_discovered` grows as it goes on.

        Raises `LeaseLostError` once the run is not RUNNING any more: what it listed may be older than what others have loaded since.
        """
        new = changed = 0
        first: list[str] = []
        async for files in self.list_files(ingestion.source, grants):
            async with self._unit_of_work(ingestion.tenant_id) as tx:
                if not await tx.runs.hold_running(run.id):
                    raise LeaseLostError(f"run {run.id}")
                found = await tx.files.record_discovered(
                    ingestion.id, _storable(files, ingestion), changed_files=ingestion.policies.changed_files
                )
                if found.new or found.changed:
                    await tx.runs.update_metrics(run.id, RunMetrics(files_discovered=found.new + found.changed))
            reached(Step.LISTED)
            new += found.new
            changed += found.changed
            first += [file.path for file in files[: _FIRST - len(first)]]
        return Listing(Discovered(new, changed), tuple(first))


def _storable(files: Sequence[StoredObject], ingestion: Ingestion) -> Sequence[StoredObject]:
    """Without the files whose paths the ledger cannot hold: one of them must not keep all the others out."""
    kept = [file for file in files if unstorable(file.path) is None and len(file.path.encode()) <= _LONGEST_PATH_BYTES]
    if len(kept) < len(files):
        log.warning("ingestion %s: %d files have paths that cannot be stored and were left out", ingestion.id, len(files) - len(kept))
    return kept
