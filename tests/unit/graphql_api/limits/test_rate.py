"""The buckets of cost: what goes in, what goes out, and how many there may be."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphql_api.limits import rate
from graphql_api.limits.rate import CostRate


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bucket_empties_and_fills_again() -> None:
    clock, tenant = Clock(), uuid4()
    bucket = CostRate(10, 100, clock)
    assert [bucket.take(tenant, 60), bucket.take(tenant, 40), bucket.take(tenant, 1)] == [0, 0, 0.1]
    clock.seconds += 5
    assert [bucket.take(tenant, 50), bucket.take(tenant, 20)] == [0, 2]
    clock.seconds += 1_000
    assert [bucket.take(tenant, 100), bucket.take(tenant, 1)] == [0, 0.1]


def test_tenants_have_buckets_of_their_own() -> None:
    bucket = CostRate(10, 100, Clock())
    first, second = uuid4(), uuid4()
    assert [bucket.take(first, 100), bucket.take(first, 1), bucket.take(second, 100)] == [0, 0.1, 0]


def test_what_costs_more_than_a_bucket_waits_for_a_full_one() -> None:
    clock, tenant = Clock(), uuid4()
    bucket = CostRate(10, 100, clock)
    assert [bucket.take(tenant, 1_000), bucket.take(tenant, 1_000)] == [0, 10]


def test_what_costs_nothing_always_passes() -> None:
    bucket, tenant = CostRate(10, 100, Clock()), uuid4()
    assert [bucket.take(tenant, 100), bucket.take(tenant, 0)] == [0, 0]


def test_the_buckets_are_bounded_and_the_one_unused_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MOST_BUCKETS", 2)
    bucket = CostRate(1, 10, Clock())
    first, second, third = (UUID(int=number) for number in range(3))
    for tenant in (first, second, first, third):
        bucket.take(tenant, 5)
    assert len(bucket._buckets) == 2
    # The second one's bucket is gone, and so is full again; the first one's is empty.
    assert [bucket.take(first, 1), bucket.take(second, 10)] == [1, 0]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 300)), max_size=50))
def test_no_more_is_taken_than_a_full_bucket_and_what_has_come_since(steps: list[tuple[float, int]]) -> None:
    clock, tenant = Clock(), uuid4()
    bucket = CostRate(10, 100, clock)
    taken = passed = 0.0
    for pause, cost in steps:
        clock.seconds += pause
        passed += pause
        if bucket.take(tenant, cost) == 0:
            taken += min(cost, 100)
        assert taken <= 100 + passed * 10 + 1e-6
