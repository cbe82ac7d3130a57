"""The audit with everything behind it: a row that somebody has taken out is missed."""

from __future__ import annotations

from typing import Any

from tests.fixtures.application import Running

AUDIT = """
query ($id: ID!) {
  auditIngestion(id: $id) {
    __typename
    ... on Completeness {
      consistent runActive listedFiles ledgerFiles ledgerRows tableFiles tableRows
      counts { kind count }
      differences { kind path status ledgerRows tableRows }
    }
    ... on Error { code message }
  }
}
"""


async def audit(running: Running, id: str) -> dict[str, Any]:
    return dict((await running.client.data(AUDIT, {"id": id}))["auditIngestion"])


async def loaded(running: Running) -> str:
    for name, content in {"a": '{"id": 1}\n{"id": 2}\n', "b": '{"id": 3}\n', "bad": "<html>\n"}.items():
        (running.landing / f"{name}.json").write_text(content)
    ingestion = await running.create("events")
    assert (await running.run(ingestion))["status"] == "PARTIAL"
    return ingestion


async def take_out_a_row(running: Running) -> None:
    """As somebody would who knows nothing of us."""
    await running.iceberg("events", lambda table: table.delete("id = 2"))


async def test_a_row_that_is_gone_is_missed(running: Running) -> None:
    ingestion = await loaded(running)
    bad = {"kind": "NOT_LOADED", "path": str(running.landing / "bad.json"), "status": "FAILED", "ledgerRows": None, "tableRows": 0}
    assert await audit(running, ingestion) == {
        "__typename": "Completeness",
        "consistent": True,
        "runActive": False,
        "listedFiles": 3,
        "ledgerFiles": 3,
        "ledgerRows": 3,
        "tableFiles": 2,
        "tableRows": 3,
        "counts": [{"kind": "NOT_LOADED", "count": 1}],
        "differences": [bad],
    }
    await take_out_a_row(running)
    found = await audit(running, ingestion)
    missing = {"kind": "ROWS_MISSING", "path": str(running.landing / "a.json"), "status": "SUCCESS", "ledgerRows": 2, "tableRows": 1}
    assert (found["consistent"], found["tableRows"], found["differences"]) == (False, 2, [missing, bad])
