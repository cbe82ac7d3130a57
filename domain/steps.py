"""The steps of a run between which a process may die, and why each is a safe place to die.

The code says where it is by `reached`, which does nothing. A test's own process puts something in its place that kills or stops the
process there; nothing that is shipped does, and no setting, environment variable or request can (see ADR 0021).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """What has just been done, and what whoever comes next finds. In the order of a run."""

    STARTED = "run started"
    """The run is RUNNING under a lease. When that has expired, the run ends FAILED; nothing else has happened."""
    LISTED = "files entered"
    """A part of the listing, or of what the queue had, is in the ledger. The next run lists again, and messages that were not deleted
    come again; what is known is not entered twice."""
    DISCOVERED = "discovery ended"
    """The files wait as PENDING; any run takes them."""
    CLAIMED = "batch claimed"
    """The files are PROCESSING, in a batch whose lease expires. The table knows nothing of it: it is released."""
    STAGED = "files staged"
    """The source's bytes are in scratch space, which the next process of this machine removes."""
    TABLE_CREATED = "table created"
    """The table is there, empty, and the ledger does not know it. The next load finds it by name. Data files for it may lie there, too."""
    WRITTEN = "data files written"
    """Data files lie in the warehouse that no snapshot has: nobody reads them. They cost space until they are removed."""
    GUARDED = "lease confirmed"
    """The lease has been renewed, and the commit is next. Who recovers raises the epoch and commits a fence: a commit prepared
    before that is refused by the catalog, however late it comes."""
    COMMITTED = "table committed"
    """The table has the batch, and the ledger does not know. The snapshot, or the rows, carry the batch's id: who recovers finds them
    and marks the files as loaded."""
    MARKED = "batch marked"
    """Table and ledger agree. The files are SUCCESS, and no run takes them again."""
    PROCESSED = "nothing left to claim"
    """All batches are settled; only the run's own end is missing. It ends FAILED when its lease has expired, with its counters right."""
    ENDED = "run ended"
    """All is stored. The outbox's row may be handled once more, and finds nothing to do."""

    TAKEN_OVER = "batch taken over"
    """A recoverer has raised the epoch, under a lease of its own. When that has expired the next one raises it again."""
    FENCED = "table fenced and asked"
    """The fence is an empty snapshot: one more does no harm. The next recoverer asks again, and gets the same answer."""
    SETTLED = "batch settled"
    """The recovered batch is COMMITTED or RELEASED, in one transaction with its files."""

    RESET_DECIDED = "reset decided"
    """The new generation and what is to be removed stand with the ingestion; every run does that before it loads."""
    TABLE_DROPPED = "table dropped"
    """Dropping names the table by its UUID: done again, it finds nothing, and a new table of the name is not touched."""
    REMOVAL_WRITTEN = "staying rows written anew"
    """Data files without the rows to go; no snapshot has them, and the old ones are still in the table."""
    ROWS_REMOVED = "rows removed"
    """The rows left in one commit. Done again, it finds none."""
    FORGOTTEN = "files forgotten"
    """Some of the files have left the ledger; the reset still stands, and the rest follows before anything is loaded."""
    RESET_DONE = "reset done"
    """The ingestion says that nothing is left to remove."""


def _nothing(step: Step) -> None:
    """What shipped code does at a step."""


on_step: Callable[[Step], None] = _nothing
"""Replaced by tests, in processes of their own, and by nothing else. Called on the event loop or in a thread of the engine."""


def reached(step: Step) -> None:
    on_step(step)
