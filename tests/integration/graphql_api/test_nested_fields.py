"""Every field that has to ask for what it shows costs as many statements for a hundred parents as for one.

Events are followed and not listed: no document has a hundred of them as parents.

The fields are found in the schema, so that a new one cannot be forgotten: it fails here until it has its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from graphql import GraphQLObjectType, get_named_type, is_leaf_type
from sqlalchemy import insert, update

from domain.ledger.entities import FileStatus
from domain.runs.entities import RunStatus
from graphql_api.schema import schema
from persistence.mapping import values_of
from persistence.tables import file_attempts, ingestions, processed_files, runs, schema_changes, schema_versions, webhooks
from tests.factories import NOW, a_run, a_schema_change, a_schema_version, a_webhook, an_event
from tests.fixtures.api import Api, Client
from tests.fixtures.statements import Statements
from tests.integration.graphql_api.test_reads import fill

PARENTS = 100

ROUTES: Mapping[str, tuple[str, int]] = {
    "Query": ("%s", 0),
    "ApiKeyConnection": ("apiKeys { %s }", 1),
    "AuditEventConnection": ("auditEvents { %s }", 1),
    "WebhookConnection": ("webhooks(first: $first) { %s }", 1),
    "Webhook": ("webhooks(first: $first) { nodes { %s } }", 1),
    "WebhookDelivery": ("webhooks(first: $first) { nodes { deliveries(first: 1) { nodes { %s } } } }", 2),
    "WebhookDeliveryConnection": ("webhooks(first: $first) { nodes { deliveries(first: 1) { %s } } }", 2),
    "IngestionConnection": ("ingestions(first: $first) { %s }", 1),
    "Ingestion": ("ingestions(first: $first) { nodes { %s } }", 1),
    "Run": ("ingestions(first: $first) { nodes { runs(first: 1) { nodes { %s } } } }", 2),
    "RunConnection": ("ingestions(first: $first) { nodes { runs(first: 1) { %s } } }", 2),
    "ProcessedFile": ("ingestions(first: $first) { nodes { files(first: 1) { nodes { %s } } } }", 2),
    "ProcessedFileConnection": ("ingestions(first: $first) { nodes { files(first: 1) { %s } } }", 2),
    "FileAttempt": ("ingestions(first: $first) { nodes { files(first: 1) { nodes { attempts(first: 1) { nodes { %s } } } } } }", 3),
    "FileAttemptConnection": ("ingestions(first: $first) { nodes { files(first: 1) { nodes { attempts(first: 1) { %s } } } } }", 3),
    "SchemaChange": ("ingestions(first: $first) { nodes { schemaChanges(first: 1) { nodes { %s } } } }", 2),
    "SchemaChangeConnection": ("ingestions(first: $first) { nodes { schemaChanges(first: 1) { %s } } }", 2),
    "SchemaVersion": ("ingestions(first: $first) { nodes { schemaVersions(first: 1) { nodes { %s } } } }", 2),
    "SchemaVersionConnection": ("ingestions(first: $first) { nodes { schemaVersions(first: 1) { %s } } }", 2),
}
"""The way to as many of a type as `$first` says, or as there can be, and the statements that it costs."""

EXPECTED: Mapping[str, int] = {
    "Query.apiKeys": 1,
    "Query.auditEvents": 1,
    "Query.ingestions": 1,
    "Query.runs": 1,
    "Query.webhooks": 1,
    "ApiKeyConnection.totalCount": 1,
    "AuditEventConnection.totalCount": 1,
    "FileAttempt.run": 1,
    "FileAttemptConnection.totalCount": 1,
    "Ingestion.actualCost": 2,
    "Ingestion.estimatedCost": 2,
    "Ingestion.files": 1,
    "Ingestion.lastRun": 1,
    "Ingestion.runs": 1,
    "Ingestion.schemaChanges": 1,
    "Ingestion.schemaVersions": 1,
    "Ingestion.stats": 1,
    "IngestionConnection.totalCount": 1,
    "ProcessedFile.attempts": 1,
    "ProcessedFile.ingestion": 1,
    "ProcessedFile.run": 1,
    "ProcessedFile.schemaChange": 1,
    "ProcessedFileConnection.totalCount": 1,
    "Run.actualCost": 2,
    "Run.files": 1,
    "Run.ingestion": 1,
    "Run.retryOf": 1,
    "RunConnection.totalCount": 1,
    "SchemaChange.heldFiles": 1,
    "SchemaChange.ingestion": 1,
    "SchemaChange.run": 1,
    "SchemaChangeConnection.totalCount": 1,
    "SchemaVersion.run": 1,
    "SchemaVersionConnection.totalCount": 1,
    "Webhook.deliveries": 1,
    "Webhook.ingestion": 1,
    "WebhookConnection.totalCount": 1,
    "WebhookDelivery.ingestion": 1,
    "WebhookDelivery.run": 1,
    "WebhookDeliveryConnection.totalCount": 1,
}
"""Schema coordinate of a field -> the statements that it costs beside the way to its parents."""


def asking_fields() -> set[str]:
    """Coordinates of the fields that await something: nested ones, and the connections at the root."""
    found = set()
    for name, type in schema._schema.type_map.items():
        if isinstance(type, GraphQLObjectType) and name not in ("Mutation", "Subscription", "ActivityEvent"):
            for field_name, field in type.fields.items():
                definition = field.extensions.get("strawberry-definition")
                resolver = definition and definition.base_resolver
                if resolver and resolver.is_async and (name != "Query" or get_named_type(field.type).name.endswith("Connection")):
                    found.add(f"{name}.{field_name}")
    return found


def selection(coordinate: str) -> str:
    """The field with what is plain of it, so that it costs what it costs itself."""
    parent, name = coordinate.split(".")
    parent_type = schema._schema.type_map[parent]
    assert isinstance(parent_type, GraphQLObjectType)
    field = parent_type.fields[name]
    arguments = "(first: $first)" if parent == "Query" else ""
    type = get_named_type(field.type)
    inner = "" if is_leaf_type(type) else " { nodes { __typename } }" if type.name.endswith("Connection") else " { __typename }"
    return f"{name}{arguments}{inner}"


def test_every_field_that_asks_says_what_it_costs() -> None:
    found = asking_fields()
    assert found == set(EXPECTED)
    assert {coordinate.split(".")[0] for coordinate in found} == set(ROUTES)


async def test_a_hundred_parents_cost_what_one_costs(api: Api, client: Client, statements: Statements) -> None:
    await _fill(api, client)
    statements.watch(api.database)
    for coordinate, expected in EXPECTED.items():
        way, statements_of_way = ROUTES[coordinate.split(".")[0]]
        # Some ways have no use for the variable, which has to be used all the same.
        unused = "unused: ingestions(first: $first) @skip(if: true) { __typename }"
        document = f"query Cost($first: Int!) {{ {way % selection(coordinate)} {unused} }}"
        for parents in (1, PARENTS):
            before = len(statements.sent)
            await client.data(document, {"first": parents})
            sent = statements.sent[before:]
            # One more than the way and the field: the key.
            assert len(sent) == 1 + statements_of_way + expected, f"{coordinate} of {parents}:\n" + "\n---\n".join(sent)


async def _fill(api: Api, client: Client) -> None:
    """Every parent has one of everything, and every reference leads to a run of its own."""
    made = await fill(api, client, parents=PARENTS, runs_each=1, files_each=1)
    referred = [
        a_run(tenant_id=client.tenant.id, ingestion_id=ingestion.id, queued_at=NOW - timedelta(days=1), ended_at=NOW) for ingestion in made
    ]
    versions = [a_schema_version(tenant_id=client.tenant.id, ingestion_id=run.ingestion_id, run_id=run.id) for run in referred]
    changes = [a_schema_change(tenant_id=client.tenant.id, ingestion_id=run.ingestion_id, run_id=run.id) for run in referred]
    hooks = [a_webhook(tenant_id=client.tenant.id, ingestion_id=ingestion.id) for ingestion in made]
    async with api.database.begin() as connection:
        await connection.execute(insert(runs), [values_of(run) | {"status": RunStatus.CANCELLED} for run in referred])
        await connection.execute(insert(schema_versions), [values_of(version, without=("id",)) for version in versions])
        await connection.execute(insert(schema_changes), [values_of(change) for change in changes])
        for change in changes:
            held = {"status": FileStatus.HELD, "schema_change_id": change.id}
            await connection.execute(update(processed_files).where(processed_files.c.ingestion_id == change.ingestion_id).values(held))
        await connection.execute(insert(webhooks), [values_of(hook) | {"secret": b"sealed"} for hook in hooks])
        for run in referred:
            newer = (runs.c.ingestion_id == run.ingestion_id, runs.c.id != run.id)
            await connection.execute(update(runs).where(*newer).values(retry_of_id=run.id))
            for table in (processed_files, file_attempts):
                await connection.execute(update(table).where(table.c.ingestion_id == run.ingestion_id).values(run_id=run.id))
            await connection.execute(update(ingestions).where(ingestions.c.id == run.ingestion_id).values(last_run_id=run.id))
    async with api.services.webhooks._unit_of_work(client.tenant.id) as tx:
        for run in referred:
            await tx.webhooks.enqueue(an_event(ingestion_id=run.ingestion_id, run_id=run.id))
    await client.data('mutation { createApiKey(input: {name: "made", role: VIEWER}) { __typename } }')
