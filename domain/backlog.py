"""What waits, across all tenants, as operators watch it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domain.runs.entities import RunStatus

COUNT_AT_MOST = 100_000
"""Files and entries are counted to this many and no further: a count that is exact is dear, and 'too many' is enough to know."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """At one moment. `waiting_for_retry` counts FAILED files with a retry to come; `lag_seconds` is how long the longest known
    PENDING file has waited; `outbox_overdue_seconds` how long the longest due entry has been due, the care of tables apart, for which
    nobody waits; `active_runs` has every active status; `background_owned` tells whether some process does the background work.

    Of the queues of stores' notifications, as they stood when they were looked at last: `queue_messages` wait in them, `dead_letters` in
    the queues behind them, and `queues_unavailable` could not be asked. Those of ingestions that are not ACTIVE do not count."""

    pending: int
    waiting_for_retry: int
    lag_seconds: float
    outbox_entries: int
    outbox_overdue_seconds: float
    active_runs: Mapping[RunStatus, int]
    background_owned: bool
    queue_messages: int
    dead_letters: int
    queues_unavailable: int
