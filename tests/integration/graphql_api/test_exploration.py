"""previewIngestion and estimateCost: they answer, and store nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from domain.tenants import Role
from tests.fixtures.api import Api, Client
from tests.fixtures.application import Running

PREVIEW = """
query Preview($input: PreviewIngestionInput!) {
  previewIngestion(input: $input) {
    __typename
    ... on Preview { columns { name type } rows }
    ... on Error { code message }
    ... on ValidationError { fields { path } }
  }
}
"""
ESTIMATE = """
query Estimate($input: EstimateCostInput!) {
  estimateCost(input: $input) {
    __typename
    ... on CostEstimate {
      currency runsPerMonth firstLoadSeconds secondsPerRun assumptions
      measure { files sizeBytes recentFiles recentBytes complete }
      firstLoad { compute requests storage total }
      perMonth { compute requests storage total }
    }
    ... on Error { code message }
    ... on ValidationError { fields { path } }
  }
}
"""
STORED = "SELECT (SELECT count(*) FROM ingestions) + (SELECT count(*) FROM processed_files) + (SELECT count(*) FROM outbox)"


def looking_at(folder: Path, **fields: Any) -> dict[str, Any]:
    return {"source": {"type": "LOCAL", "path": str(folder), "glob": "*.json"}, "format": {"type": "JSON"}} | fields


@pytest.mark.scenario(16)
async def test_a_preview_shows_columns_and_rows_and_stores_nothing(running: Running) -> None:
    rows = [{"id": i, "name": f"n{i}", "at": {"x": i / 2}} for i in range(30)]
    (running.landing / "a.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (running.landing / "b.json").write_text("<html>")
    preview = (await running.client.data(PREVIEW, {"input": looking_at(running.landing, limit=3)}))["previewIngestion"]
    assert preview["__typename"] == "Preview", preview
    assert preview["columns"] == [
        {"name": "id", "type": "long"},
        {"name": "name", "type": "string"},
        {"name": "at", "type": "struct<x: double>"},
    ]
    assert preview["rows"] == rows[:3]
    async with running.database.connect() as connection:
        from sqlalchemy import text

        assert await connection.scalar(text(STORED)) == 0
    assert not list((running.application.settings.home / "warehouse").rglob("*.parquet"))


async def test_a_preview_of_nothing_readable_is_a_validation_error(running: Running) -> None:
    answer = (await running.client.data(PREVIEW, {"input": looking_at(running.landing)}))["previewIngestion"]
    assert answer["fields"] == [{"path": ["source", "path"]}]
    (running.landing / "b.json").write_text("<html>")
    answer = (await running.client.data(PREVIEW, {"input": looking_at(running.landing)}))["previewIngestion"]
    assert answer["__typename"] == "ValidationError"


@pytest.mark.scenario(17)
async def test_an_estimate_adds_up(api: Api, client: Client) -> None:
    for i in range(4):
        path = api.landing / f"{i}.json"
        path.write_bytes(b"x" * 1_000_000)
        if i < 3:
            month_ago = time.time() - 31 * 86_400
            os.utime(path, (month_ago, month_ago))
    (api.landing / "left out.csv").write_bytes(b"x" * 1_000_000)
    input = looking_at(api.landing, schedule={"cron": "0 0 * * *"}, execution={"clusterSize": "SMALL"})
    estimate = (await client.data(ESTIMATE, {"input": input}))["estimateCost"]
    assert estimate["__typename"] == "CostEstimate", estimate
    assert estimate["measure"] == {"files": 4, "sizeBytes": 4_000_000, "recentFiles": 1, "recentBytes": 1_000_000, "complete": True}
    assert estimate["runsPerMonth"] == pytest.approx(365 / 12, abs=0.1)
    # 4 MB at 80 MB/s and a second for the run.
    assert estimate["firstLoadSeconds"] == pytest.approx(1.05)
    for part in ("firstLoad", "perMonth"):
        costs = estimate[part]
        assert costs["total"] == pytest.approx(costs["compute"] + costs["requests"] + costs["storage"])
    assert estimate["firstLoad"]["compute"] == pytest.approx(1.05 / 3600 * 0.096, abs=1e-6)
    assert len(estimate["assumptions"]) == 4
    assert await api.scalar(STORED) == 0


@pytest.mark.parametrize("document", [PREVIEW, ESTIMATE])
async def test_looking_is_bound_to_the_grants_and_to_operators(api: Api, client: Client, document: str) -> None:
    [answer] = (await client.data(document, {"input": looking_at(Path("/etc"))})).values()
    assert answer["fields"] == [{"path": ["source", "path"]}]
    viewer = await api.client(role=Role.VIEWER, tenant=client.tenant)
    [answer] = (await viewer.data(document, {"input": looking_at(api.landing)})).values()
    assert (answer["__typename"], answer["code"]) == ("ForbiddenError", "FORBIDDEN")
