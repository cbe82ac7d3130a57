"""One cell's own world: database, landing folder, warehouse, an ingestion whose every row has an id, and the workers on it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Protocol

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from sqlalchemy import text

from autoloader.application import Application, engine_settings, open_application
from autoloader.settings import Settings
from domain.errors import ConflictError, UnavailableError
from domain.ingestions.entities import Ingestion
from domain.ingestions.inputs import IngestionCreate
from domain.ingestions.refresh import RefreshRequest
from domain.ledger.entities import FileStatus
from domain.ledger.state_service import ClearRequest
from domain.ports.unit_of_work import UnitOfWork
from domain.runs.entities import RefreshMode, Run
from domain.runs.service import RunRequest
from domain.states import ACTIVE_RUN
from domain.tenants import Principal, Role
from persistence.database import connection
from persistence.unit_of_work import SqlUnitOfWorkFactory
from tests.chaos.workers import NOTHING_GOES_WRONG, Order, Worker, Workers

_WITHIN_SECONDS = 180.0
FILES = 6
"""Three to a batch, so that one batch is done when another is under way."""
ROWS_PER_FILE = 20
_RANDOM_BYTES = 600
_POLL_SECONDS = 0.1
_TRIES = 6


class Landing(Protocol):
    """Where the source's files land. `source` is an ingestion's."""

    source: Mapping[str, Any]

    def put(self, name: str, content: bytes) -> None: ...


@dataclass(frozen=True)
class LocalLanding:
    folder: Path

    @property
    def source(self) -> Mapping[str, Any]:
        return {"type": "LOCAL", "path": str(self.folder)}

    def put(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@dataclass
class Outcome:
    """`recovered` is in lease times, from the fault until no run and no batch of it was left; None where nothing had to be."""

    lost: int
    doubled: int
    recovered: float | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return (self.lost, self.doubled, self.problems) == (0, 0, []) and (self.recovered is None or self.recovered < 2)


class World:
    """`environment` is the workers'. What the tests look at, they look at by an application of their own, which works at nothing."""

    def __init__(
        self,
        workers: Workers,
        place: Path,
        environment: Mapping[str, str],
        landing: Landing,
        application: Application,
        principal: Principal,
        lease_seconds: float,
    ) -> None:
        self._workers = workers
        self._place = place
        self._environment = environment
        self._landing = landing
        self._application = application
        self._principal = principal
        self._lease_seconds = lease_seconds
        self._ids = count(1)
        self._names = count(1)
        self._landed: set[int] = set()
        self._started: list[Worker] = []
        self.ingestion: Ingestion

    async def start(self, order: Order = NOTHING_GOES_WRONG) -> Worker:
        log = self._place / f"worker-{len(self._started)}.log"
        worker = await self._workers.start(self._environment, log, order)
        self._started.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._started:
            worker.kill()

    def land(self, folder: str, files: int = FILES) -> None:
        for _ in range(files):
            ids = [next(self._ids) for _ in range(ROWS_PER_FILE)]
            # Text that does not compress, so that a data file is larger than the metadata around it.
            lines = [json.dumps({"id": id, "text": Random(id).randbytes(_RANDOM_BYTES).hex()}) for id in ids]
            self._landing.put(f"{folder}/{next(self._names):03}.json", "\n".join(lines).encode())
            self._landed.update(ids)

    async def create(self) -> None:
        given = {
            "name": "chaos",
            "source": dict(self._landing.source),
            "format": {"type": "JSON"},
            "destination": {"database": "lake", "table": "chaos"},
            "policies": {"max_file_retries": 20},
        }
        self.ingestion = await self._application.services.ingestions.create_ingestion(self._principal, IngestionCreate.parse(given))

    async def queue(self) -> Run:
        async with asyncio.timeout(_WITHIN_SECONDS):
            while True:
                try:
                    return await self._application.services.runs.run_ingestion(self._principal, RunRequest(ingestion_id=self.ingestion.id))
                except (ConflictError, UnavailableError):
                    # Another is active, or the database has just come back.
                    await asyncio.sleep(_POLL_SECONDS)

    async def lead(self, stands: Callable[[], bool]) -> None:
        """Until a worker stands at its step. On a busy machine its run may be lost before it comes there; then there is another."""
        try:
            async with asyncio.timeout(_WITHIN_SECONDS):
                while not stands():
                    if not await self._run_is_active():
                        with suppress(ConflictError, UnavailableError):
                            request = RunRequest(ingestion_id=self.ingestion.id)
                            await self._application.services.runs.run_ingestion(self._principal, request)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise Stuck(f"the worker did not come to its step; {self.told()}") from None

    async def _run_is_active(self) -> bool:
        async with self._looking() as tx:
            return await tx.runs.get_active(self.ingestion.id) is not None

    async def refresh(self) -> None:
        request = RefreshRequest(ingestion_id=self.ingestion.id, mode=RefreshMode.FULL, confirm=True)
        await self._application.services.refreshes.refresh(self._principal, request)

    async def clear(self, folder: str) -> None:
        """Have the files of a folder forgotten, and their rows removed."""
        prefix = f"{self._landing.source['path'].rstrip('/')}/{folder}/"
        request = ClearRequest(ingestion_id=self.ingestion.id, path_prefix=prefix, confirm=True)
        await self._application.services.files(self._principal.tenant.id).clear_processed_files(self._principal, request)

    async def at_rest(self, *, within: float = _WITHIN_SECONDS) -> None:
        """No run is active, no batch is open, and no reset is to be done."""
        tenant = self._principal.tenant.id
        state: object = "unknown"
        try:
            async with asyncio.timeout(within):
                while state != (0, 0, False):
                    try:
                        async with connection(self._application.database, tenant) as opened:
                            active = [status.value for status in ACTIVE_RUN]
                            state = tuple(
                                (
                                    await opened.execute(
                                        text(
                                            "SELECT (SELECT count(*) FROM runs WHERE status = ANY(:active)),"
                                            " (SELECT count(*) FROM batches WHERE status = 'CLAIMED'),"
                                            " EXISTS (SELECT FROM ingestions WHERE reset IS NOT NULL)"
                                        ),
                                        {"active": active},
                                    )
                                ).one()
                            )
                    except UnavailableError as error:
                        state = error
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise Stuck(f"after {within} seconds (runs, batches, reset) are {state}; {self.told()}") from None

    async def ended(self, run: Run, *, within: float = 60) -> None:
        """The run has ended, or so many seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while True:
                    async with self._looking() as tx:
                        found = await tx.runs.get_by_id(run.id)
                    if found is not None and found.status not in ACTIVE_RUN:
                        return
                    await asyncio.sleep(_POLL_SECONDS)

    async def load_the_rest(self) -> Run:
        """Runs, one after the other, until nothing is left to load; the last."""
        for _ in range(_TRIES):
            queued = await self.queue()
            await self.at_rest()
            async with self._looking() as tx:
                ended = await tx.runs.get_by_id(queued.id)
                files = await tx.files.count_by_status(self.ingestion.id)
                due = await tx.files.get_processed_files(self.ingestion.id, status=(FileStatus.FAILED,), limit=1)
            if set(files) == {FileStatus.SUCCESS} and sum(files.values()) * ROWS_PER_FILE == len(self._landed):
                assert ended is not None
                return ended
            if due and due[0].next_retry_at is not None:
                await asyncio.sleep(0.5)
        raise Stuck(f"after {_TRIES} runs the ledger says {files}, and the last run {ended}; {self.told()}")

    async def compare(self) -> Outcome:
        """The table's rows with those that have landed; and what the audit says of listing, ledger and table."""
        found = await asyncio.to_thread(self._rows)
        outcome = Outcome(lost=len(self._landed - set(found)), doubled=sum(found.values()) - len(found))
        if surplus := set(found) - self._landed:
            outcome.problems.append(f"{len(surplus)} rows of nobody")
        audited = await self._application.services.completeness.audit(self._principal, self.ingestion.id)
        if audited.counts or audited.ledger_rows != len(self._landed):
            outcome.problems.append(f"audit: {dict(audited.counts)}, {audited.ledger_rows} rows in the ledger of {len(self._landed)}")
        return outcome

    def lease_times(self, since: float) -> float:
        """How long ago the moment was (of the monotonic clock), in leases."""
        return (time.monotonic() - since) / self._lease_seconds

    def told(self) -> str:
        return "\n".join(f"--- {worker.log.name}\n{worker.told()}" for worker in self._started)

    def _rows(self) -> Counter[int]:
        settings = self._application.settings
        assert settings.database_url is not None
        opened = engine_settings(settings, settings.database_url.get_secret_value(), Path())
        catalog = SqlCatalog("autoloader", **{**opened.catalog_properties, "uri": opened.catalog_uri, "warehouse": opened.warehouse})
        try:
            return Counter(catalog.load_table(("lake", "chaos")).scan(selected_fields=("id",)).to_arrow()["id"].to_pylist())
        except NoSuchTableError:
            return Counter()
        finally:
            catalog.close()

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[UnitOfWork]:
        async with SqlUnitOfWorkFactory(self._application.database)(self._principal.tenant.id) as tx:
            yield tx


class Stuck(Exception):
    """Something did not come to rest."""


@asynccontextmanager
async def world(
    workers: Workers,
    place: Path,
    database_url: str,
    *,
    lease_seconds: float,
    landing: Landing | None = None,
    warehouse: str | None = None,
    seen_by_workers: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """`settings` are those of the application that looks; `seen_by_workers` is what the environment of workers has beside them."""
    place.mkdir(parents=True)
    lands_in = landing or LocalLanding(place / "landing")
    (place / "landing").mkdir()
    warehouse = warehouse or (place / "warehouse").as_uri()
    environment = {
        "AUTOLOADER_DATABASE_URL": database_url,
        "AUTOLOADER_HOME": str(place / "home"),
        "AUTOLOADER_LOCAL_ROOTS": str(place / "landing"),
        "AUTOLOADER_WAREHOUSE": warehouse,
        "AUTOLOADER_LEASE_SECONDS": str(lease_seconds),
        "AUTOLOADER_RETRY_BASE_SECONDS": "0.1",
        "AUTOLOADER_BATCH_FILES": str(FILES // 2),
        # So that a worker that comes back has ended its old run before it begins another.
        "AUTOLOADER_MAX_CONCURRENT_RUNS": "1",
        **(seen_by_workers or {}),
    }
    mine = Settings(home=place / "observer", database_url=database_url, local_roots=(place / "landing",), warehouse=warehouse, **settings)
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(open_application(mine, database_url))
        principal = Principal(await application.ensure_local_tenant(), Role.ADMIN)
        made = World(workers, place, environment, lands_in, application, principal, lease_seconds)
        stack.callback(made.close)
        await made.create()
        yield made
