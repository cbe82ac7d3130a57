"""Which files of a batch it is that cannot be loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def isolated(files: Sequence[T], error_over: Callable[[Sequence[T]], Exception | None], *, together: bool) -> Iterator[tuple[T, Exception]]:
    """The files over which loading raises, and what; found by halving, for a batch that is known to raise as a whole.

    By itself each, which costs at most two tries of every size from half the batch down to one file for each of them. With
    `together`, beside those that were found good before, in order: so it also finds what only raises in company, with larger tries.
    An error holds on to all that it was raised over: use each before the next.
    """
    good: list[T] = []
    groups = _halves(files)
    while groups:
        group = groups.pop()
        error = error_over([*good, *group])
        if error is None:
            if together:
                good += group
        elif len(group) == 1:
            yield group[0], error
        else:
            groups += _halves(group)


def _halves(files: Sequence[T]) -> list[Sequence[T]]:
    """The second half first: the last one is taken next."""
    middle = len(files) // 2
    return [half for half in (files[middle:], files[:middle]) if half]
