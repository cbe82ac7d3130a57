"""The life of an ingestion: created, changed, activated, paused, resumed, deleted."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID, uuid4

from domain.clock import Clock
from domain.errors import ConflictError, ConflictReason, FieldError, NotFoundError, UnsupportedError, ValidationError
from domain.idempotency import first_result
from domain.ingestions.checkpoints import Checkpoints
from domain.ingestions.entities import Destination, EngineType, Ingestion, IngestionStatus, Reset, Schedule, Source
from domain.ingestions.inputs import IngestionCreate, IngestionUpdate
from domain.ingestions.schedules import next_due
from domain.ingestions.streaming import check_streaming
from domain.ports.object_store import ObjectStores, SourceUnavailableError
from domain.ports.unit_of_work import Topic, UnitOfWork, UnitOfWorkFactory
from domain.tenants import Grants, Principal


class IngestionService:
    """`engines` are those that this installation has."""

    def __init__(
        self,
        unit_of_work: UnitOfWorkFactory,
        stores: ObjectStores,
        clock: Clock,
        checkpoints: Checkpoints,
        engines: Collection[EngineType] = (EngineType.EMBEDDED,),
    ) -> None:
        self._unit_of_work = unit_of_work
        self._stores = stores
        self._clock = clock
        self._checkpoints = checkpoints
        self._engines = engines

    async def create_ingestion(self, principal: Principal, input: IngestionCreate) -> Ingestion:
        """Store a new ingestion, DRAFT unless it is to be activated at once.

        Raises `ValidationError` (also when the source cannot be listed now), `UnsupportedError` (no such engine here) and
        `ConflictError`; then nothing is stored.
        """
        if input.execution.engine not in self._engines:
            raise UnsupportedError(f"there is no {input.execution.engine} engine here: nobody has configured one")
        grants = principal.tenant.grants
        source, destination = input.source.to_source(), input.destination.to_destination()
        check_streaming(source, input.format.to_format(), input.policies.to_policies(), input.execution.to_execution())
        _check_namespace(destination, grants)
        source = await self._checked(source, grants)
        now = self._clock.now()
        schedule = input.schedule.to_schedule() if input.schedule else None
        status = IngestionStatus.ACTIVE if input.activate else IngestionStatus.DRAFT
        id = uuid4()
        ingestion = Ingestion(
            id=id,
            tenant_id=principal.tenant.id,
            name=input.name,
            status=status,
            source=source,
            format=input.format.to_format(),
            destination=destination,
            schedule=schedule,
            policies=input.policies.to_policies(),
            execution=input.execution.to_execution(),
            checkpoint_path=self._checkpoints.path(principal.tenant.id, id, version=1),
            generation=1,
            reset=None,
            version=1,
            consecutive_failures=0,
            last_run_id=None,
            last_run_at=None,
            next_due_at=next_due(schedule, now) if schedule and status is IngestionStatus.ACTIVE else None,
            last_listed_at=None,
            event_queue=None,
            created_at=now,
            updated_at=now,
        )
        async with self._unit_of_work(principal.tenant.id) as tx:
            if earlier := await first_result(tx, "createIngestion", input, id, tx.ingestions.get_by_id):
                return earlier
            created = await tx.ingestions.create(ingestion)
            await tx.ingestions.expect_data(id)
            await tx.audit.record(principal, "createIngestion", "Ingestion", id)
            await tx.outbox.add(Topic.INGESTION, id)
            return created

    async def update_ingestion(self, principal: Principal, id: UUID, input: IngestionUpdate) -> Ingestion:
        """Change what may be changed.

        Raises `NotFoundError`, `ValidationError`, `ConflictError` (STALE_VERSION, DUPLICATE_NAME, QUEUE_TAKEN).
        """
        async with self._unit_of_work(principal.tenant.id) as tx:
            present = _found(await tx.ingestions.get_by_id(id))
        if input.expected_version not in (None, present.version):
            raise ConflictError(ConflictReason.STALE_VERSION, "the ingestion has changed since it was read")
        source, format, policies = input.applied_to(present.source, present.format, present.policies)
        with _fields_of_an_update():
            check_streaming(source, format, policies, present.execution)
            if source != present.source:
                source = await self._checked(source, principal.tenant.grants)
        given = input.model_fields_set
        schedule = (input.schedule.to_schedule() if input.schedule else None) if "schedule" in given else present.schedule
        changed = dataclasses.replace(
            present,
            name=input.name if "name" in given and input.name else present.name,
            source=source,
            format=format,
            policies=policies,
            schedule=schedule,
        )
        async with self._unit_of_work(principal.tenant.id) as tx:
            if schedule != present.schedule:
                await tx.ingestions.set_next_due(id, self._next_due(schedule, present.status))
            if source != present.source:
                # Of what it takes from now on, notifications may have come and gone.
                await tx.ingestions.set_last_listed(id, None)
            updated = await tx.ingestions.update(changed)
            if (schedule, policies.late_after_seconds) != (present.schedule, present.policies.late_after_seconds):
                await tx.ingestions.expect_data(id)
            await tx.audit.record(principal, "updateIngestion", "Ingestion", id)
            await tx.outbox.add(Topic.INGESTION, id)
            return updated

    async def activate(self, principal: Principal, id: UUID) -> Ingestion:
        """DRAFT -> ACTIVE: from now on its schedule fires."""
        return await self._change_status(principal, id, IngestionStatus.ACTIVE, from_=(IngestionStatus.DRAFT,), verb="activate")

    async def pause(self, principal: Principal, id: UUID) -> Ingestion:
        """ACTIVE | ERROR -> PAUSED: runs are refused; ledger and checkpoint stay."""
        return await self._change_status(
            principal, id, IngestionStatus.PAUSED, from_=(IngestionStatus.ACTIVE, IngestionStatus.ERROR), verb="pause"
        )

    async def resume(self, principal: Principal, id: UUID) -> Ingestion:
        """PAUSED | ERROR -> ACTIVE."""
        return await self._change_status(
            principal, id, IngestionStatus.ACTIVE, from_=(IngestionStatus.PAUSED, IngestionStatus.ERROR), verb="resume"
        )

    async def delete_ingestion(self, principal: Principal, id: UUID, *, delete_table: bool) -> Ingestion:
        """-> DELETING, and gone with all that is known of it once that is done; with its table, if that is asked.

        Until then its name and its destination stay taken. Raises `NotFoundError`, `ConflictError` (RUN_ACTIVE).
        """
        async with self._unit_of_work(principal.tenant.id) as tx:
            present = _found(await tx.ingestions.get_by_id(id, for_update=True))
            await require_idle(tx, id)
            # A drop that a refresh has left to do stays to be done.
            left = present.reset.drop_table if present.reset else None
            table = (await tx.ingestions.get_table(id) if delete_table else None) or left
            reset = Reset(uuid4(), drop_table=table, forget_files=True)
            await tx.ingestions.begin_reset(id, reset, generation=present.generation, checkpoint_path=present.checkpoint_path)
            deleting = await tx.ingestions.update_status(id, IngestionStatus.DELETING, next_due_at=None)
            await tx.audit.record(principal, "deleteIngestion", "Ingestion", id)
            await tx.outbox.add(Topic.INGESTION, id)
            return deleting

    async def list_ingestions(self, principal: Principal, *, limit: int = 100, after: UUID | None = None) -> Sequence[Ingestion]:
        """The tenant's ingestions by id, `limit` at a time."""
        async with self._unit_of_work(principal.tenant.id) as tx:
            return await tx.ingestions.get_by_tenant(limit=limit, after=after)

    async def _change_status(
        self, principal: Principal, id: UUID, status: IngestionStatus, *, from_: tuple[IngestionStatus, ...], verb: str
    ) -> Ingestion:
        async with self._unit_of_work(principal.tenant.id) as tx:
            present = _found(await tx.ingestions.get_by_id(id, for_update=True))
            if present.status not in from_:
                raise ConflictError(ConflictReason.WRONG_STATE, f"an ingestion that is {present.status} cannot be {verb}d")
            changed = await tx.ingestions.update_status(id, status, next_due_at=self._next_due(present.schedule, status))
            await tx.ingestions.expect_data(id)
            await tx.audit.record(principal, f"{verb}Ingestion", "Ingestion", id)
            await tx.outbox.add(Topic.INGESTION, id)
            return changed

    def _next_due(self, schedule: Schedule | None, status: IngestionStatus) -> datetime | None:
        return next_due(schedule, self._clock.now()) if schedule and status is IngestionStatus.ACTIVE else None

    async def _checked(self, source: Source, grants: Grants) -> Source:
        """The source, which can be listed, with the id of its queue, which answers. Raises `ValidationError`."""
        with source_errors_named():
            await self._stores.open(source, grants).check_access()
        if source.queue is None:
            return source
        with source_errors_named("queue"):
            return dataclasses.replace(source, queue_id=(await self._stores.open_queue(source, grants).state()).id)


async def require_idle(tx: UnitOfWork, ingestion_id: UUID) -> None:
    """With the ingestion's row held, so that no run is queued meanwhile. Raises `ConflictError` (RUN_ACTIVE)."""
    if await tx.runs.get_active(ingestion_id) is not None:
        raise ConflictError(ConflictReason.RUN_ACTIVE, "the ingestion has an active run; cancel it first")


@contextmanager
def source_errors_named(field: str = "path") -> Iterator[None]:
    """A source that cannot be listed, or its queue not be asked, while somebody describes it, is a field that is wrong."""
    try:
        yield
    except SourceUnavailableError as error:
        wrong = "credential" if error.reason == SourceUnavailableError.NO_CREDENTIALS else field
        raise ValidationError.of("source", wrong, message=error.message) from error


@contextmanager
def _fields_of_an_update() -> Iterator[None]:
    """An update names the fields of the source and the format's options at its top level."""
    try:
        yield
    except ValidationError as error:
        raise ValidationError([FieldError(_in_an_update(f.path), f.message) for f in error.fields]) from None


def _in_an_update(path: tuple[str, ...]) -> tuple[str, ...]:
    match path:
        case ("source", *rest):
            return tuple(rest)
        case ("format", "options", *rest):
            return ("format_options", *rest)
    return path


def _check_namespace(destination: Destination, grants: Grants) -> None:
    if "*" not in grants.namespaces and destination.database not in grants.namespaces:
        raise ValidationError.of("destination", "database", message="this database is not granted to your tenant")


def _found(ingestion: Ingestion | None) -> Ingestion:
    if ingestion is None or ingestion.status is IngestionStatus.DELETING:
        raise NotFoundError("ingestion")
    return ingestion
