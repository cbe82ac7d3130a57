"""What can be done. Each mutation is one call of a service; what it raises is a member of the result's union."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import strawberry

from domain import schema_changes
from domain.ingestions import entities as ingestion_entities
from domain.ingestions import refresh
from domain.ingestions.inputs import IngestionCreate, IngestionUpdate
from domain.ingestions.refresh import RefreshRequest
from domain.ledger.schema_proposals import DecisionRequest
from domain.ledger.state_service import ClearRequest, SkipRequest
from domain.runs import entities as run_entities
from domain.runs.service import RetryRequest, RunRequest
from domain.tenants import Role
from graphql_api.context import Info
from graphql_api.limits.cost_directive import WRITES
from graphql_api.operations.api_keys import AccessMutations
from graphql_api.operations.authorization import guarded
from graphql_api.operations.inputs import (
    ClearProcessedFilesInput,
    CreateIngestionInput,
    DecideSchemaChangeInput,
    DeleteIngestionInput,
    RefreshIngestionInput,
    RetryFilesInput,
    RetryRunInput,
    RunIngestionInput,
    SkipFilesInput,
    UpdateIngestionInput,
    given,
    without_nulls,
)
from graphql_api.operations.selections import selection
from graphql_api.operations.webhooks import WebhookMutations
from graphql_api.relay.ids import required_key
from graphql_api.types.errors import result_union
from graphql_api.types.ingestion import Ingestion
from graphql_api.types.processed_file import FilesChanged, FilesCleared
from graphql_api.types.refresh import Refresh
from graphql_api.types.run import Run
from graphql_api.types.scalars import BigInt
from graphql_api.types.schema_change import SchemaChange

CreateIngestionResult = result_union("CreateIngestionResult", Ingestion)
UpdateIngestionResult = result_union("UpdateIngestionResult", Ingestion)
ChangeIngestionStatusResult = result_union("ChangeIngestionStatusResult", Ingestion)
DecideSchemaChangeResult = result_union("DecideSchemaChangeResult", SchemaChange)
RunIngestionResult = result_union("RunIngestionResult", Run)
CancelRunResult = result_union("CancelRunResult", Run)
RetryRunResult = result_union("RetryRunResult", Run)
DeleteIngestionResult = result_union("DeleteIngestionResult", Ingestion)
RefreshIngestionResult = result_union("RefreshIngestionResult", Refresh)
ClearProcessedFilesResult = result_union("ClearProcessedFilesResult", FilesCleared)
RetryFilesResult = result_union("RetryFilesResult", FilesChanged)
SkipFilesResult = result_union("SkipFilesResult", FilesChanged)

_RunId = Annotated[strawberry.ID, strawberry.argument(description="The run's id.")]
_IngestionId = Annotated[strawberry.ID, strawberry.argument(description="The ingestion's id.")]


def _ingestion_id(id: str) -> UUID:
    return required_key(ingestion_entities.Ingestion, id, "ingestion")


def _run_id(id: str) -> UUID:
    return required_key(run_entities.Run, id, "run")


@strawberry.type(description="What can be done.")
class Mutation(AccessMutations, WebhookMutations):
    @guarded(
        CreateIngestionResult,
        role=Role.ADMIN,
        cost=WRITES,
        description="Create an ingestion: DRAFT, or ACTIVE when asked to activate it at once.",
    )
    @staticmethod
    async def create_ingestion(
        info: Info, input: Annotated[CreateIngestionInput, strawberry.argument(description="The new ingestion.")]
    ) -> ingestion_entities.Ingestion:
        return await info.context.services.ingestions.create_ingestion(
            info.context.principal, IngestionCreate.parse(without_nulls(given(input)))
        )

    @guarded(UpdateIngestionResult, role=Role.ADMIN, cost=WRITES, description="Change what may be changed of an ingestion.")
    @staticmethod
    async def update_ingestion(
        info: Info, input: Annotated[UpdateIngestionInput, strawberry.argument(description="The changes.")]
    ) -> ingestion_entities.Ingestion:
        changes = given(input)
        id = _ingestion_id(changes.pop("id"))
        return await info.context.services.ingestions.update_ingestion(info.context.principal, id, IngestionUpdate.parse(changes))

    @guarded(
        ChangeIngestionStatusResult, role=Role.OPERATOR, cost=WRITES, description="DRAFT becomes ACTIVE: from now on its schedule fires."
    )
    @staticmethod
    async def activate_ingestion(info: Info, id: _IngestionId) -> ingestion_entities.Ingestion:
        return await info.context.services.ingestions.activate(info.context.principal, _ingestion_id(id))

    @guarded(
        ChangeIngestionStatusResult,
        role=Role.OPERATOR,
        cost=WRITES,
        description="ACTIVE or ERROR becomes PAUSED: runs are refused, and what is known is kept.",
    )
    @staticmethod
    async def pause_ingestion(info: Info, id: _IngestionId) -> ingestion_entities.Ingestion:
        return await info.context.services.ingestions.pause(info.context.principal, _ingestion_id(id))

    @guarded(ChangeIngestionStatusResult, role=Role.OPERATOR, cost=WRITES, description="PAUSED or ERROR becomes ACTIVE again.")
    @staticmethod
    async def resume_ingestion(info: Info, id: _IngestionId) -> ingestion_entities.Ingestion:
        return await info.context.services.ingestions.resume(info.context.principal, _ingestion_id(id))

    @guarded(
        DeleteIngestionResult,
        role=Role.ADMIN,
        cost=WRITES,
        description="DELETING, and then gone, with its runs and files; the table stays unless told. Refused while a run is active.",
    )
    @staticmethod
    async def delete_ingestion(
        info: Info, input: Annotated[DeleteIngestionInput, strawberry.argument(description="The ingestion.")]
    ) -> ingestion_entities.Ingestion:
        ingestions = info.context.services.ingestions
        return await ingestions.delete_ingestion(info.context.principal, _ingestion_id(input.id), delete_table=input.delete_table)

    @guarded(
        RefreshIngestionResult,
        role=Role.ADMIN,
        cost=WRITES,
        description="Drop the table and load it anew, by a run; or say what that would do.",
    )
    @staticmethod
    async def refresh_ingestion(
        info: Info, input: Annotated[RefreshIngestionInput, strawberry.argument(description="What to load anew.")]
    ) -> refresh.RefreshOutcome:
        values = given(input)
        request = RefreshRequest.parse(values | {"ingestion_id": _ingestion_id(values["ingestion_id"])})
        return await info.context.services.refreshes.refresh(info.context.principal, request)

    @guarded(
        ClearProcessedFilesResult,
        role=Role.ADMIN,
        cost=WRITES,
        description="Forget files, so that they are loaded again, and remove their rows from the table unless they are to be kept.",
    )
    @staticmethod
    async def clear_processed_files(
        info: Info, input: Annotated[ClearProcessedFilesInput, strawberry.argument(description="The files.")]
    ) -> FilesCleared:
        values = given(input)
        request = ClearRequest.parse(values | {"ingestion_id": _ingestion_id(values["ingestion_id"])})
        files = info.context.services.files(info.context.principal.tenant.id)
        return FilesCleared(count=BigInt(await files.clear_processed_files(info.context.principal, request)))

    @guarded(
        DecideSchemaChangeResult,
        role=Role.ADMIN,
        cost=WRITES,
        description="Approve or reject a change of the table's columns, for good. The files that wait are loaded by the next run.",
    )
    @staticmethod
    async def decide_schema_change(
        info: Info, input: Annotated[DecideSchemaChangeInput, strawberry.argument(description="The decision.")]
    ) -> schema_changes.SchemaChange:
        values = given(input)
        request = DecisionRequest.parse(values | {"id": required_key(schema_changes.SchemaChange, values["id"], "schema change")})
        return await info.context.services.schema_changes.decide(info.context.principal, request)

    @guarded(RunIngestionResult, role=Role.OPERATOR, cost=WRITES, description="Make a run of an ingestion now.")
    @staticmethod
    async def run_ingestion(
        info: Info, input: Annotated[RunIngestionInput, strawberry.argument(description="The run to make.")]
    ) -> run_entities.Run:
        values = given(input)
        request = RunRequest.parse(values | {"ingestion_id": _ingestion_id(values["ingestion_id"])})
        return await info.context.services.runs.run_ingestion(info.context.principal, request)

    @guarded(
        CancelRunResult, role=Role.OPERATOR, cost=WRITES, description="Stop a run; what it has loaded stays, the rest waits for the next."
    )
    @staticmethod
    async def cancel_run(info: Info, id: _RunId) -> run_entities.Run:
        return await info.context.services.runs.cancel_run(info.context.principal, _run_id(id))

    @guarded(RetryRunResult, role=Role.OPERATOR, cost=WRITES, description="Make a run of the files that another has left unloaded.")
    @staticmethod
    async def retry_run(
        info: Info, input: Annotated[RetryRunInput, strawberry.argument(description="The run to try again.")]
    ) -> run_entities.Run:
        values = given(input)
        request = RetryRequest.parse(values | {"run_id": _run_id(values["run_id"])})
        return await info.context.services.runs.retry_run(info.context.principal, request)

    @guarded(
        RetryFilesResult,
        role=Role.OPERATOR,
        cost=WRITES,
        description="Have FAILED and SKIPPED files loaded by the next run, however often they have failed.",
    )
    @staticmethod
    async def retry_files(info: Info, input: Annotated[RetryFilesInput, strawberry.argument(description="The files.")]) -> FilesChanged:
        files = info.context.services.files(info.context.principal.tenant.id)
        return FilesChanged.of(await files.retry_files(info.context.principal, selection(input)))

    @guarded(SkipFilesResult, role=Role.OPERATOR, cost=WRITES, description="Have PENDING, HELD and FAILED files left out.")
    @staticmethod
    async def skip_files(info: Info, input: Annotated[SkipFilesInput, strawberry.argument(description="The files.")]) -> FilesChanged:
        request = SkipRequest.parse({"reason": input.reason} if input.reason else {})
        files = info.context.services.files(info.context.principal.tenant.id)
        return FilesChanged.of(await files.skip_files(info.context.principal, selection(input), reason=request.reason))
