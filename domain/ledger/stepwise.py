"""Changing many files a few at a time, so that no statement takes long, however large the ledger is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.ports.repositories import FILES_AT_ONCE

MOST_AT_ONCE = 100_000
"""Files that one transaction changes which a person waits for."""


@dataclass(frozen=True, slots=True)
class Changed:
    """`files` were changed; `more` says that there may be others to change, for the limit was reached."""

    files: int
    more: bool = False


class Change(Protocol):
    async def __call__(self, *, after: int, limit: int) -> Sequence[int]:
        """Change at most `limit` files, those after the one with id `after`; the ids of the changed ones, by id."""
        ...


async def stepwise(change: Change, *, at_most: int | None = None) -> Changed:
    """Call `change` until it finds nothing more, or `at_most` files are changed.

    Not until it finds fewer than it may: files that somebody else has just changed are not among a step's, and others may follow.
    """
    files = after = 0
    while at_most is None or files < at_most:
        limit = FILES_AT_ONCE if at_most is None else min(FILES_AT_ONCE, at_most - files)
        changed = await change(after=after, limit=limit)
        if not changed:
            return Changed(files)
        files, after = files + len(changed), changed[-1]
    return Changed(files, more=True)
