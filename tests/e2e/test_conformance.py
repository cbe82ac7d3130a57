"""The server as GraphQL over HTTP asks for it, by the audit of the npm package graphql-http."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from autoloader.settings import Settings
from autoloader.stack import running_stack

AUDIT = Path(__file__).parent.parent / "conformance"


async def call(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(*arguments, cwd=AUDIT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def test_every_rule_of_the_audit_is_met(tmp_path: Path, database_url: str) -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        if "CI" in os.environ:
            pytest.fail("node and npm are needed for the audit")
        pytest.skip("node and npm are not on this machine")
    if not (AUDIT / "node_modules").exists():
        await call("npm", "ci", "--no-fund", "--no-audit")
    async with running_stack(Settings(home=tmp_path / "home", database_url=database_url, port=0)) as stack:
        assert await call("node", "audit.mjs", f"{stack.url}/graphql", stack.key) == "61 of 61\n"
