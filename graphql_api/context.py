"""What a resolver may use: who asks, the services, the request's loaders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from strawberry.types.info import Info as StrawberryInfo

from domain.access.api_keys import ApiKeyService
from domain.activity.feed import ActivityFeed
from domain.costs.estimator import CostEstimator
from domain.ingestions.exploration import ExplorationService
from domain.ingestions.refresh import RefreshService
from domain.ingestions.service import IngestionService
from domain.ledger.completeness import CompletenessService
from domain.ledger.explanation import ExplanationService
from domain.ledger.schema_proposals import SchemaChangeService
from domain.ledger.state_service import FileStateService
from domain.notifications.service import WebhookService
from domain.ports.reader import Reader
from domain.ports.telemetry import NO_TELEMETRY, Telemetry
from domain.ports.unit_of_work import Directory
from domain.runs.service import RunService
from domain.system import SystemService
from domain.tenants import Principal
from graphql_api.authentication import Authentication
from graphql_api.limits.limits import Limits
from graphql_api.loaders import Loaders
from graphql_api.streams.open_streams import OpenStreams


@dataclass(frozen=True, slots=True)
class Services:
    """The application behind the API; one for all requests."""

    directory: Directory
    authentication: Authentication
    api_keys: ApiKeyService
    webhooks: WebhookService
    ingestions: IngestionService
    refreshes: RefreshService
    exploration: ExplorationService
    costs: CostEstimator
    runs: RunService
    files: Callable[[UUID], FileStateService]
    explanation: ExplanationService
    completeness: CompletenessService
    schema_changes: SchemaChangeService
    system: SystemService
    reader: Callable[[UUID], Reader]
    limits: Limits
    activity: ActivityFeed
    streams: OpenStreams
    telemetry: Telemetry = field(default=NO_TELEMETRY, kw_only=True)


@dataclass(frozen=True, slots=True)
class Context:
    """One request's."""

    principal: Principal
    services: Services
    loaders: Loaders


Info = StrawberryInfo[Context, None]
