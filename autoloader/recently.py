"""The answer to a question that many may ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from domain.errors import DomainError, UnavailableError

T = TypeVar("T")


class Recently(Generic[T]):
    """Asks once at a time, for a bounded time, and keeps the answer for a while, a failure too: however many ask, it costs the same."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[T]],
        *,
        whom: str,
        keep_seconds: float,
        patience_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._whom = whom
        self._keep_seconds = keep_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._asking = asyncio.Lock()
        self._good_until = float("-inf")
        self._answer: T | _Failure

    async def __call__(self) -> T:
        """Raises `UnavailableError`, whose message names no host and no user."""
        async with self._asking:
            if self._clock() >= self._good_until:
                self._answer = await self._asked()
                self._good_until = self._clock() + self._keep_seconds
        if isinstance(self._answer, _Failure):
            raise UnavailableError(str(self._answer))
        return self._answer

    async def _asked(self) -> T | _Failure:
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await self._ask()
        except TimeoutError:
            return _Failure(f"{self._whom} did not answer within {self._patience_seconds:g} seconds")
        except DomainError as error:
            return _Failure(error.message)
        except Exception as error:
            return _Failure(f"{self._whom} failed ({type(error).__name__})")


class _Failure(str):
    """What went wrong, in a line."""

    __slots__ = ()
