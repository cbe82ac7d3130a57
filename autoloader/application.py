"""How it is put together: services over repositories, stores, engines and the orchestrator."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar
from uuid import uuid4

import httpx
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.background import Background
from autoloader.deliveries import Deliveries
from autoloader.flow_services import FlowServices
from autoloader.observed_services import observed
from autoloader.orchestration import open_orchestrator, run_queue
from autoloader.outbox import Lane
from autoloader.recently import Recently
from autoloader.scratch import scratch_folder
from autoloader.settings import CredentialSettings, Settings
from autoloader.telemetry import metrics_page, open_measuring
from autoloader.webhook_key import webhook_key
from domain.access.api_keys import ApiKeyService
from domain.access.key_usage import KeyUsage
from domain.activity.feed import ActivityFeed
from domain.backlog import Backlog
from domain.clock import SystemClock
from domain.costs.estimator import CostEstimator
from domain.errors import UnavailableError
from domain.ingestions.checkpoints import Checkpoints
from domain.ingestions.entities import EngineType
from domain.ingestions.exploration import ExplorationService
from domain.ingestions.refresh import RefreshService
from domain.ingestions.resets import ResetService
from domain.ingestions.service import IngestionService
from domain.ledger.batch_processor import BatchFileProcessor, BatchSettings
from domain.ledger.completeness import CompletenessService
from domain.ledger.discovery import FileDiscoveryService
from domain.ledger.explanation import ExplanationService
from domain.ledger.schema_proposals import SchemaChangeService
from domain.ledger.state_service import FileStateService
from domain.ledger.stream_processor import StreamProcessor
from domain.ledger.table_care import TableCareService
from domain.notifications.delivery import DeliveryService
from domain.notifications.lateness import LatenessService
from domain.notifications.service import WebhookService
from domain.ports.engine import Engine
from domain.ports.identity import TokenVerifier
from domain.ports.orchestrator import Orchestrator
from domain.ports.streaming import StreamingEngine
from domain.ports.unit_of_work import Subject, Topic
from domain.runs.event_runs import EventRunService
from domain.runs.pipeline import PipelineSettings, RunPipeline
from domain.runs.service import RunService
from domain.system import Probe, SystemService
from domain.tenants import Grants, Tenant
from graphql_api.authentication import Authentication
from graphql_api.context import Services
from graphql_api.limits.limits import Limits
from graphql_api.limits.manifest import read_manifest
from graphql_api.limits.rate import CostRate
from graphql_api.relay.ids import encode_id
from graphql_api.schema import schema
from graphql_api.streams.open_streams import OpenStreams
from integrations.engines.embedded import EmbeddedEngine, EmbeddedEngineSettings
from integrations.identity.oidc import OidcTokenVerifier, open_http
from integrations.identity.provider import Provider
from integrations.identity.signing_keys import SigningKeys
from integrations.notifications.destinations import Destinations, SystemResolver
from integrations.notifications.sealing import AesSeal
from integrations.notifications.sender import HttpWebhookSender
from integrations.object_store.credentials import S3Credential
from integrations.object_store.stores import ConfiguredObjectStores
from integrations.telemetry.metrics import Metrics
from persistence.activity import SqlActivityLog
from persistence.backlog import read_backlog
from persistence.database import connection, connections_in_use, open_database, waiting_for_connections
from persistence.directory import SqlDirectory
from persistence.listening import SqlNotifications
from persistence.migrations.revisions import newest_is_present, newest_revision
from persistence.reader import SqlReader
from persistence.row_security import DIRECTORY_ROLE, TENANT_ROLE
from persistence.unit_of_work import SqlUnitOfWorkFactory

if TYPE_CHECKING:
    from integrations.engines.spark.engine import SparkEngine

log = logging.getLogger(__name__)

LOCAL_TENANT = "local"
_SILENT_SERVERS = {"connect_timeout": "10", "keepalives_idle": "15", "keepalives_interval": "5", "keepalives_count": "3"}
"""What libpq is told of them, in seconds and tries."""
_KEY_USAGE_SECONDS = 60.0
_BESIDE_RUNS = 2
"""How many previews, audits, resets and care of tables find room in the engine while each run loads."""
_WATCHING_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Application:
    """Everything that runs, open as long as `open_application` is entered. `database` acts for one tenant at a time, or for none."""

    settings: Settings
    database: AsyncEngine
    directory: SqlDirectory
    services: Services
    pipeline: RunPipeline
    engine: EmbeddedEngine
    flow_services: FlowServices
    orchestrator: Orchestrator
    background: Background
    metrics: Metrics
    _revision: Recently[str]
    _backlog: Recently[Backlog]

    async def ready(self) -> None:
        """Raises `UnavailableError` unless the database answers, and has the schema that this code knows."""
        await self._revision()

    async def metrics_page(self) -> bytes:
        """What a scrape gets."""
        return await metrics_page(self.metrics, self._backlog)

    async def ensure_local_tenant(self) -> Tenant:
        """The tenant of this machine's own users: it may use every configured root, namespace and credential."""
        grants = Grants(local_roots=self.settings.roots, namespaces=("*",), credentials=("*",))
        before = await self.directory.tenant_by_name(LOCAL_TENANT)
        if before is not None and before.grants != grants:
            # Another server on this database may have its own: then the two disagree about what runs may read.
            log.warning("the tenant %s may use %s from now on, and no longer %s", LOCAL_TENANT, grants, before.grants)
        return await self.directory.ensure_tenant(Tenant(uuid4(), LOCAL_TENANT, grants, SystemClock().now()))


@contextlib.asynccontextmanager
async def open_application(settings: Settings, database_url: str) -> AsyncIterator[Application]:
    """Open everything over a migrated database; nothing works in the background until `background.run` does."""
    async with contextlib.AsyncExitStack() as stack:
        measuring = await stack.enter_async_context(open_measuring(settings))
        telemetry = measuring.telemetry
        database = open_database(database_url, role=TENANT_ROLE, idle_transaction_seconds=settings.lease_seconds)
        stack.push_async_callback(database.dispose)
        across_tenants = open_database(database_url, role=DIRECTORY_ROLE, idle_transaction_seconds=settings.lease_seconds)
        stack.push_async_callback(across_tenants.dispose)
        # Sees all tenants' rows, counts them, and can do no more with them.
        watching = open_database(database_url, pool_size=1, read_only=True, statement_timeout_seconds=_WATCHING_SECONDS)
        stack.push_async_callback(watching.dispose)
        for pool, opened in (("tenants", database), ("directory", across_tenants)):
            measuring.metrics.watch_pool(pool, partial(connections_in_use, opened), partial(waiting_for_connections, opened))
        await asyncio.to_thread(newest_revision)
        stores = ConfiguredObjectStores({name: credential(given) for name, given in settings.credentials.items()})
        stack.push_async_callback(stores.aclose)
        staging = stack.enter_context(scratch_folder(settings.home.absolute()))
        if not settings.local_roots:
            settings.landing.mkdir(parents=True, exist_ok=True)
        engine = EmbeddedEngine(engine_settings(settings, database_url, staging), stores)
        stack.push_async_callback(engine.close)
        clock = SystemClock()
        directory = SqlDirectory(across_tenants)
        costs = CostEstimator(settings.cost_rates.rates())
        key_usage = KeyUsage(directory, clock)
        stack.push_async_callback(_stopped, asyncio.create_task(_flush_now_and_then(key_usage), name="key usage"), key_usage)
        unit_of_work = SqlUnitOfWorkFactory(database)
        notifications = SqlNotifications(database_url)
        stack.push_async_callback(notifications.close)
        runs = RunService(unit_of_work, clock, telemetry)
        discovery = FileDiscoveryService(unit_of_work, stores, clock, telemetry)
        spark = await stack.enter_async_context(_spark(settings, database_url, staging, engine, stores))
        engines: _Engines[Engine] = _Engines({EngineType.EMBEDDED: engine} | ({EngineType.SPARK: spark} if spark else {}))
        batches = BatchSettings(
            max_files=settings.batch_files, lease_seconds=settings.lease_seconds, retry_base_seconds=settings.retry_base_seconds
        )
        processor = BatchFileProcessor(unit_of_work, engines, batches, telemetry)
        checkpoints = Checkpoints(f"{settings.warehouse_uri}/_checkpoints")
        refreshes = RefreshService(unit_of_work, engines, processor, clock, checkpoints)
        resets = ResetService(unit_of_work, engines, processor)
        pipeline = RunPipeline(
            unit_of_work,
            directory,
            discovery,
            processor,
            StreamProcessor(unit_of_work, _streaming(spark), stores, batches, telemetry),
            refreshes,
            resets,
            clock,
            PipelineSettings(lease_seconds=settings.lease_seconds),
            telemetry,
        )
        for_flows = FlowServices(pipeline, runs, run_queue(settings, directory), unit_of_work)
        orchestrator = await stack.enter_async_context(open_orchestrator(settings, directory, for_flows))
        resolver = SystemResolver()
        stack.callback(resolver.close)
        sender = HttpWebhookSender(Destinations(settings.webhook_networks, resolver), httpx.create_ssl_context())
        seal = AesSeal(webhook_key(settings))
        deliveries = DeliveryService(unit_of_work, sender, seal, clock, encode_id, telemetry=telemetry)
        services = Services(
            directory=directory,
            authentication=Authentication(directory, key_usage, await stack.enter_async_context(_tokens(settings))),
            api_keys=observed(ApiKeyService(unit_of_work, clock), telemetry),
            webhooks=observed(WebhookService(unit_of_work, sender, seal, clock), telemetry),
            ingestions=observed(IngestionService(unit_of_work, stores, clock, checkpoints, frozenset(engines)), telemetry),
            refreshes=observed(refreshes, telemetry),
            exploration=observed(ExplorationService(discovery, engines, costs, clock), telemetry),
            costs=costs,
            runs=observed(runs, telemetry),
            files=lambda tenant_id: observed(FileStateService(unit_of_work, checkpoints, tenant_id), telemetry),
            explanation=observed(ExplanationService(unit_of_work, stores, clock), telemetry),
            completeness=observed(CompletenessService(unit_of_work, discovery, engines), telemetry),
            schema_changes=observed(SchemaChangeService(unit_of_work, clock), telemetry),
            system=observed(SystemService(_probes(database, engine, spark, orchestrator)), telemetry),
            reader=lambda tenant_id: SqlReader(database, tenant_id),
            limits=Limits(
                settings.max_operation_cost,
                CostRate(settings.cost_per_second, settings.cost_burst, time.monotonic),
                settings.operation_timeout_seconds,
                introspection=settings.introspection,
                documents={} if settings.documents is None else read_manifest(settings.documents, schema._schema),
                free_documents_role=settings.free_documents_role,
            ),
            activity=ActivityFeed(lambda id: SqlActivityLog(database, id), lambda id: SqlReader(database, id), notifications),
            streams=OpenStreams(),
            telemetry=telemetry,
        )
        background = Background(
            database_url,
            directory,
            {
                Topic.RUN: Lane(orchestrator.reconcile_run, at_once=20),
                Topic.INGESTION: Lane(partial(_reconcile_ingestion, orchestrator, resets), at_once=8),
                # One: it is heavy, and nobody waits for it.
                Topic.TABLE: Lane(TableCareService(unit_of_work, engines).tend, at_once=1),
                Topic.DELIVERY: Lane(Deliveries(deliveries).look, at_once=200),
            },
            runs,
            pipeline,
            orchestrator,
            LatenessService(unit_of_work, clock),
            EventRunService(unit_of_work, stores, clock, rest_seconds=settings.queue_seconds),
            telemetry,
            queue_seconds=settings.queue_seconds,
            lease_seconds=settings.lease_seconds,
        )
        revision = Recently(partial(newest_is_present, watching), whom="the database", keep_seconds=1.0, patience_seconds=_WATCHING_SECONDS)
        backlog = Recently(partial(read_backlog, watching), whom="the database", keep_seconds=5.0, patience_seconds=_WATCHING_SECONDS)
        yield Application(
            settings,
            database,
            directory,
            services,
            pipeline,
            engine,
            for_flows,
            orchestrator,
            background,
            measuring.metrics,
            revision,
            backlog,
        )


@contextlib.asynccontextmanager
async def _spark(
    settings: Settings, database_url: str, staging: Path, embedded: EmbeddedEngine, stores: ConfiguredObjectStores
) -> AsyncIterator[SparkEngine | None]:
    if settings.spark_connect_url is None:
        yield None
        return
    spark = spark_engine(settings, database_url, staging, embedded, stores)
    try:
        yield spark
    finally:
        await spark.close()


def _probes(database: AsyncEngine, embedded: EmbeddedEngine, spark: SparkEngine | None, orchestrator: Orchestrator) -> dict[str, Probe]:
    return {
        "database": lambda: _database_version(database),
        "engine": embedded.version,
        **({"spark": spark.version} if spark else {}),
        "orchestrator": orchestrator.version,
    }


E = TypeVar("E")


class _Engines(dict[EngineType, E]):
    """An ingestion may have been created when there was an engine that is not configured any more."""

    def __missing__(self, engine: EngineType) -> NoReturn:
        raise UnavailableError(f"the ingestion needs the {engine} engine, and none is configured")


def _streaming(spark: SparkEngine | None) -> Mapping[EngineType, StreamingEngine]:
    return _Engines({EngineType.SPARK: spark.streams} if spark else {})


async def _reconcile_ingestion(orchestrator: Orchestrator, resets: ResetService, ingestion: Subject) -> None:
    await orchestrator.reconcile_ingestion(ingestion)
    await resets.finish(ingestion)


@contextlib.asynccontextmanager
async def _tokens(settings: Settings) -> AsyncIterator[TokenVerifier | None]:
    if settings.oidc is None:
        yield None
        return
    provider = Provider(**dict(settings.oidc))
    async with open_http() as http:
        yield OidcTokenVerifier(provider, SigningKeys(provider, http))


async def _flush_now_and_then(key_usage: KeyUsage) -> None:
    while True:
        await asyncio.sleep(_KEY_USAGE_SECONDS)
        await _flush(key_usage)


async def _stopped(flushing: asyncio.Task[None], key_usage: KeyUsage) -> None:
    flushing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await flushing
    await _flush(key_usage)


async def _flush(key_usage: KeyUsage) -> None:
    try:
        await key_usage.flush()
    except Exception as error:
        # It is kept for the next time; nothing that matters waits for it.
        log.warning("the last use of API keys could not be written: %r", error)


async def _database_version(database: AsyncEngine) -> str:
    async with connection(database) as opened:
        return f"PostgreSQL {await opened.scalar(text('SHOW server_version'))}"


@contextlib.asynccontextmanager
async def background_work(application: Application) -> AsyncIterator[None]:
    """The chores go on, and runs are executed, while the block runs."""
    tasks = [
        asyncio.create_task(application.background.run(), name="background"),
        asyncio.create_task(application.orchestrator.work(), name="runs"),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def engine_settings(settings: Settings, database_url: str, staging: Path) -> EmbeddedEngineSettings:
    # The catalog lives in a schema of its own, so that its tables and ours do not meet. What a process that was stopped holds locked
    # is free again with its lease, and nobody waits longer for a lock. Nor for a server that takes a connection and then says nothing,
    # or whose host has gone without a word: threads that wait for those cannot be stopped.
    patience = int(settings.lease_seconds * 1000)
    options = {"search_path": "iceberg", "idle_in_transaction_session_timeout": patience, "lock_timeout": 2 * patience}
    catalog = (
        make_url(database_url)
        .set(drivername="postgresql+psycopg2")
        .update_query_dict({"options": " ".join(f"-c{name}={value}" for name, value in options.items()), **_SILENT_SERVERS})
    )
    return EmbeddedEngineSettings(
        catalog_uri=catalog.render_as_string(hide_password=False),
        warehouse=settings.warehouse_uri,
        staging_dir=staging,
        catalog_properties=settings.catalog_properties,
        threads=settings.engine_threads,
        memory_limit=settings.engine_memory,
        concurrent_operations=settings.max_concurrent_runs + _BESIDE_RUNS,
    )


def spark_engine(
    settings: Settings, database_url: str, staging: Path, embedded: EmbeddedEngine, stores: ConfiguredObjectStores
) -> SparkEngine:
    """Raises `UnavailableError` where the extra is not installed. Spark itself need not be there yet."""
    try:
        from integrations.engines.spark.engine import SparkEngine
        from integrations.engines.spark.settings import SparkServer
    except ImportError:
        raise UnavailableError("AUTOLOADER_SPARK_CONNECT_URL is set, but autoloader's extra 'spark' is not installed") from None
    assert settings.spark_connect_url is not None
    token = settings.spark_token
    server = SparkServer(settings.spark_connect_url, token.get_secret_value() if token else None)
    return SparkEngine(server, engine_settings(settings, database_url, staging), embedded, stores)


def credential(given: CredentialSettings) -> S3Credential:
    values = {name: value for name, value in given if value is not None}
    return S3Credential(**{name: getattr(value, "get_secret_value", lambda value=value: value)() for name, value in values.items()})
