"""Generated JSON: both engines make the same of it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from domain.ingestions.entities import BadRowPolicy, FormatType
from tests.integration.spark_engine import test_differential
from tests.integration.spark_engine.generated import compare_batches
from tests.integration.spark_engine.test_differential import Both

both = test_differential.both

LONG = (2**53, 2**53 + 1, 2**60, 2**60 + 4, 2**63 - 1, -(2**63))
LONGER = (2**63, -(2**64), 2**64 + 1, 2**70, 10**20, 123456789012345680000, 10**36, 3 * 10**37)
FRACTIONS = (0.5, -2.25, 1.0, 1e-7, 0.1, 123456789.123, 0.30000000000000004)
TEXTS = ("", "a", "é\u2028", "1e400,", "1.0", "true", "null", "{}", 'x"y\\z', "\U0001f600", " lead", "2024-01-02", "0")
VALUES: Mapping[str, tuple[Any, ...]] = {
    "whole": (0, -1, 7, 2**31),
    "long": (0, 7, *LONG),
    "longer": (7, *LONGER),
    "fraction": FRACTIONS,
    "number": (3, -7, *FRACTIONS),
    "any number": (3, *FRACTIONS, *LONG),
    "exponent": (1e22, 1.5e-9, 1e100),
    "boolean": (True, False),
    "text": TEXTS,
    "object": ({"x": 1, "y": "t"}, {"x": 2}, {}, {"z": None}),
    "list": ([], [1], [2, 2**53 + 1], [None]),
    "nothing": (None,),
}
# Whole numbers beyond 64 bits and fractions in one field of one file are of different types to the engines.
NOISE = [kind for kind in VALUES if kind != "longer"]
BAD_LINES = ("null", "[]", "nope", '"s"', "3", "{}", '{"id": 1} x', '{"id": 1', '{"id": 1}{"id": 2}')


def a_file(chance: random.Random) -> str:
    kinds = {name: chance.choice(list(VALUES)) for name in ("a", "b", "c", "d `e") if chance.random() < 0.8}
    noise = chance.choice((0.0, 0.0, 0.0, 0.2))
    lines = []
    for _ in range(chance.randrange(1, 6)):
        row: dict[str, Any] = {"id": chance.randrange(10**9)}
        for name, kind in kinds.items():
            if chance.random() < 0.85:
                row[name] = chance.choice(VALUES[chance.choice(NOISE) if chance.random() < noise and kind != "longer" else kind])
        text = chance.choice(BAD_LINES) if chance.random() < noise / 2 else json.dumps(row, ensure_ascii=chance.random() < 0.5)
        lines.append(text + chance.choice(("\n", "\n", "\r\n", "\n\n", " \n")))
    if chance.random() < 0.2:
        lines[-1] = lines[-1].rstrip()
    return chance.choice(("", "", "", "\ufeff")) + "".join(lines)


def told_alike(row: Mapping[str, Any]) -> str:
    """Numbers and objects that landed in a text column are written by each engine in its own way."""
    return repr(sorted((name, _read(value) if isinstance(value, str) else value) for name, value in row.items() if name != "_batch_id"))


def _read(text: str) -> str:
    try:
        return json.dumps(json.loads(text, parse_int=float), sort_keys=True)
    except ValueError:
        return text


@pytest.mark.parametrize("seed", range(120, 122))
async def test_generated_files(both: Both, seed: int) -> None:
    chance = random.Random(seed)
    bad_rows = chance.choice(list(BadRowPolicy))

    first = '{"id": 1}\n'
    await compare_batches(both, chance, FormatType.JSON, first, a_file, bad_rows=bad_rows, sizes=(1, 4, 12), comparable=told_alike)
