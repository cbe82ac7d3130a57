"""Halving: which files it finds, and in how many tries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import ceil, log2

import pytest

from integrations.engines.embedded.isolation import isolated


class Batch:
    """Numbers for files. Loading raises over a bad one, and over any two that do not go together."""

    def __init__(self, *, bad: set[int] = frozenset(), foes: Sequence[set[int]] = ()) -> None:  # type: ignore[assignment]
        self._bad = bad
        self._foes = foes
        self.tries: list[list[int]] = []

    def error_over(self, files: Sequence[int]) -> Exception | None:
        self.tries.append(list(files))
        worst = min((file for file in files if file in self._bad), default=None)
        if worst is not None:
            return ValueError(worst)
        return TypeError("together") if any(pair <= set(files) for pair in self._foes) else None


def test_one_bad_file_is_found_in_two_tries_of_every_size() -> None:
    batch = Batch(bad={5})

    found = list(isolated(range(8), batch.error_over, together=False))

    assert [(file, repr(error)) for file, error in found] == [(5, "ValueError(5)")]
    assert batch.tries == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]]


def test_the_only_file_is_tried_once_more() -> None:
    batch = Batch(bad={0})

    assert [file for file, _ in isolated([0], batch.error_over, together=False)] == [0]
    assert batch.tries == [[0]]


@pytest.mark.parametrize("seed", range(20))
def test_all_bad_files_are_found_and_no_good_one(seed: int) -> None:
    chance = random.Random(seed)
    size = chance.randint(1, 300)
    bad = set(chance.sample(range(size), chance.randint(1, size)))
    for together in (False, True):
        batch = Batch(bad=bad)

        found = list(isolated(range(size), batch.error_over, together=together))

        assert [file for file, _ in found] == sorted(bad)
        assert len(batch.tries) <= len(bad) * 2 * max(1, ceil(log2(size)))


def test_files_that_only_raise_in_company_are_found_beside_the_ones_before_them() -> None:
    batch = Batch(foes=[{0, 3}, {1, 6}])

    assert list(isolated(range(7), batch.error_over, together=False)) == []
    assert [file for file, _ in isolated(range(7), batch.error_over, together=True)] == [3, 6]
