"""The fakes keep the contracts of the ports that they stand in for."""

from __future__ import annotations

from tests.contracts.persistence.access import ApiKeyRepositoryContract, AuditTrailContract
from tests.contracts.persistence.activity import ActivityLogContract, ActivityOfEveryMethodContract, NotificationsContract
from tests.contracts.persistence.background import DirectoryContract, IdempotencyContract, OutboxContract
from tests.contracts.persistence.batches import BatchRepositoryContract, SchemaVersionRepositoryContract
from tests.contracts.persistence.ingestions import IngestionRepositoryContract
from tests.contracts.persistence.ledger import (
    ByHandContract,
    ClaimContract,
    DiscoveryContract,
    LookupContract,
    MarkContract,
    StepsContract,
)
from tests.contracts.persistence.reader import EveryPageContract, NodesContract, PagesContract
from tests.contracts.persistence.run_queue import RunQueueContract
from tests.contracts.persistence.runs import RunRepositoryContract
from tests.contracts.persistence.schema_changes import SchemaChangeRepositoryContract
from tests.contracts.persistence.stats import RunTotalsContract, StatsContract
from tests.contracts.persistence.tenant_scope import TenantScopeContract
from tests.contracts.persistence.versions import VersionContract
from tests.contracts.persistence.webhooks import LatenessContract, WebhookRepositoryContract


class TestApiKeys(ApiKeyRepositoryContract):
    pass


class TestAuditTrail(AuditTrailContract):
    pass


class TestIngestions(IngestionRepositoryContract):
    pass


class TestRuns(RunRepositoryContract):
    pass


class TestDiscovery(DiscoveryContract):
    pass


class TestClaims(ClaimContract):
    pass


class TestLookups(LookupContract):
    pass


class TestMarks(MarkContract):
    pass


class TestVersions(VersionContract):
    pass


class TestBatches(BatchRepositoryContract):
    pass


class TestSchemaVersions(SchemaVersionRepositoryContract):
    pass


class TestIdempotency(IdempotencyContract):
    pass


class TestOutbox(OutboxContract):
    pass


class TestDirectory(DirectoryContract):
    pass


class TestRunQueue(RunQueueContract):
    pass


class TestTenantScope(TenantScopeContract):
    pass


class TestNodes(NodesContract):
    pass


class TestPages(PagesContract):
    pass


class TestSteps(StepsContract):
    pass


class TestByHand(ByHandContract):
    pass


class TestStats(StatsContract):
    pass


class TestRunTotals(RunTotalsContract):
    pass


class TestSchemaChanges(SchemaChangeRepositoryContract):
    pass


class TestEveryPage(EveryPageContract):
    pass


class TestActivityLog(ActivityLogContract):
    pass


class TestActivityOfEveryMethod(ActivityOfEveryMethodContract):
    pass


class TestNotifications(NotificationsContract):
    pass


class TestWebhooks(WebhookRepositoryContract):
    pass


class TestLateness(LatenessContract):
    pass
