"""Operations as they are logged, counted and traced: in one place, around everything else that happens to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError
from strawberry.extensions import SchemaExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError

from domain.errors import ErrorCode
from domain.log_fields import bind, binding
from domain.ports.telemetry import Observation, Outcome, Work
from domain.text import readable
from graphql_api.context import Context

log = logging.getLogger(__name__)

SLOW_SECONDS = 5.0
NOT_EXECUTED = "none"
"""The kind of what was refused before it could be told: it is no document, or has no such operation."""
_LONGEST_NAME = 100
_SERIOUS = ("INTERNAL", ErrorCode.UNAVAILABLE.value)
_REFUSALS = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError, GraphQLError)


class ObserveOperations(SchemaExtension):
    """The outermost extension: it sees errors as clients do, and what the others log carries its fields."""

    _observation: Observation

    def on_operation(self) -> Iterator[None]:
        context: Context = self.execution_context.context
        began = time.perf_counter()
        with (
            binding(tenant=context.principal.tenant.id),
            context.services.telemetry.during(Work.OPERATION, NOT_EXECUTED, tenant=str(context.principal.tenant.id)) as observation,
        ):
            self._observation = observation
            try:
                yield
            except _REFUSALS:
                observation.outcome = Outcome.REFUSED
                raise
            finally:
                batches = observation.facts["loader_batches"] = context.loaders.batches
                seconds = time.perf_counter() - began
                if seconds >= SLOW_SECONDS and observation.name != "subscription":
                    log.warning("slow %s: %.1f seconds, %d loader batches", observation.name, seconds, batches)
            observation.outcome = _outcome(self._errors())

    def on_execute(self) -> Iterator[None]:
        execution = self.execution_context
        self._observation.name = execution.operation_type.value
        name = readable(execution.operation_name or "", limit=_LONGEST_NAME)
        if name:
            self._observation.facts["operation_name"] = name
        bind(operation=name or None, operation_kind=self._observation.name)
        yield

    def _errors(self) -> list[GraphQLError]:
        result: Any = self.execution_context.result
        return getattr(result, "errors", None) or self.execution_context.pre_execution_errors or []


def _outcome(errors: list[GraphQLError]) -> Outcome:
    if any((error.extensions or {}).get("code") in _SERIOUS for error in errors):
        return Outcome.ERROR
    return Outcome.REFUSED if errors else Outcome.OK
