"""Finds what has landed, and enters it into the ledger."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from domain.clock import Clock
from domain.errors import LeaseLostError, UnsupportedError
from domain.ingestions.entities import DiscoveryMode, Ingestion, Source, SourceType
from domain.ledger.event_receiver import EventReceiver, QueueUnavailableError
from domain.ledger.source_filters import source_filters
from domain.ports.object_store import ObjectStores, StoredObject
from domain.ports.repositories import Discovered
from domain.ports.telemetry import NO_TELEMETRY, Telemetry
from domain.ports.unit_of_work import UnitOfWorkFactory
from domain.runs.entities import Run, RunMetrics, RunTrigger
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
    """What a discovery has brought. `files` is how many it looked at, `first` are the paths of its first hundred, known or not."""

    found: Discovered
    files: int
    first: tuple[str, ...]


class FileDiscoveryService:
    """Streams listings; memory grows with neither the listing nor the ledger."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, stores: ObjectStores, clock: Clock, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._unit_of_work = unit_of_work
        self._stores = stores
        self._clock = clock
        self._receiver = EventReceiver(stores, clock, telemetry)

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
        """Enter what the ledger does not know; the run's `files_discovered` grows as it goes on.

        By a listing, or under EVENTS by what the queue has: then the source is listed too when that is due, when a person has asked for
        the run, and while the queue does not serve. Raises `SourceUnavailableError`, and `LeaseLostError` once the run is not RUNNING any
        more: what it has seen may be older than what others have loaded since.
        """
        entering = _Entering(self._unit_of_work, ingestion, run)
        if ingestion.source.discovery is DiscoveryMode.EVENTS:
            listing = self._listing_is_due(ingestion, run)
            try:
                await self._receiver.receive(ingestion, grants, entering.enter)
            except QueueUnavailableError as error:
                log.warning("ingestion %s: its queue cannot be received from, so its source is listed: %s", ingestion.id, error.message)
                listing = True
            if not listing:
                return entering.result
        began = self._clock.now()
        async for files in self.list_files(ingestion.source, grants):
            await entering.enter(files)
        async with self._unit_of_work(ingestion.tenant_id) as tx:
            await tx.runs.count_listing(run.id)
            present = await tx.ingestions.get_by_id(ingestion.id, for_update=True)
            # With another filter since, what this one has passed over is to be looked at again.
            if present is not None and present.source == ingestion.source:
                await tx.ingestions.set_last_listed(ingestion.id, began)
        return entering.result

    def _listing_is_due(self, ingestion: Ingestion, run: Run) -> bool:
        due_at = ingestion.listing_due_at
        # A retry that comes here is of a run that had not ended its own, whatever that was.
        asked = run.trigger in (RunTrigger.MANUAL, RunTrigger.REFRESH, RunTrigger.RETRY)
        return asked or due_at is None or due_at <= self._clock.now()


class _Entering:
    """One run's way into the ledger, for whatever finds files."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, ingestion: Ingestion, run: Run) -> None:
        self._unit_of_work = unit_of_work
        self._ingestion = ingestion
        self._run = run
        self._new = self._changed = self._files = 0
        self._first: list[str] = []

    @property
    def result(self) -> Listing:
        return Listing(Discovered(self._new, self._changed), self._files, tuple(self._first))

    async def enter(self, files: Sequence[StoredObject]) -> None:
        """Write them to the ledger, in a transaction of their own. Raises `LeaseLostError`."""
        ingestion = self._ingestion
        async with self._unit_of_work(ingestion.tenant_id) as tx:
            if not await tx.runs.hold_running(self._run.id):
                raise LeaseLostError(f"run {self._run.id}")
            found = await tx.files.record_discovered(
                ingestion.id, _storable(files, ingestion), changed_files=ingestion.policies.changed_files
            )
            if found.new or found.changed:
                await tx.runs.update_metrics(self._run.id, RunMetrics(files_discovered=found.new + found.changed))
        reached(Step.LISTED)
        self._new += found.new
        self._changed += found.changed
        self._files += len(files)
        self._first += [file.path for file in files[: _FIRST - len(self._first)]]


def _storable(files: Sequence[StoredObject], ingestion: Ingestion) -> Sequence[StoredObject]:
    """Without the files whose paths the ledger cannot hold: one of them must not keep all the others out."""
    kept = [file for file in files if unstorable(file.path) is None and len(file.path.encode()) <= _LONGEST_PATH_BYTES]
    if len(kept) < len(files):
        log.warning("ingestion %s: %d files have paths that cannot be stored and were left out", ingestion.id, len(files) - len(kept))
    return kept
