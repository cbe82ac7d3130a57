"""The sender: lays daily files down as a real one would, good and bad."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import orjson

from autoloader.demo.flights import MISSING, TEXTS, Day

ERROR_PAGE = b"""<!DOCTYPE html>
<html><head><title>503 Service Unavailable</title></head>
<body><h1>Service Unavailable</h1><p>The export is down for maintenance. Please try again later.</p></body></html>
"""
"""What a sender's gateway answers with while the export is down, saved by its script under the day's name."""

Content = Callable[[Day], bytes]


def json_lines(day: Day) -> bytes:
    """An object a line; what is missing is null."""
    return b"".join(orjson.dumps(_typed(row), option=orjson.OPT_APPEND_NEWLINE) for row in day.rows())


def json_lines_with_names(names: Mapping[str, str]) -> Content:
    """The same with a column more: the carrier's name."""

    def content(day: Day) -> bytes:
        rows = (_typed(row) | {"carrier_name": names[row["carrier"]]} for row in day.rows())
        return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)

    return content


def csv_text(day: Day) -> bytes:
    """The source's own lines, under its header."""
    return ("\n".join([day.header, *day.lines]) + "\n").encode()


def truncated(day: Day) -> bytes:
    """An upload that broke off in the middle of a record."""
    whole = json_lines(day)
    middle = whole.index(b"\n", len(whole) // 2) + 40
    return whole[:middle]


def error_page(_: Day) -> bytes:
    return ERROR_PAGE


def lay_down(folder: Path, days: Iterable[Day], extension: str, content: Content) -> None:
    """One file a day, named after it; a file appears whole, as a careful sender sees to."""
    folder.mkdir(parents=True, exist_ok=True)
    for day in days:
        final = file_of(folder, day, extension)
        growing = folder.parent / f".{final.name}"
        growing.write_bytes(content(day))
        growing.replace(final)


def file_of(folder: Path, day: Day, extension: str) -> Path:
    return folder / f"{day.date}.{extension}"


def _typed(row: Mapping[str, str]) -> dict[str, object]:
    return {name: None if value == MISSING else value if name in TEXTS else int(value) for name, value in row.items()}
