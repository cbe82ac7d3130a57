"""What is measured while it works: the port to metrics and traces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from domain.errors import DomainError, UnavailableError
from domain.runs.entities import Run, RunMetrics


class Work(StrEnum):
    """What kind of thing is measured. What it is called, its `name`, is one of a few that the code knows."""

    OPERATION = "operation"
    """A GraphQL operation; named by its kind, for clients choose the operation's own name."""
    LOADER_BATCH = "loader batch"
    """A statement of a dataloader; named by the relation or entity that it reads."""
    SERVICE_CALL = "service call"
    RUN = "run"
    STAGE = "stage"
    BATCH = "batch"


class Outcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    """As expected errors say: a client's mistake, a state that does not allow it. A run that was stopped, too."""
    ERROR = "error"
    """Somebody should look: it is unexpected, or a component does not answer."""


class DeliveryOutcome(StrEnum):
    """How a try of a webhook's delivery has ended; one that has FAILED is tried again."""

    DELIVERED = "delivered"
    FAILED = "failed"
    GIVEN_UP = "given_up"


class Recovered(StrEnum):
    """What a silent worker has left, and another has settled."""

    RUN = "run"
    BATCH = "batch"


class EventOutcome(StrEnum):
    """What came of a notification of a store."""

    TAKEN = "taken"
    """Its object is in the ledger, newly or as before."""
    EARLY = "early"
    """Its object is too young; the message comes again."""
    FILTERED = "filtered"
    ELSEWHERE = "elsewhere"
    """Of another bucket or prefix than the source's."""
    GONE = "gone"
    OTHER = "other"
    """Of a removal, a tag or the like."""
    TEST = "test"
    REFUSED = "refused"
    """Its object may not be looked at; the message is left."""
    NOT_UNDERSTOOD = "not_understood"


Fact = str | int | float | bool


@dataclass(slots=True)
class Observation:
    """What is told of a piece of work while it goes on. Its outcome is seen from how it ends, unless it is set."""

    name: str
    facts: dict[str, Fact] = field(default_factory=dict)
    outcome: Outcome | None = None


class Telemetry(Protocol):
    """Never fails, and never waits: what it is told is counted here and sent elsewhere."""

    def during(self, work: Work, name: str, **facts: Fact) -> AbstractContextManager[Observation]:
        """Measure the block: how long it takes, and how it ends. What begins within belongs to it.

        Facts tell which one it was, for traces: ids, numbers, names. Never what a client has sent as a value, nor secrets.
        """
        ...

    def continuing(self, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """What is measured in the block belongs to the trace that a caller's headers name (W3C `traceparent`), if they do."""
        ...

    def loaded(self, metrics: RunMetrics) -> None:
        """A batch's outcomes have been stored."""
        ...

    def ended(self, run: Run) -> None:
        """A run's end has been stored."""
        ...

    def recovered(self, what: Recovered) -> None: ...

    def delivery_tried(self, outcome: DeliveryOutcome) -> None:
        """A try of a webhook's delivery has been stored."""
        ...

    def events(self, outcome: EventOutcome, count: int) -> None:
        """So many notifications of stores have come to this."""
        ...

    def owns_background(self, owns: bool) -> None:
        """Whether this process does the background work from now on."""
        ...


def outcome_of(error: BaseException | None) -> Outcome:
    """How work has ended that the error left; None is the good end."""
    if error is None:
        return Outcome.OK
    if isinstance(error, asyncio.CancelledError) or (isinstance(error, DomainError) and not isinstance(error, UnavailableError)):
        return Outcome.REFUSED
    return Outcome.ERROR


class NoTelemetry:
    """Measures nothing."""

    @contextmanager
    def during(self, work: Work, name: str, **facts: Fact) -> Iterator[Observation]:
        yield Observation(name, facts)

    @contextmanager
    def continuing(self, headers: Mapping[str, str]) -> Iterator[None]:
        yield

    def loaded(self, metrics: RunMetrics) -> None: ...

    def ended(self, run: Run) -> None: ...

    def recovered(self, what: Recovered) -> None: ...

    def delivery_tried(self, outcome: DeliveryOutcome) -> None: ...

    def events(self, outcome: EventOutcome, count: int) -> None: ...

    def owns_background(self, owns: bool) -> None: ...


NO_TELEMETRY: Telemetry = NoTelemetry()
