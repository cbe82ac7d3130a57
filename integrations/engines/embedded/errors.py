"""What can go wrong inside the engine and is met inside the engine."""

from __future__ import annotations


class CommitConflictError(Exception):
    """Somebody else has committed in between: nothing of this commit is in the table."""


class RowsLostError(RuntimeError):
    """What was written is not what was read. Nothing has been committed."""


class StoppedError(Exception):
    """The work was cancelled."""
