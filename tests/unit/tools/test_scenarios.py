from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.fixtures.scenario_markers import problem_of
from tools import scenarios
from tools.scenarios import Evidence, Scenario, TableError, done, misplaced, parse, show

pytest_plugins = ["pytester"]

_INI = "[pytest]\nmarkers = scenario\nasyncio_default_fixture_loop_scope = function"
_ROOT = Path(__file__).parents[3]


def _row(number: int, kind: str = "unit", priority: str = "H") -> str:
    return f"| {number} | {kind} | Subject {number} | text {number} | real | - | {priority} |"


def _document(*rows: str) -> str:
    return "\n".join(
        ["# Title", "", "## Area one", "", "| # | kind | subject | scenario | real | faked at most | priority |", "|---|", *rows]
    )


def _table(**changes: str) -> str:
    return _document(*(changes.get(f"row_{number}", _row(number)) for number in scenarios.NUMBERS))


def _scenario(number: int, kind: str) -> Scenario:
    return Scenario(number, kind, "Area", "Subject", "text", "H")


def test_a_row_is_read_with_the_heading_above_it() -> None:
    document = _table(row_2="\n## Area two\n\n" + _row(2, "integration", "M"))

    rows = parse(document)

    assert rows[0] == Scenario(1, "unit", "Area one", "Subject 1", "text 1", "H")
    assert rows[1] == Scenario(2, "integration", "Area two", "Subject 2", "text 2", "M")
    assert len(rows) == 150


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("", "not numbered from 1 to 150"),
        (_row(3), "not numbered from 1 to 150"),
        ("| 2 | unit | only three |", "row 2 has 3 cells, not 7"),
        (_row(2, "manual"), "'manual' is no kind"),
        (_row(2, priority="X"), "'X' is no priority"),
    ],
)
def test_a_table_that_is_not_whole_is_refused(row: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        parse(_table(row_2=row))


def test_the_table_in_the_repository_is_whole() -> None:
    rows = parse((_ROOT / scenarios.TABLE).read_text())

    assert [row.number for row in rows] == list(range(1, 151))


def test_only_a_test_in_the_kinds_folder_finishes_a_row() -> None:
    rows = [_scenario(1, "unit"), _scenario(2, "integration"), _scenario(3, "e2e")]
    evidence = [Evidence(1, "unit", "a"), Evidence(2, "unit", "b"), Evidence(2, "integration", "c"), Evidence(3, "integration", "d")]

    assert done(rows, evidence) == {1, 2}


def test_a_test_in_another_folder_is_named_once_for_all_its_parameters() -> None:
    rows = [_scenario(1, "unit"), _scenario(2, "integration")]
    stray = [Evidence(2, "unit", "tests/unit/t.py::a[x]"), Evidence(2, "unit", "tests/unit/t.py::a[y]")]

    assert misplaced(rows, [Evidence(1, "unit", "b"), *stray]) == [(rows[1], stray[0])]


def test_the_last_line_counts() -> None:
    output = io.StringIO()

    show(Console(file=output, width=120), [_scenario(1, "unit"), _scenario(2, "e2e")], [Evidence(1, "unit", "a")])

    assert output.getvalue().splitlines()[-1] == "1 of 2 done, 1 missing; of priority H 1 of 2"


def test_evidence_is_what_pytest_collects_and_would_run(pytester: pytest.Pytester) -> None:
    pytester.makeini(f"{_INI}\naddopts = --import-mode=importlib")
    folder = pytester.mkpydir("tests") / "unit" / "ledger"
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.scenario(5, 7)\ndef test_shown(): ...\n"
        "@pytest.mark.scenario(8)\n@pytest.mark.skip\ndef test_skipped(): ...\n"
        "# @pytest.mark.scenario(9)\ndef test_plain(): ...\n"
    )
    found: list[Evidence] = []

    class Collector:
        def pytest_collection_finish(self, session: pytest.Session) -> None:
            found.extend(evidence for item in session.items for evidence in scenarios.evidence_of(item))

    pytester.inline_run("--collect-only", plugins=[Collector()])

    test = "tests/unit/ledger/test_it.py::test_shown"
    assert found == [Evidence(5, "unit", test), Evidence(7, "unit", test)]


@pytest.mark.parametrize(
    ("marker", "problem"),
    [
        (pytest.mark.scenario(1, 150), None),
        (pytest.mark.scenario(1, 151), "151 is no scenario; 1 to 150 are"),
        (pytest.mark.scenario(0), "0 is no scenario; 1 to 150 are"),
        (pytest.mark.scenario("62"), "'62' is no scenario; 1 to 150 are"),
        (pytest.mark.scenario(True), "True is no scenario; 1 to 150 are"),
        (pytest.mark.scenario, "scenario takes the rows' numbers, as in scenario(62, 63)"),
        (pytest.mark.scenario(1, because="of it"), "scenario takes the rows' numbers, as in scenario(62, 63)"),
    ],
)
def test_a_marker_carries_numbers_of_rows(marker: pytest.MarkDecorator, problem: str | None) -> None:
    assert problem_of(marker.mark) == problem


def test_a_number_that_no_row_has_stops_the_collection(pytester: pytest.Pytester) -> None:
    pytester.makeini(_INI)
    pytester.makepyfile("import pytest\n@pytest.mark.scenario(151)\ndef test_it(): ...")

    result = pytester.runpytest_inprocess("-p", "tests.fixtures.scenario_markers")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*::test_it: 151 is no scenario; 1 to 150 are"])
