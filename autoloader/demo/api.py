"""The GraphQL API as any client would use it: over HTTP, with the key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from autoloader.demo.errors import DemoError

CREATE_INGESTION = """\
mutation CreateIngestion($input: CreateIngestionInput!) {
  createIngestion(input: $input) {
    ... on Ingestion { id name status destination { database table } }
    ... on Error { code message }
    ... on ValidationError { fields { path message } }
  }
}"""

RUN_INGESTION = """\
mutation RunIngestion($input: RunIngestionInput!) {
  runIngestion(input: $input) {
    ... on Run { id status }
    ... on Error { code message }
  }
}"""

RUN = """\
query Run($id: ID!) {
  run(id: $id) {
    id status progress endedAt durationSeconds errorMessage
    filesDiscovered filesProcessed filesFailed filesSkipped rowsWritten bytesProcessed
  }
}"""

INGESTION = """\
query Ingestion($id: ID!, $outcomes: [FileStatus!]) {
  ingestion(id: $id) {
    name
    runs(first: 10) {
      totalCount
      nodes { status trigger filesDiscovered filesProcessed filesFailed rowsWritten durationSeconds errorMessage }
    }
    files(first: 5, filter: { status: $outcomes }) {
      totalCount
      nodes { path status rows sizeBytes snapshotId errorMessage }
    }
    schemaVersions(first: 10) {
      nodes { version columns { name type } diff { added { name type } } }
    }
  }
}"""


@dataclass(frozen=True, slots=True)
class Api:
    http: httpx.AsyncClient

    async def send(self, document: str, **variables: Any) -> Any:
        """The operation's only field. Raises `DemoError` for errors, typed ones too."""
        response = await self.http.post("/graphql", json={"query": document, "variables": variables})
        body = response.json()
        if errors := body.get("errors"):
            raise DemoError(f"the API answered with errors: {'; '.join(error['message'] for error in errors)}")
        [answer] = body["data"].values()
        if answer is None or "code" in answer:
            raise DemoError(f"the API answered with an error: {answer}")
        return answer


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncIterator[Api]:
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/graphql-response+json"}
    # Nothing of the environment: a proxy has no business between us and this machine's own server.
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as http:
        yield Api(http)
