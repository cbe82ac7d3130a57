"""`autoloader audit` as people run it."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from tests.fixtures.application import Running
from tests.integration.test_audit import loaded, take_out_a_row


async def command(running: Running, home: Path, *arguments: str) -> tuple[int | None, list[str]]:
    """`autoloader` over the same database and warehouse, from another home: its exit code, and the lines that it prints."""
    settings = running.application.settings
    assert settings.database_url is not None
    environment = os.environ | {
        "AUTOLOADER_DATABASE_URL": settings.database_url.get_secret_value(),
        "AUTOLOADER_HOME": str(home),
        "AUTOLOADER_WAREHOUSE": settings.warehouse_uri,
        "COLUMNS": "300",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "autoloader", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    return process.returncode, told.decode().splitlines()


async def test_the_command_says_so_and_exits_with_1(running: Running, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    await loaded(running)
    before = await running.application.directory.tenant_by_name("local")
    code, told = await command(running, home, "audit", "events")
    assert (code, told[0]) == (0, "3 files listed; 3 in the ledger, with 3 rows; 3 rows in the table, of 2 files")
    assert told[-2:] == ["NOT_LOADED: 1", "The table holds what the ledger says."]
    await take_out_a_row(running)
    code, told = await command(running, home, "audit", "events")
    assert (code, told[-2:]) == (1, ["NOT_LOADED: 1; ROWS_MISSING: 1", "The table does not hold what the ledger says."])
    assert await command(running, home, "audit", "nothing") == (1, ["autoloader: ingestion 'nothing' not found"])
    # What the tenant may read is for its servers to say.
    assert await running.application.directory.tenant_by_name("local") == before


async def test_a_schema_that_is_not_ours_is_not_changed(empty_database_url: str, running: Running, tmp_path: Path) -> None:
    other = running.application.settings.model_copy(update={"database_url": SecretStr(empty_database_url)})
    elsewhere = replace(running, application=replace(running.application, settings=other))
    code, [told] = await command(elsewhere, tmp_path / "elsewhere", "audit", "events")
    assert (code, told.split(",")[0]) == (1, "autoloader: the schema is at nothing")
