"""Whatever lies in the files, the counts add up: rows read are rows in the table and rows skipped, file by file."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.ingestions.entities import BadRowPolicy, Destination, FormatType
from domain.ports.engine import RESCUED_DATA_COLUMN, SOURCE_FILE_COLUMN, OutcomeStatus
from tests.fixtures.engine_bench import EngineBench

HINTS = {"id": "long", "amount": "double"}
_numbers = itertools.count(1)

GOOD_JSON = st.sampled_from(['{"id": 1, "name": "a", "amount": 0.5}', '{"id": 2}', '{"id": 3, "name": "é\\u00e9", "amount": null}'])
BAD_JSON = st.sampled_from(
    [
        '{"id": "four"}',
        '{"id": 5, "amount": "much"}',
        '{"id": 99999999999999999999}',
        '{"id": 1.5}',
        '{"id": 6, "name": {"first": "x"}}',
        '{"id": 7, "name": [1, 2]}',
        '{"id": 8, "id": 9}',
        '{"id": 10',
        '{"id": 11}}',
        '{"id": 12} {"id": 13}',
        '"text"',
        "14",
        "null",
        "{}",
        '{"id": 15, "new": true}',
        '{"id": NaN}',
        "<html>",
        "}{",
        '{"id": 16, "name": "\x01"}',
    ]
)
GOOD_CSV = st.sampled_from(["1,a,0.5", "2,,", '3,"a, b",1', '4,"says ""x""",2', '5,"two\nlines",3'])
BAD_CSV = st.sampled_from(
    ["four,a,1", "6,a,much", "7,a", "8", "9,a,1,extra", "99999999999999999999,a,1", "1.5,a,1", ",,", '10,a"b,1', '11,"x"y,1']
)
BLANK = st.just("")


@dataclass(frozen=True)
class Kind:
    """`rows` counts a file's rows without the engine, or says None where its text has no plain reading."""

    format: FormatType
    suffix: str
    head: str
    good: st.SearchStrategy[str]
    bad: st.SearchStrategy[str]
    rows: Callable[[str], int | None]


def rows_of_json(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


def rows_of_csv(text: str) -> int | None:
    try:
        return sum(1 for record in csv.reader(io.StringIO(text, newline=""), strict=True) if record) - 1
    except csv.Error:
        return None


JSON = Kind(FormatType.JSON, "json", "", GOOD_JSON, BAD_JSON, rows_of_json)
CSV = Kind(FormatType.CSV, "csv", "id,name,amount\n", GOOD_CSV, BAD_CSV, rows_of_csv)


@st.composite
def files(draw: st.DrawFn, kind: Kind) -> list[tuple[str, bool]]:
    """Texts, and whether a text holds nothing but good rows."""
    found = []
    for only_good in draw(st.lists(st.booleans(), min_size=1, max_size=4)):
        line = kind.good if only_good else st.one_of(kind.good, kind.bad, BLANK)
        lines = draw(st.lists(line, max_size=12))
        found.append((kind.head + "".join(f"{line}\n" for line in lines), only_good))
    return found


@pytest.mark.parametrize("kind", [JSON, CSV], ids=lambda kind: kind.suffix)
@pytest.mark.parametrize("policy", BadRowPolicy)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_rows_read_are_rows_in_the_table_and_rows_skipped(
    bench: EngineBench, kind: Kind, policy: BadRowPolicy, data: st.DataObject
) -> None:
    texts = data.draw(files(kind))
    number = next(_numbers)
    bench.destination = Destination("autoloader", "lake", f"counts_{number}")
    names = [f"{number}-{file}.{kind.suffix}" for file in range(len(texts))]
    for name, (text, _) in zip(names, texts, strict=True):
        bench.land(name, text)

    outcomes = await bench.load(*names, format=kind.format, hints=HINTS, bad_rows=policy)

    there = bench.outcome is not None and bench.outcome.schema_after is not None
    rows = bench.read_rows(bench.destination) if there else []
    in_table = Counter(row[SOURCE_FILE_COLUMN].rpartition("/")[2] for row in rows)
    rescued = Counter(row[SOURCE_FILE_COLUMN].rpartition("/")[2] for row in rows if row.get(RESCUED_DATA_COLUMN) is not None)
    for name, (text, only_good) in zip(names, texts, strict=True):
        outcome, counted = outcomes[name], kind.rows(text)
        assert (in_table[name], rescued[name]) == (outcome.rows, outcome.rows_rescued), (name, text, outcome)
        match outcome.status:
            case OutcomeStatus.LOADED:
                assert outcome.rows + outcome.rows_skipped == counted, (text, outcome)
                assert not outcome.rows_skipped or policy is BadRowPolicy.SKIP_ROW
                assert not outcome.rows_rescued or policy is BadRowPolicy.RESCUE
            case OutcomeStatus.SKIPPED:
                assert counted == 0, (text, outcome)
            case OutcomeStatus.FAILED:
                assert outcome.message
                assert (outcome.rows, outcome.rows_skipped, outcome.rows_rescued) == (0, 0, 0)
        if only_good:
            assert outcome.status is not OutcomeStatus.FAILED, (text, outcome)
