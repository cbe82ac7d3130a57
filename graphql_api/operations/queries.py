"""What can be asked."""

from __future__ import annotations

from typing import Annotated

import strawberry

from domain import relations
from domain.costs import estimator
from domain.ingestions import entities as ingestion_entities
from domain.ingestions.exploration import EstimateRequest, PreviewRequest
from domain.ledger import completeness, explanation
from domain.ledger.explanation import ExplainRequest
from domain.ports import engine
from domain.runs import entities as run_entities
from domain.tenants import Role
from graphql_api.context import Info
from graphql_api.limits.cost_directive import LOOKS_AT_THE_STORE, READS_EVERYTHING
from graphql_api.operations.api_keys import AccessQueries
from graphql_api.operations.authorization import guarded, require_role_for_node
from graphql_api.operations.inputs import EstimateCostInput, PreviewIngestionInput, given, without_nulls
from graphql_api.operations.webhooks import WebhookQueries
from graphql_api.relay.connections import After, Before, ConnectionPage, First, Last, connect
from graphql_api.relay.ids import decode_any_id, decode_id, required_key
from graphql_api.relay.node import Node
from graphql_api.types.completeness import Completeness
from graphql_api.types.errors import result_union
from graphql_api.types.explanation import FileExplanation
from graphql_api.types.exploration import CostEstimate, Preview
from graphql_api.types.filters import IngestionFilter, RunFilter, to_domain
from graphql_api.types.ingestion import Ingestion, IngestionConnection
from graphql_api.types.orders import IngestionOrder, RunOrder
from graphql_api.types.run import Run, RunConnection
from graphql_api.types.system import System

PreviewIngestionResult = result_union("PreviewIngestionResult", Preview)
EstimateCostResult = result_union("EstimateCostResult", CostEstimate)
AuditResult = result_union("AuditResult", Completeness)
ExplainFileResult = result_union("ExplainFileResult", FileExplanation)


@strawberry.type(description="Who asks.")
class Viewer:
    tenant: str = strawberry.field(description="The name of the tenant that the credential belongs to.")
    role: Role = strawberry.field(description="What the credential may do.")


@strawberry.type(description="What can be asked.")
class Query(AccessQueries, WebhookQueries):
    @strawberry.field(graphql_type=Node | None, description="Anything by its id; null when it is not there, or not yours.")
    @staticmethod
    async def node(info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="A global id.")]) -> object | None:
        found = decode_any_id(id)
        if found is None:
            return None
        require_role_for_node(info.context.principal.role, found[0])
        return await info.context.loaders.node(*found)

    @strawberry.field(description="Who asks.")
    @staticmethod
    def viewer(info: Info) -> Viewer:
        principal = info.context.principal
        return Viewer(tenant=principal.tenant.name, role=principal.role)

    @strawberry.field(graphql_type=Ingestion | None, description="An ingestion; null when it is not there, or not yours.")
    @staticmethod
    async def ingestion(
        info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The ingestion's id.")]
    ) -> ingestion_entities.Ingestion | None:
        entity = ingestion_entities.Ingestion
        return await info.context.loaders.node(entity, decode_id(entity, id))

    @strawberry.field(graphql_type=IngestionConnection, description="Your ingestions.")
    @staticmethod
    async def ingestions(
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[IngestionFilter | None, strawberry.argument(description="Which ingestions.")] = None,
        order_by: Annotated[IngestionOrder, strawberry.argument(description="In which order.")] = IngestionOrder.NEWEST,
    ) -> ConnectionPage[ingestion_entities.Ingestion]:
        return await connect(
            info,
            relations.INGESTIONS,
            None,
            filter=to_domain(relations.IngestionFilter, filter),
            order=order_by.name,
            first=first,
            after=after,
            last=last,
            before=before,
        )

    @strawberry.field(graphql_type=Run | None, description="A run; null when it is not there, or not yours.")
    @staticmethod
    async def run(info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The run's id.")]) -> run_entities.Run | None:
        return await info.context.loaders.node(run_entities.Run, decode_id(run_entities.Run, id))

    @strawberry.field(graphql_type=RunConnection, description="The runs of all your ingestions.")
    @staticmethod
    async def runs(
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[RunFilter | None, strawberry.argument(description="Which runs.")] = None,
        order_by: Annotated[RunOrder, strawberry.argument(description="In which order.")] = RunOrder.NEWEST,
    ) -> ConnectionPage[run_entities.Run]:
        return await connect(
            info,
            relations.RUNS,
            None,
            filter=to_domain(relations.RunFilter, filter),
            order=order_by.name,
            first=first,
            after=after,
            last=last,
            before=before,
        )

    @guarded(
        PreviewIngestionResult,
        role=Role.OPERATOR,
        cost=LOOKS_AT_THE_STORE,
        description="Columns and first rows of what lies at a source; nothing is stored.",
    )
    @staticmethod
    async def preview_ingestion(
        info: Info, input: Annotated[PreviewIngestionInput, strawberry.argument(description="Files to look at.")]
    ) -> engine.Preview:
        request = PreviewRequest.parse(without_nulls(given(input)))
        return await info.context.services.exploration.preview(info.context.principal, request)

    @guarded(
        EstimateCostResult, role=Role.OPERATOR, cost=LOOKS_AT_THE_STORE, description="What loading a source would cost; nothing is stored."
    )
    @staticmethod
    async def estimate_cost(
        info: Info, input: Annotated[EstimateCostInput, strawberry.argument(description="An ingestion to price.")]
    ) -> estimator.CostEstimate:
        request = EstimateRequest.parse(without_nulls(given(input)))
        return await info.context.services.exploration.estimate(info.context.principal, request)

    @guarded(
        ExplainFileResult,
        role=Role.VIEWER,
        cost=LOOKS_AT_THE_STORE,
        description="Why a file is, or is not, in the table: the ledger and the store are asked.",
    )
    @staticmethod
    async def explain_file(
        info: Info,
        ingestion_id: Annotated[strawberry.ID, strawberry.argument(description="The ingestion.")],
        path: Annotated[str, strawberry.argument(description="`s3://bucket/key`, or the absolute path of a local file.")],
    ) -> explanation.FileExplanation:
        key = required_key(ingestion_entities.Ingestion, ingestion_id, "ingestion")
        request = ExplainRequest.parse({"ingestion_id": key, "path": path})
        return await info.context.services.explanation.explain(info.context.principal, request)

    @guarded(
        AuditResult,
        role=Role.OPERATOR,
        cost=READS_EVERYTHING,
        description="An ingestion's source, ledger and table side by side, with each difference named. All three are read: it takes long.",
    )
    @staticmethod
    async def audit_ingestion(
        info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The ingestion's id.")]
    ) -> completeness.Completeness:
        key = required_key(ingestion_entities.Ingestion, id, "ingestion")
        return await info.context.services.completeness.audit(info.context.principal, key)

    @strawberry.field(graphql_type=System, description="How the components are.", directives=(LOOKS_AT_THE_STORE,))
    @staticmethod
    async def system(info: Info) -> System:
        components = await info.context.services.system.components()
        return System(components=components)  # type: ignore[arg-type]  # resolved from the domain's components
