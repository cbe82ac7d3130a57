"""Cron schedules, across clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ingestions.entities import Schedule
from domain.ingestions.schedules import check_cron, check_timezone, next_due


def firings(cron: str, timezone: str, after: str, count: int) -> list[str]:
    moment, found = datetime.fromisoformat(after).astimezone(UTC), []
    for _ in range(count):
        moment = next_due(Schedule(cron, timezone), moment)
        found.append(f"{moment:%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("cron", "timezone", "after", "expected"),
    [
        # Every day at 02:30, which Berlin skips on March 29: at 03:00, 01:00 UTC; and has twice on October 25: the first.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00Z", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00Z", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        # The same in New York: March 8, and November 1.
        ("30 2 * * *", "America/New_York", "2026-03-07T00:00Z", ["03-07 07:30", "03-08 07:00", "03-09 06:30"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T00:00Z", ["10-31 05:30", "11-01 05:30", "11-02 06:30"]),
        # Every hour is every hour.
        ("0 * * * *", "Europe/Berlin", "2026-03-28T23:30Z", ["03-29 00:00", "03-29 01:00", "03-29 02:00"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-24T23:30Z", ["10-25 00:00", "10-25 01:00", "10-25 02:00"]),
        ("*/30 * * * *", "America/New_York", "2026-11-01T05:15Z", ["11-01 05:30", "11-01 06:00", "11-01 06:30"]),
        # A quarter of an hour off UTC; the last Friday; leap days.
        ("0 9 * * *", "Asia/Kathmandu", "2026-01-01T00:00Z", ["01-01 03:15", "01-02 03:15"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00Z", ["02-29 00:00"]),
    ],
)
def test_firings(cron: str, timezone: str, after: str, expected: list[str]) -> None:
    assert firings(cron, timezone, after, len(expected)) == expected


def test_a_firing_is_strictly_after() -> None:
    due = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert next_due(Schedule("0 * * * *"), due - timedelta(microseconds=1)) == due
    assert next_due(Schedule("0 * * * *"), due) == due + timedelta(hours=1)


@given(
    cron=st.sampled_from(["30 1 * * *", "15,45 1-3 * * *", "0 2 * * *", "59 1 * * 0", "*/7 * * * *", "5 */2 * * *"]),
    timezone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    minutes=st.integers(0, 60 * 24 * 400),
    seconds=st.integers(0, 59),
)
def test_time_never_stands_still(cron: str, timezone: str, minutes: int, seconds: int) -> None:
    """Also in the hour that clocks repeat: a firing that is not after now would be due for ever."""
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes, seconds=seconds)
    due = next_due(Schedule(cron, timezone), after)
    assert due > after
    assert due.utcoffset() == timedelta(0)
    assert due - after <= timedelta(days=8)


@pytest.mark.parametrize("cron", ["* * * * *", "*/5 0-6 1,15 * 1-5", "0 0 29 2 *", "0 12 * * MON", "0 0 L * *", "  0  0 * * *  "])
def test_what_is_a_cron(cron: str) -> None:
    check_cron(cron)


@pytest.mark.parametrize(
    "cron",
    [
        "", " ", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a b c d e", "*/0 * * * *",
        "5-1 * * * *", "@daily", "0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "1;2 * * * *", "* * * * *\0", "-1 * * * *", "1e3 * * * *",
        "0 0 * * 1#9", "* " * 5_000, "9" * 10_000_000, "0-" + "9" * 300 + " * * * *",
    ],
)  # fmt: skip
def test_what_is_none(cron: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # which message is for the person who wrote it
        check_cron(cron)


@given(st.lists(st.text("0123456789*/,-LW#?AMONJ", max_size=8), min_size=5, max_size=5))
def test_any_five_fields_are_taken_or_refused(fields: list[str]) -> None:
    cron = " ".join(fields)
    try:
        check_cron(cron)
    except ValueError:
        return
    after = datetime(2026, 3, 2, tzinfo=UTC)
    assert next_due(Schedule(cron, "Europe/Berlin"), after) > after


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_time_zones(name: str) -> None:
    check_timezone(name)


@pytest.mark.parametrize("name", ["", "Mars", "Europe", "../../etc/passwd", "/etc/passwd", "x" * 10_000, "a\0b", "\ud800", "UTC\n"])
def test_what_is_no_time_zone(name: str) -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
        check_timezone(name)
