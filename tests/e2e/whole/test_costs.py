"""What loading was said to cost, and what it has cost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.whole_stack import Whole, lines

# The first of them starts everything.
pytestmark = pytest.mark.timeout(600)

ESTIMATE = """
query ($input: EstimateCostInput!) {
  estimateCost(input: $input) {
    ... on CostEstimate {
      currency measure { files sizeBytes } firstLoadSeconds firstLoad { compute requests storage total } perMonth { storage }
    }
    ... on Error { message }
  }
}
"""
COSTS = """
query ($id: ID!) {
  ingestion(id: $id) {
    estimatedCost { measure { files sizeBytes recentFiles recentBytes } firstLoadSeconds perMonth { storage } }
    actualCost { ...spent }
    runs { nodes { durationSeconds bytesProcessed actualCost { ...spent } } }
  }
}
fragment spent on ActualCost { currency runs seconds costs { compute requests storage total } }
"""
SMALL_PER_HOUR = 0.096
MICRO = 1e-6
"""To which amounts are rounded."""


def compute(seconds: float) -> float:
    return seconds / 3_600 * SMALL_PER_HOUR


@pytest.mark.scenario(130)
async def test_what_runs_have_cost_stands_beside_what_was_estimated(whole: Whole) -> None:
    content = lines([{"id": number, "text": "x" * 1_000} for number in range(1_000)])
    for part in range(3):
        whole.land(f"{part}.json", content)
    how = {"source": whole.source(), "format": {"type": "JSON"}, "execution": {"engine": "SPARK"}}

    estimate = (await whole.data(ESTIMATE, {"input": how}))["estimateCost"]
    id = await whole.create()
    assert (await whole.run(id))["rowsWritten"] == 3_000
    one = (await whole.data(COSTS, {"id": id}))["ingestion"]

    # What it was reckoned by is what has happened.
    [first] = one["runs"]["nodes"]
    spent = first["actualCost"]
    assert estimate["measure"] == {"files": 3, "sizeBytes": 3 * len(content)}
    assert first["bytesProcessed"] == estimate["measure"]["sizeBytes"]
    # The same rates on both sides, so that only the time may differ: it was reckoned, and has been measured.
    assert (spent["currency"], spent["runs"], spent["seconds"]) == (estimate["currency"], 1, first["durationSeconds"])
    assert spent["costs"]["requests"] == estimate["firstLoad"]["requests"] > 0
    assert spent["costs"]["storage"] == estimate["perMonth"]["storage"] > 0
    assert estimate["firstLoad"]["compute"] == pytest.approx(compute(estimate["firstLoadSeconds"]), abs=MICRO)
    assert spent["costs"]["compute"] == pytest.approx(compute(first["durationSeconds"]), abs=MICRO)

    whole.land("3.json", content)
    assert (await whole.run(id))["rowsWritten"] == 1_000
    both = (await whole.data(COSTS, {"id": id}))["ingestion"]

    each: list[dict[str, Any]] = [run["actualCost"] for run in both["runs"]["nodes"]]
    assert (both["actualCost"]["runs"], len(each)) == (2, 2)
    assert both["actualCost"]["seconds"] == pytest.approx(sum(cost["seconds"] for cost in each))
    for part, amount in both["actualCost"]["costs"].items():
        assert amount == pytest.approx(sum(cost["costs"][part] for cost in each), abs=3 * MICRO), part
    assert each[1] == spent
    # The estimate has learnt what the runs have brought.
    size = 4 * len(content)
    assert one["estimatedCost"]["measure"] == {"files": 3, "sizeBytes": size * 3 // 4, "recentFiles": 3, "recentBytes": size * 3 // 4}
    assert both["estimatedCost"]["measure"] == {"files": 4, "sizeBytes": size, "recentFiles": 4, "recentBytes": size}
