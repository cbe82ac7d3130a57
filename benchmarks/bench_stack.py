"""The application over an embedded PostgreSQL, without server and background work: runs are executed by hand, one at a time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoloader.application import Application, open_application
from autoloader.settings import CredentialSettings, Settings
from autoloader.stack import database
from domain.ingestions.entities import Ingestion
from domain.ingestions.inputs import IngestionCreate
from domain.ports.unit_of_work import Subject
from domain.runs.entities import Run, RunStatus
from domain.runs.service import RunRequest
from domain.tenants import Principal, Role
from persistence.unit_of_work import SqlUnitOfWorkFactory


def settings_in(place: Path, **credentials: CredentialSettings) -> Settings:
    """Everything in `place`; sources may lie there too."""
    return Settings(
        home=place / "home",
        local_roots=(place,),
        host="127.0.0.1",
        port=0,
        database_url=None,
        warehouse=None,
        catalog_properties={},
        credentials=credentials,
    )


@dataclass(frozen=True, slots=True)
class BenchStack:
    application: Application
    principal: Principal
    database_url: str

    async def create(self, source: dict[str, Any], format: dict[str, Any], **more: Any) -> Ingestion:
        """An ingestion into a table of its own."""
        name = f"bench_{next(_numbers)}"
        given = {"name": name, "source": source, "format": format, "destination": {"database": "bench", "table": name}} | more
        return await self.application.services.ingestions.create_ingestion(self.principal, IngestionCreate.parse(given))

    async def queue(self, ingestion: Ingestion) -> Run:
        return await self.application.services.runs.run_ingestion(self.principal, RunRequest(ingestion_id=ingestion.id))

    async def active(self, ingestion: Ingestion) -> Run:
        """The run that the ingestion has, be it queued."""
        async with SqlUnitOfWorkFactory(self.application.database)(ingestion.tenant_id) as tx:
            found = await tx.runs.get_active(ingestion.id)
        assert found is not None
        return found

    def subject(self, run: Run) -> Subject:
        return Subject(run.tenant_id, run.id)

    async def execute(self, run: Run) -> None:
        await self.application.pipeline.execute(self.subject(run))

    async def ended(self, run: Run, status: RunStatus) -> Run:
        """The run as it ended, which must be in `status`."""
        found = await self.found(run)
        if found.status is not status:
            raise RuntimeError(f"the run ended {found.status}, not {status}: {found.error_message}")
        return found

    async def found(self, run: Run) -> Run:
        """The run as it is now."""
        async with SqlUnitOfWorkFactory(self.application.database)(run.tenant_id) as tx:
            found = await tx.runs.get_by_id(run.id)
        assert found is not None
        return found


_numbers = itertools.count(1)


@asynccontextmanager
async def bench_stack(settings: Settings) -> AsyncIterator[BenchStack]:
    async with database(settings) as url, open_application(settings, url) as application:
        yield BenchStack(application, Principal(await application.ensure_local_tenant(), Role.ADMIN), url)
