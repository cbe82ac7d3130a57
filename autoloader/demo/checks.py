"""What the demo shows and must be true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from autoloader.demo.errors import DemoError


@dataclass(slots=True)
class Checks:
    """Collects what does not hold, so that one run tells all of it."""

    made: int = 0
    failed: list[str] = field(default_factory=list)

    def equal(self, what: str, found: object, expected: object) -> bool:
        self.made += 1
        if found == expected:
            return True
        self.failed.append(f"{what}: expected {_short(expected)}, found {_short(found)}")
        return False

    def side_by_side(self, console: Console, title: str, rows: Mapping[str, tuple[int, int]]) -> None:
        """Print and check pairs of (source, table)."""
        table = Table("", title=title, title_justify="left")
        table.add_column("in the source", justify="right")
        table.add_column("in the table", justify="right")
        table.add_column("")
        for what, (source, found) in rows.items():
            equal = self.equal(f"{title}, {what}", found, source)
            table.add_row(what, f"{source:,}", f"{found:,}", "[green]equal[/]" if equal else "[red]DIFFERENT[/]")
        console.print(table)

    def settle(self) -> None:
        """Raises `DemoError` with everything that did not hold."""
        if self.failed:
            raise DemoError(f"{len(self.failed)} of {self.made} checks do not hold:\n" + "\n".join(f"  - {line}" for line in self.failed))


def _short(value: object) -> str:
    text = f"{value:,}" if type(value) is int else repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
