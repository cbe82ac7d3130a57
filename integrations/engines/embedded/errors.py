"""What can go wrong inside the engine and is met inside the engine."""

from __future__ import annotations

import duckdb
from pyiceberg.exceptions import CommitFailedException, NoSuchNamespaceError, NoSuchTableError
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import DomainError


class CommitConflictError(Exception):
    """Somebody else has committed in between: nothing of this commit is in the table."""


class RowsLostError(RuntimeError):
    """What was written is not what was read. Nothing has been committed."""


class StoppedError(Exception):
    """The work was cancelled."""


class PartitionValueError(ValueError):
    """A row that no partition of the table can hold; the message tells a person which column it is for."""


OWN_ERRORS = (DomainError, CommitConflictError, RowsLostError, StoppedError)
"""They say all there is to say, and pass through as they are."""
_OF_THE_SURROUNDINGS = (
    *OWN_ERRORS,
    # Disk, network and storage, also where Arrow and PyIceberg meet them.
    OSError,
    MemoryError,
    # The catalog.
    SQLAlchemyError,
    CommitFailedException,
    NoSuchNamespaceError,
    NoSuchTableError,
    # DuckDB's words for memory, disk and connections, and for work that was stopped.
    duckdb.OperationalError,
    duckdb.InterruptException,
)


def may_lie_with_files(error: Exception) -> bool:
    """Whether it may be what is in the files that has raised this, while they were read and written: not so for memory, disk, network,
    catalog and cancellation."""
    return not isinstance(error, _OF_THE_SURROUNDINGS)
