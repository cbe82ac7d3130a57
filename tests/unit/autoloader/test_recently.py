"""A question that many ask costs the same as when one asks."""

from __future__ import annotations

import asyncio

import pytest

from autoloader.recently import Recently
from domain.errors import UnavailableError


class Oracle:
    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.says: Exception | None = None
        self.held = asyncio.Event()
        self.held.set()
        self.recently = Recently(self.ask, whom="the oracle", keep_seconds=5, patience_seconds=0.05, clock=lambda: self.now)

    async def ask(self) -> int:
        self.asked += 1
        await self.held.wait()
        if self.says is not None:
            raise self.says
        return self.asked


async def test_an_answer_is_kept_for_a_while() -> None:
    oracle = Oracle()
    assert await asyncio.gather(*(oracle.recently() for _ in range(10))) == [1] * 10
    oracle.now = 4.9
    assert await oracle.recently() == 1
    oracle.now = 5.0
    assert await oracle.recently() == 2


async def test_a_failure_is_kept_too_and_names_nothing_secret() -> None:
    oracle = Oracle()
    oracle.says = ConnectionRefusedError("10.0.0.7:5432 as admin")
    for _ in range(3):
        with pytest.raises(UnavailableError, match=r"^the oracle failed \(ConnectionRefusedError\)$"):
            await oracle.recently()
    assert oracle.asked == 1
    oracle.now, oracle.says = 5.0, UnavailableError("come back tomorrow")
    with pytest.raises(UnavailableError, match=r"^come back tomorrow$"):
        await oracle.recently()


async def test_the_wait_is_bounded() -> None:
    oracle = Oracle()
    oracle.held.clear()
    with pytest.raises(UnavailableError, match=r"^the oracle did not answer within 0\.05 seconds$"):
        await oracle.recently()
