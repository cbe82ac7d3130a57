"""Files that wait for people: one proposal for each change that they need, and what becomes of them once it is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import StringConstraints

from domain.clock import Clock
from domain.errors import ConflictError, ConflictReason, NotFoundError
from domain.ingestions.entities import IngestionStatus
from domain.ingestions.inputs import InputModel, Text
from domain.ledger.entities import Batch, ClaimedFile
from domain.ledger.stepwise import MOST_AT_ONCE, stepwise
from domain.notifications.announcing import announce
from domain.notifications.events import schema_change_proposed
from domain.ports.engine import FileOutcome, OutcomeStatus
from domain.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from domain.schema_changes import SchemaChange, SchemaChangeDecision, described, digest_of
from domain.tenants import Principal

MOST_OPEN = 100
"""An ingestion whose files ask for more different changes than this, undecided, has values for column names: further files fail."""


class SchemaChangeVerdict(StrEnum):
    APPROVE = "APPROVE"
    REJECT = "REJECT"


class DecisionRequest(InputModel):
    id: UUID
    decision: SchemaChangeVerdict
    reason: Annotated[Text, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)] | None = None


class SchemaChangeService:
    def __init__(self, unit_of_work: UnitOfWorkFactory, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def decide(self, principal: Principal, request: DecisionRequest) -> SchemaChange:
        """PENDING -> APPROVED | REJECTED, for good; asked again for the same, it stays as it is.

        All files of the ingestion that wait become PENDING: what one change brings may be what others wait for, too. Of more than
        `MOST_AT_ONCE`, the next run takes those that wait for this change. Raises
        `NotFoundError`, `ConflictError` (WRONG_STATE: it is decided otherwise, or its column differs from another one by
        nothing but upper and lower case).
        """
        approves = request.decision is SchemaChangeVerdict.APPROVE
        decision = SchemaChangeDecision.APPROVED if approves else SchemaChangeDecision.REJECTED
        async with self._unit_of_work(principal.tenant.id) as tx:
            change = await tx.schema_changes.get_by_id(request.id)
            # The ingestion's row is held, as whoever marks a batch holds it: no file begins to wait for what is just decided.
            ingestion = await tx.ingestions.get_by_id(change.ingestion_id, for_update=True) if change else None
            change = await tx.schema_changes.get_by_id(request.id) if ingestion else None
            if ingestion is None or change is None or ingestion.status is IngestionStatus.DELETING:
                raise NotFoundError("schema change")
            if change.decision is decision:
                return change
            if change.decision is not SchemaChangeDecision.PENDING:
                raise ConflictError(ConflictReason.WRONG_STATE, f"it was {change.decision} by {change.decided_by} before")
            if approves:
                await _check_names(tx, change)
            decided = replace(
                change, decision=decision, decided_at=self._clock.now(), decided_by=principal.name, decision_reason=request.reason
            )
            await tx.schema_changes.decide(decided)
            await stepwise(partial(tx.files.release_held, ingestion.id), at_most=MOST_AT_ONCE)
            await tx.audit.record(principal, "decideSchemaChange", "SchemaChange", change.id)
            return decided


async def _check_names(tx: UnitOfWork, change: SchemaChange) -> None:
    latest = await tx.schema_versions.latest(change.ingestion_id)
    decided = await tx.schema_changes.get_decided(change.ingestion_id)
    names = [column.name for column in latest.schema.columns] if latest else []
    names += [column.name for other in decided if other.decision is SchemaChangeDecision.APPROVED for column in other.diff.added]
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.casefold(), name)
    for column in change.diff.added:
        other = folded.setdefault(column.name.casefold(), column.name)
        if other != column.name:
            message = f'the columns "{other}" and "{column.name}" differ only in case, which a table cannot hold: reject it'
            raise ConflictError(ConflictReason.WRONG_STATE, message)


async def hold(
    tx: UnitOfWork,
    batch: Batch,
    files: Sequence[ClaimedFile],
    needing: Sequence[FileOutcome],
    *,
    known: Sequence[SchemaChange],
) -> Sequence[FileOutcome]:
    """Have the batch's files wait for the changes that they need, and propose those that nobody has proposed yet; what came of them.

    With the ingestion's row held. When something was decided since the load began, with `known` decisions, nothing comes of
    them: they are still PROCESSING, to be released. Beyond `MOST_OPEN` proposals files have FAILED.
    """
    if [change.id for change in await tx.schema_changes.get_decided(batch.ingestion_id)] != [change.id for change in known]:
        return []
    ingestion = await tx.ingestions.get_by_id(batch.ingestion_id)
    open_ = {change.digest: change.id for change in await tx.schema_changes.get_open(batch.ingestion_id)}
    paths = {file.id: file.path for file in files}
    held, refused = [], []
    waiting_for: dict[int, UUID] = {}
    digests: dict[int, str] = {}
    for outcome in needing:
        # By identity: engines give one tuple for many files, and a long one takes its time.
        digest = digests.get(id(outcome.needs)) or digests.setdefault(id(outcome.needs), digest_of(outcome.needs))
        if digest not in open_ and len(open_) < MOST_OPEN:
            proposed = await tx.schema_changes.propose(
                id=uuid4(),
                ingestion_id=batch.ingestion_id,
                run_id=batch.run_id,
                digest=digest,
                changes=outcome.needs,
                example_path=paths[outcome.file_id],
            )
            open_[digest] = proposed.id
            if ingestion is not None:
                await announce(tx, schema_change_proposed(ingestion, proposed))
        said = f"It waits for a schema change to be approved: {described(outcome.needs)}."
        if digest in open_:
            held.append(replace(outcome, message=said))
            waiting_for[outcome.file_id] = open_[digest]
        else:
            said = f"It needs a schema change ({described(outcome.needs)}), and {MOST_OPEN} are waiting for a decision already."
            refused.append(FileOutcome(outcome.file_id, OutcomeStatus.FAILED, message=said))
    await tx.files.mark_held(batch, held, waiting_for)
    return [*held, *refused]
