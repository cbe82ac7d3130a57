"""The table of scenarios with what is done and what is missing: `python -m tools.scenarios`, from the repository's root.

A row of docs/scenarios.md is done when a test in the folder of the row's kind carries its number. What counts are the
markers of the tests that pytest collects, not text in files; tests that are skipped or expected to fail do not count.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

TABLE = Path("docs/scenarios.md")
NUMBERS = range(1, 151)
KINDS = ("unit", "integration", "e2e")
PRIORITIES = ("H", "M", "L")
_CELLS = 7


class TableError(Exception):
    """The document is not the table that it should be."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row; `area` is the heading that it stands under."""

    number: int
    kind: str
    area: str
    subject: str
    text: str
    priority: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A test that carries a scenario's number; `kind` is the folder of `tests` that it lives in."""

    number: int
    kind: str
    test: str


def parse(document: str) -> list[Scenario]:
    """The rows in their order. Raises `TableError` unless they are numbered as `NUMBERS`, each once and in order."""
    area = ""
    scenarios = []
    for line in document.splitlines():
        if line.startswith("## "):
            area = line.removeprefix("## ").strip()
            continue
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if not line.startswith("|") or not cells[0].isdecimal():
            continue
        if len(cells) != _CELLS:
            raise TableError(f"row {cells[0]} has {len(cells)} cells, not {_CELLS}")
        number, kind, subject, text, _, _, priority = cells
        if kind not in KINDS:
            raise TableError(f"row {number}: {kind!r} is no kind; {', '.join(KINDS)} are")
        if priority not in PRIORITIES:
            raise TableError(f"row {number}: {priority!r} is no priority; {', '.join(PRIORITIES)} are")
        scenarios.append(Scenario(int(number), kind, area, subject, text, priority))
    if [scenario.number for scenario in scenarios] != list(NUMBERS):
        raise TableError(f"the rows are not numbered from {NUMBERS[0]} to {NUMBERS[-1]}, each once and in order")
    return scenarios


def evidence_of(item: pytest.Item) -> list[Evidence]:
    """What a collected test shows."""
    if item.get_closest_marker("skip") or item.get_closest_marker("xfail"):
        return []
    folders = item.path.relative_to(item.config.rootpath).parts
    kind = folders[1] if len(folders) > 2 else ""
    return [Evidence(number, kind, item.nodeid) for marker in item.iter_markers("scenario") for number in marker.args]


def collect(tests: str = "tests") -> list[Evidence]:
    """What the tests show, by pytest's own collection. Raises `RuntimeError` with its output when it fails."""

    class Collector:
        found: Sequence[Evidence] = ()

        def pytest_collection_finish(self, session: pytest.Session) -> None:
            self.found = [evidence for item in session.items for evidence in evidence_of(item)]

    collector, output = Collector(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = pytest.main(["--collect-only", "-q", "-p", "no:randomly", "-p", "no:xdist", tests], plugins=[collector])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        raise RuntimeError(f"pytest could not collect the tests:\n{output.getvalue()}")
    return list(collector.found)


def done(scenarios: Iterable[Scenario], evidence: Iterable[Evidence]) -> set[int]:
    """Numbers of the rows that a test in their kind's folder carries."""
    shown = {(found.number, found.kind) for found in evidence}
    return {scenario.number for scenario in scenarios if (scenario.number, scenario.kind) in shown}


def misplaced(scenarios: Iterable[Scenario], evidence: Sequence[Evidence]) -> list[tuple[Scenario, Evidence]]:
    """Tests that carry the number of a row that has no test in its kind's folder, by number; a parametrized test counts once."""
    rows = {scenario.number: scenario for scenario in scenarios}
    at_home = {found.number for found in evidence if found.kind == rows[found.number].kind}
    astray: dict[tuple[int, str], Evidence] = {}
    for found in evidence:
        if found.number not in at_home:
            astray.setdefault((found.number, found.test.partition("[")[0]), found)
    return [(rows[number], astray[number, test]) for number, test in sorted(astray)]


def show(console: Console, scenarios: Sequence[Scenario], evidence: Sequence[Evidence]) -> None:
    finished = done(scenarios, evidence)
    tests: dict[int, set[str]] = defaultdict(set)
    for found in evidence:
        tests[found.number].add(found.test.partition("[")[0])
    for area, rows in groupby(scenarios, lambda scenario: scenario.area):
        table = Table("#", "kind", "subject", "scenario", "prio", "state", "tests", title=area, title_justify="left", expand=True)
        for row in rows:
            state = "[green]done[/]" if row.number in finished else "[red]missing[/]"
            table.add_row(str(row.number), row.kind, row.subject, row.text, row.priority, state, str(len(tests[row.number]) or ""))
        console.print(table)
    for row, found in misplaced(scenarios, evidence):
        console.print(f"[yellow]warning[/] {row.number} is of kind {row.kind}: {found.test}", highlight=False, soft_wrap=True)
    high = [row for row in scenarios if row.priority == "H"]
    console.print(
        f"{len(finished)} of {len(scenarios)} done, {len(scenarios) - len(finished)} missing; "
        f"of priority H {sum(row.number in finished for row in high)} of {len(high)}"
    )


def main() -> None:
    show(Console(width=None if sys.stdout.isatty() else 160), parse(TABLE.read_text()), collect())


if __name__ == "__main__":
    try:
        main()
    except (TableError, RuntimeError, OSError) as error:
        sys.exit(str(error))
