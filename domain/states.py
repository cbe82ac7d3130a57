"""Which status may follow which. The one table that every change of a status goes by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from domain.errors import ConflictError, ConflictReason
from domain.ingestions.entities import IngestionStatus
from domain.ledger.entities import FileStatus
from domain.notifications.entities import DeliveryStatus
from domain.runs.entities import RunStatus

S = TypeVar("S", bound=StrEnum)


class Transitions(Generic[S]):
    """Declared as: status -> the statuses that may follow it."""

    def __init__(self, subject: str, allowed: Mapping[S, tuple[S, ...]]) -> None:
        self._subject = subject
        self._allowed = allowed

    def sources(self, to: S) -> tuple[S, ...]:
        """The statuses from which `to` may be entered; what a conditional UPDATE puts into its WHERE."""
        return tuple(status for status, following in self._allowed.items() if to in following)

    def allows(self, status: S, to: S) -> bool:
        return to in self._allowed[status]

    def require(self, status: S, to: S) -> None:
        """Raise `ConflictError` (WRONG_STATE) unless `to` may follow `status`."""
        if not self.allows(status, to):
            raise ConflictError(ConflictReason.WRONG_STATE, f"{self._subject} that is {status} cannot become {to}")


_I = IngestionStatus
INGESTION = Transitions(
    "an ingestion",
    {
        _I.DRAFT: (_I.ACTIVE, _I.DELETING),
        _I.ACTIVE: (_I.PAUSED, _I.ERROR, _I.DELETING),
        _I.PAUSED: (_I.ACTIVE, _I.DELETING),
        _I.ERROR: (_I.ACTIVE, _I.PAUSED, _I.DELETING),
        _I.DELETING: (),
    },
)

RUNNABLE = (IngestionStatus.DRAFT, IngestionStatus.ACTIVE, IngestionStatus.ERROR)
"""Ingestions that may be run by hand; only ACTIVE ones are run by their schedule."""

_R = RunStatus
RUN = Transitions(
    "a run",
    {
        _R.QUEUED: (_R.RUNNING, _R.CANCELLING, _R.CANCELLED, _R.FAILED),
        _R.RUNNING: (_R.SUCCESS, _R.PARTIAL, _R.FAILED, _R.NO_NEW_FILES, _R.CANCELLING),
        _R.CANCELLING: (_R.CANCELLED, _R.FAILED),
        _R.SUCCESS: (),
        _R.PARTIAL: (),
        _R.FAILED: (),
        _R.NO_NEW_FILES: (),
        _R.CANCELLED: (),
    },
)

ACTIVE_RUN = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLING)
"""Of these an ingestion has at most one; the database holds that."""

BEGUN_RUN = (RunStatus.RUNNING, RunStatus.CANCELLING)
"""Active runs that a worker holds under a lease, or held until it was lost."""

RETRYABLE_RUN = (RunStatus.PARTIAL, RunStatus.FAILED, RunStatus.CANCELLED)
"""Ended runs that may have left files unloaded."""

_F = FileStatus
FILE = Transitions(
    "a file",
    {
        _F.PENDING: (_F.PROCESSING, _F.SKIPPED),
        _F.PROCESSING: (_F.SUCCESS, _F.FAILED, _F.SKIPPED, _F.HELD, _F.PENDING),
        _F.HELD: (_F.PENDING, _F.SKIPPED),
        _F.FAILED: (_F.PENDING, _F.SKIPPED),
        _F.SKIPPED: (_F.PENDING,),
        _F.SUCCESS: (_F.SUPERSEDED,),
        _F.SUPERSEDED: (),
    },
)

DONE_FILE = (FileStatus.SUCCESS, FileStatus.SKIPPED)
"""Files that a run need not look at again."""

UNLOADED_FILE = (FileStatus.PENDING, FileStatus.HELD, FileStatus.FAILED, FileStatus.SKIPPED)
"""Files that nobody has in hand and that are not in the table: new content makes them PENDING anew."""

_D = DeliveryStatus
DELIVERY = Transitions(
    "a delivery",
    {
        _D.PENDING: (_D.DELIVERED, _D.GIVEN_UP),
        _D.DELIVERED: (_D.PENDING,),
        _D.GIVEN_UP: (_D.PENDING,),
    },
)
