"""How the components are: asked side by side, each for a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from domain.errors import DomainError

Probe = Callable[[], Awaitable[str]]
"""Asks a component something small and returns its version; raises when it does not answer."""

PATIENCE_SECONDS = 5.0


class ComponentStatus(StrEnum):
    UP = "UP"
    DOWN = "DOWN"


@dataclass(frozen=True, slots=True)
class Component:
    """`version` is None when it is DOWN, and `message` then says why; `latency_seconds` is how long the answer took."""

    name: str
    status: ComponentStatus
    version: str | None
    latency_seconds: float
    message: str | None


class SystemService:
    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes

    async def components(self) -> list[Component]:
        """Each component, in the order in which they are declared."""
        return list(await asyncio.gather(*(self._ask(name, probe) for name, probe in self._probes.items())))

    async def _ask(self, name: str, probe: Probe) -> Component:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                version = await probe()
        except TimeoutError:
            message = f"no answer within {PATIENCE_SECONDS:.0f} seconds"
        except DomainError as error:
            message = error.message
        except Exception as error:
            # An unexpected error's words may name hosts and users.
            message = f"it failed ({type(error).__name__}); 'autoloader doctor' tells more"
        else:
            return Component(name, ComponentStatus.UP, version, time.perf_counter() - began, None)
        return Component(name, ComponentStatus.DOWN, None, time.perf_counter() - began, message)
