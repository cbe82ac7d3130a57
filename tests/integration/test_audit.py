"""The audit with everything behind it, through the API and as a command: a row that somebody has taken out is missed."""

from __future__ import annotations

import asyncio
import os
import sys
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


async def command(running: Running, *arguments: str) -> tuple[int | None, list[str]]:
    """`autoloader` over the same database: its exit code, and the lines that it prints."""
    settings = running.application.settings
    assert settings.database_url is not None
    environment = os.environ | {
        "AUTOLOADER_DATABASE_URL": settings.database_url.get_secret_value(),
        "AUTOLOADER_HOME": str(settings.home),
        "AUTOLOADER_LOCAL_ROOTS": ":".join(settings.roots),
        "COLUMNS": "300",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "autoloader", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    return process.returncode, told.decode().splitlines()


async def test_the_command_says_so_and_exits_with_1(running: Running) -> None:
    await loaded(running)
    code, told = await command(running, "audit", "events")
    assert (code, told[0]) == (0, "3 files listed; 3 in the ledger, with 3 rows; 3 rows in the table, of 2 files")
    assert told[-2:] == ["NOT_LOADED: 1", "The table holds what the ledger says."]
    await take_out_a_row(running)
    code, told = await command(running, "audit", "events")
    assert (code, told[-2:]) == (1, ["NOT_LOADED: 1; ROWS_MISSING: 1", "The table does not hold what the ledger says."])
    assert await command(running, "audit", "nothing") == (1, ["autoloader: ingestion 'nothing' not found"])
