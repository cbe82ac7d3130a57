"""What a benchmark prints: tables of figures, and how they stand to their targets."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


class Report:
    def __init__(self) -> None:
        self._console = Console(width=110 if not sys.stdout.isatty() else None)
        self._targets: list[tuple[str, str, str, bool]] = []
        self.note(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}; trust ratios more than seconds")

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def target(self, what: str, found: float, limit: float, unit: str) -> None:
        """`found` meets the target when it is below `limit`."""
        self._targets.append((what, f"{found:.2f} {unit}", f"< {limit:g} {unit}", found < limit))
        self._show(self._targets[-1:])

    def close(self) -> None:
        if len(self._targets) > 1:
            self._show(self._targets)

    def _show(self, targets: Sequence[tuple[str, str, str, bool]]) -> None:
        table = Table("target", "found", "asked for", "")
        for what, found, limit, met in targets:
            table.add_row(what, found, limit, "[green]ok[/]" if met else "[red]over[/]")
        self._console.print(table)
