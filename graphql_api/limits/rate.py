"""How much a tenant may ask for in a while: a bucket of cost for each, in this process's memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

MOST_BUCKETS = 10_000
"""The bucket that was not used for longest goes first; whoever it belonged to has a full one again."""


class CostRate:
    """A bucket holds `burst` at most, and fills by `per_second`. An operation that costs more than a full bucket holds empties it."""

    def __init__(self, per_second: float, burst: float, now: Callable[[], float]) -> None:
        """`now` is a clock that only goes forward, in seconds."""
        self._per_second = per_second
        self._burst = burst
        self._now = now
        self._buckets: OrderedDict[UUID, tuple[float, float]] = OrderedDict()

    def take(self, tenant_id: UUID, cost: int) -> float:
        """0 when the cost has been taken; else nothing was, and after so many seconds it can be."""
        now = self._now()
        level, since = self._buckets.pop(tenant_id, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._per_second)
        wanted = min(cost, self._burst)
        taken = wanted <= level
        self._buckets[tenant_id] = (level - wanted if taken else level, now)
        while len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else math.ceil((wanted - level) / self._per_second * 1000) / 1000
