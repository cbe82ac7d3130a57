"""Which constraint a statement met."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError

from domain.errors import NotFoundError


def constraint_of(error: IntegrityError) -> str | None:
    """The constraint's or unique index's name, as asyncpg reports it."""
    cause = error.orig.__cause__ if error.orig is not None else None
    return getattr(cause, "constraint_name", None)


@contextmanager
def owned_ingestion(table: str) -> Iterator[None]:
    """Around an INSERT of something that belongs to an ingestion. Raises `NotFoundError` when the tenant has no such ingestion."""
    try:
        yield
    except IntegrityError as error:
        if constraint_of(error) == f"fk_{table}_ingestion":
            raise NotFoundError("ingestion") from None
        raise
