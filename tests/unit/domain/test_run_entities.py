"""What a run counts, and how far it is."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ledger.batch_processor import measure
from domain.runs.entities import RunMetrics
from tests.factories import NOW, a_processed_file, a_run, failed, loaded, skipped

_FIELDS = [field.name for field in dataclasses.fields(RunMetrics)]
a_metrics = st.builds(RunMetrics, **dict.fromkeys(_FIELDS, st.integers(0, 2**62)))


@pytest.mark.scenario(139)
@given(st.lists(a_metrics))
def test_metrics_add_up_field_by_field(parts: list[RunMetrics]) -> None:
    total = sum(parts, RunMetrics())
    for name in _FIELDS:
        assert getattr(total, name) == sum(getattr(part, name) for part in parts)
    assert total.files_settled == sum(part.files_processed + part.files_failed + part.files_skipped + part.files_held for part in parts)


@pytest.mark.scenario(139)
def test_a_runs_counters_as_one_value() -> None:
    values = {name: number for number, name in enumerate(_FIELDS, start=1)}
    assert a_run(**values).metrics == RunMetrics(**values)


@pytest.mark.scenario(139)
def test_outcomes_are_measured_rows_and_bytes_of_loaded_files_only() -> None:
    files = [a_processed_file(size_bytes=10**n) for n in range(4)]
    outcomes = [
        loaded(files[0], rows=5, rows_skipped=2, rows_rescued=1),
        failed(files[1], rows=99),
        skipped(files[2]),
        loaded(files[3], rows=7),
    ]
    assert measure(files, outcomes) == RunMetrics(
        files_processed=2, files_failed=1, files_skipped=1, rows_written=12, rows_skipped=2, rows_rescued=1, bytes_processed=1_001
    )
    assert measure(files, []) == RunMetrics()


@pytest.mark.parametrize(
    ("fields", "progress"),
    [
        ({}, 0),
        ({"files_total": 0}, 0),
        ({"files_total": 4}, 0),
        ({"files_total": 4, "files_processed": 1, "files_failed": 1, "files_skipped": 1}, 0.75),
        ({"files_total": 4, "files_processed": 9}, 1),
        ({"files_processed": 9}, 0),
        ({"ended_at": NOW}, 1),
        ({"ended_at": NOW, "files_total": 4, "files_processed": 1}, 1),
    ],
)
def test_progress(fields: dict[str, object], progress: float) -> None:
    assert a_run(**fields).progress == progress
