"""Services whose calls are measured, without a word of it in the services."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar, cast

from domain.ports.telemetry import Telemetry, Work
from domain.runs.entities import Run

S = TypeVar("S")


def observed(service: S, telemetry: Telemetry) -> S:
    """The service, each of whose public coroutine methods is measured when it is called from outside."""
    return cast(S, _Observed(service, telemetry))


class _Observed:
    def __init__(self, service: object, telemetry: Telemetry) -> None:
        self._service = service
        self._telemetry = telemetry

    def __getattr__(self, name: str) -> Any:
        """Asked once for each method: what it gives is kept."""
        method = getattr(self._service, name)
        if name.startswith("_") or not inspect.iscoroutinefunction(method):
            return method
        call = f"{type(self._service).__name__}.{name}"

        async def measured(*args: Any, **kwargs: Any) -> Any:
            with self._telemetry.during(Work.SERVICE_CALL, call) as observation:
                result = await method(*args, **kwargs)
                if isinstance(result, Run):
                    observation.facts["run_id"] = str(result.id)
                return result

        setattr(self, name, measured)
        return measured
