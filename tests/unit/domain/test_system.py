"""Components that do not answer are told so, in their own time and without their secrets."""

from __future__ import annotations

import asyncio

import pytest

from domain import system
from domain.errors import UnavailableError
from domain.system import ComponentStatus, SystemService


async def test_each_component_answers_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "PATIENCE_SECONDS", 0.01)

    async def well() -> str:
        return "one 1.0"

    async def expected() -> str:
        raise UnavailableError("it is away")

    async def unexpected() -> str:
        raise RuntimeError("password=secret")

    async def silent() -> str:
        await asyncio.Event().wait()
        return "never"

    probes = {"well": well, "expected": expected, "unexpected": unexpected, "silent": silent}
    found = await SystemService(probes).components()
    assert [(c.name, c.status, c.version, c.message) for c in found] == [
        ("well", ComponentStatus.UP, "one 1.0", None),
        ("expected", ComponentStatus.DOWN, None, "it is away"),
        ("unexpected", ComponentStatus.DOWN, None, "it failed (RuntimeError); 'autoloader doctor' tells more"),
        ("silent", ComponentStatus.DOWN, None, "no answer within 0 seconds"),
    ]
