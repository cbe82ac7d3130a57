"""The limits of operations, as they are configured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.tenants import Role
from graphql_api.limits.rate import CostRate


def _default_rate() -> CostRate:
    return CostRate(100_000, 2_000_000, time.monotonic)


@dataclass(frozen=True, slots=True)
class Limits:
    """`operation_cost` is what one operation may cost, `rate` what a tenant's may in a while, `seconds` how long one may take, and
    `turn_seconds` how long at a stretch while others wait.

    `documents` are the persisted ones, by their ids; `free_documents_role` is what it takes to send others.
    """

    operation_cost: int = 100_000
    rate: CostRate = field(default_factory=_default_rate)
    seconds: float = 30.0
    turn_seconds: float = 0.05
    introspection: bool = True
    documents: Mapping[str, str] = field(default_factory=dict)
    free_documents_role: Role = Role.VIEWER
