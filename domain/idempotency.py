"""A request that is repeated under one key does its work once."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar
from uuid import UUID

from domain.ports.unit_of_work import UnitOfWork

KEYS_KEPT_SECONDS = 7 * 86_400.0
"""How old an idempotency key becomes. A request that is repeated later is a new one."""

T = TypeVar("T")


class Repeatable(Protocol):
    """An input model whose requests may carry a key."""

    @property
    def idempotency_key(self) -> str | None: ...

    def model_dump_json(self, *, exclude: set[str]) -> str: ...


def fingerprint(request: Repeatable) -> str:
    """A digest by which a repeated request is told from another request under the same idempotency key."""
    return hashlib.sha256(request.model_dump_json(exclude={"idempotency_key"}).encode()).hexdigest()


async def first_result(
    tx: UnitOfWork, operation: str, request: Repeatable, subject_id: UUID, get: Callable[[UUID], Awaitable[T | None]]
) -> T | None:
    """What an earlier request under the same key has made. None when there was none, or what it made is gone:

    the request is to be done, and its key stands for `subject_id`. Raises `ConflictError` (IDEMPOTENCY_KEY_REUSED).
    """
    key = request.idempotency_key
    if key is None:
        return None
    while (earlier := await tx.idempotency_keys.claim(operation, key, fingerprint(request), subject_id)) is not None:
        if (found := await get(earlier)) is not None:
            return found
        # Of several who find that it is gone one takes the key over; the others find what that one makes.
        if await tx.idempotency_keys.take_over(operation, key, earlier, subject_id):
            return None
    return None
