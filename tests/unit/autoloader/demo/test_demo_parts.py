from __future__ import annotations

import io
import json
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from autoloader.cli import app
from autoloader.demo import flights, story
from autoloader.demo.checks import Checks
from autoloader.demo.errors import DemoError
from autoloader.demo.feeds import two_feeds
from autoloader.demo.flights import Day, Totals, flights_by_day, totals
from autoloader.demo.landing import csv_text, json_lines, json_lines_with_names, truncated
from autoloader.demo.place import temporary_place

_DAY = Day(
    date(2013, 1, 1),
    "year,month,day,dep_time,carrier,tailnum,distance,air_time",
    ["2013,1,1,517,UA,N14228,1400,227", "2013,1,1,NA,AA,NA,733,NA"],
)


def test_the_source_is_the_whole_year() -> None:
    days = flights_by_day()

    assert (len(days), days[0].date, days[-1].date) == (365, date(2013, 1, 1), date(2013, 12, 31))
    assert sum(len(day.lines) for day in days) == 336_776


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "PACKAGE", "no_such_package_of_flights")

    with pytest.raises(DemoError, match="run 'make install', or 'pip install no_such_package_of_flights'"):
        flights_by_day()


def test_totals_count_flights_and_leave_out_what_is_missing() -> None:
    assert totals([_DAY]) == Totals({date(2013, 1, 1): 2}, miles=2133, minutes_in_the_air=227)
    assert (totals([_DAY]) + totals([_DAY])).by_day == {date(2013, 1, 1): 4}


def test_json_lines_are_typed_and_null_where_a_value_is_missing() -> None:
    first, second = map(json.loads, json_lines(_DAY).splitlines())

    assert first["dep_time"] == 517
    assert first["tailnum"] == "N14228"
    assert (second["dep_time"], second["tailnum"], second["air_time"]) == (None, None, None)


def test_csv_is_the_source_itself() -> None:
    assert csv_text(_DAY).decode().splitlines() == [_DAY.header, *_DAY.lines]


def test_the_wider_file_has_the_carriers_name() -> None:
    lines = json_lines_with_names({"UA": "United Air Lines Inc.", "AA": "American Airlines Inc."})(_DAY).splitlines()

    assert [json.loads(line)["carrier_name"] for line in lines] == ["United Air Lines Inc.", "American Airlines Inc."]


def test_a_truncated_file_ends_in_the_middle_of_a_record() -> None:
    day = Day(_DAY.date, _DAY.header, [*_DAY.lines, *_DAY.lines])
    *whole, last = truncated(day).split(b"\n")

    assert len(whole) >= 1
    assert all(json.loads(line) for line in whole)
    with pytest.raises(json.JSONDecodeError):
        json.loads(last)


def test_each_day_is_sent_by_one_feed_in_one_wave(tmp_path: Path) -> None:
    days = [Day(date(2013, 1, number + 1), _DAY.header, _DAY.lines) for number in range(12)]

    feeds = two_feeds(tmp_path, days)

    sent = [day.date for feed in feeds for wave in (feed.first, feed.second) for day in wave]
    assert sorted(sent) == [day.date for day in days]
    assert [(len(feed.first), len(feed.second)) for feed in feeds] == [(2, 4), (2, 4)]


def test_checks_that_do_not_hold_are_all_told() -> None:
    output = io.StringIO()
    checks = Checks()
    checks.equal("the status", "FAILED", "SUCCESS")
    checks.side_by_side(Console(file=output, width=100), "In the end", {"rows": (336_776, 336_775), "days": (365, 365)})

    with pytest.raises(DemoError) as told:
        checks.settle()

    assert str(told.value).splitlines() == [
        "2 of 3 checks do not hold:",
        "  - the status: expected 'SUCCESS', found 'FAILED'",
        "  - In the end, rows: expected 336,776, found 336,775",
    ]
    assert "DIFFERENT" in output.getvalue()


def test_the_place_is_kept_when_something_fails_and_said_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output = io.StringIO()

    with pytest.raises(DemoError), temporary_place(Console(file=output)) as place:
        raise DemoError("it does not hold")

    assert place.is_dir()
    assert output.getvalue() == f"What the demo has made is kept in {place}\n"


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_place_is_removed_in_the_end_and_when_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, interrupted: bool) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        with temporary_place(Console(file=io.StringIO())) as place:
            (place / "home").mkdir()
            if interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass

    assert list(tmp_path.iterdir()) == []


def test_the_command_exits_1_with_what_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(console: Console, *, days: int) -> None:
        raise DemoError(f"after {days} days the tables differ")

    monkeypatch.setattr(story, "tell", tell)

    told = CliRunner().invoke(app, ["demo", "--days", "30"])

    assert told.exit_code == 1
    assert "after 30 days the tables differ" in told.output
