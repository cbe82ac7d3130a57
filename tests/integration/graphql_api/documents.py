"""Documents that several tests send."""

from __future__ import annotations

from typing import Any

from tests.fixtures.api import Api, Client

CREATE = """
mutation Create($input: CreateIngestionInput!) {
  createIngestion(input: $input) {
    __typename
    ... on Ingestion {
      id name status version generation checkpointPath createdAt updatedAt nextDueAt
      source { type path glob minAgeSeconds discovery credential }
      format { type options hints { column type } }
      destination { catalog database table partitionBy sortBy }
      schedule { cron timezone }
      policies { schemaEvolution badRows changedFiles maxFileRetries maxFilesPerRun maxBytesPerRun timeoutSeconds }
      execution { engine clusterSize mode }
    }
    ... on Error { code message }
    ... on ValidationError { fields { path message } }
    ... on ConflictError { reason }
  }
}
"""

RUN = """
mutation Run($input: RunIngestionInput!) {
  runIngestion(input: $input) {
    __typename
    ... on Run { id status trigger queuedAt startedAt progress ingestion { id name } }
    ... on Error { code message }
    ... on ConflictError { reason }
  }
}
"""

CHANGE_STATUS = """
mutation Change($id: ID!) {
  %s(id: $id) {
    __typename
    ... on Ingestion { id status nextDueAt version checkpointPath }
    ... on Error { code message }
    ... on ConflictError { reason }
  }
}
"""


def an_input(api: Api, **fields: Any) -> dict[str, Any]:
    """A good input over the landing folder."""
    name = fields.get("name", "orders")
    return {
        "name": name,
        "source": {"type": "LOCAL", "path": str(api.landing), "glob": "**/*.json"},
        "format": {"type": "JSON"},
        "destination": {"database": "sales", "table": name.replace(" ", "_")},
    } | fields


async def create(api: Api, client: Client, **fields: Any) -> dict[str, Any]:
    """Create an ingestion, and expect that it is created."""
    created = (await client.data(CREATE, {"input": an_input(api, **fields)}))["createIngestion"]
    assert created["__typename"] == "Ingestion", created
    return dict(created)
