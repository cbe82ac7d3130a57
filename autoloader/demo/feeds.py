"""A feed: a sender's folder, the ingestion that watches it, and what the sender knows to have sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoloader.demo.flights import MISSING, Day, Totals, totals
from autoloader.demo.landing import Content, csv_text, file_of, json_lines, lay_down

NAMESPACE = "flights"
_SECOND_WAVE_AT_LEAST = 8


@dataclass(slots=True)
class Feed:
    """`first` and `second` are its days of the two waves; `sent` those whose files are whole; `id` the ingestion's."""

    name: str
    extension: str
    format: dict[str, Any]
    content: Content
    folder: Path
    first: Sequence[Day]
    second: Sequence[Day]
    sent: list[Day] = field(default_factory=list)
    id: str = ""

    @property
    def table(self) -> str:
        return f"{NAMESPACE}.{self.name}"

    def send(self, days: Sequence[Day], content: Content | None = None) -> None:
        """Lay down whole files. Blocking."""
        lay_down(self.folder, days, self.extension, content or self.content)
        self.sent += days

    def send_broken(self, day: Day, content: Content) -> str:
        """Lay down a file that is not what it should be, and return its name."""
        lay_down(self.folder, [day], self.extension, content)
        return file_of(self.folder, day, self.extension).name

    def truth(self) -> Totals:
        """What the table has to hold."""
        return totals(self.sent)

    def truth_by_file(self) -> dict[str, int]:
        return {file_of(self.folder, day, self.extension).name: len(day.lines) for day in self.sent}

    def creation(self) -> dict[str, Any]:
        """The input of the mutation that creates its ingestion."""
        return {
            "name": self.name,
            "source": {"type": "LOCAL", "path": str(self.folder), "glob": f"*.{self.extension}"},
            "format": self.format | {"hints": [{"column": "time_hour", "type": "timestamptz"}]},
            "destination": {"database": NAMESPACE, "table": self.name},
            "activate": True,
        }


def two_feeds(landing: Path, days: Sequence[Day]) -> tuple[Feed, Feed]:
    """Every other day comes as JSON lines, the rest as CSV; the last twelfth of the days makes the second wave."""
    wave = len(days) - max(_SECOND_WAVE_AT_LEAST, round(len(days) / 12))
    first, second = days[:wave], days[wave:]
    json_format = {"type": "JSON"}
    csv_format = {"type": "CSV", "options": {"null_values": ["", MISSING]}}
    return (
        Feed("by_json", "json", json_format, json_lines, landing / "json", first[::2], second[::2]),
        Feed("by_csv", "csv", csv_format, csv_text, landing / "csv", first[1::2], second[1::2]),
    )
