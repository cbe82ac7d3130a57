"""The log lines that operators are told to look for are the ones that the code writes."""

from __future__ import annotations

import re

import pytest

from tests.unit.docs.markdown import ROOT, document

_PLACEHOLDER = r"(?:%r|%s|%d)"


def log_lines() -> list[tuple[str, str]]:
    """(logger, message) pairs of the table in docs/operations.md."""
    return [
        (logger, cells[1].strip("`"))
        for cells in document("docs/operations.md").rows()
        for logger in re.findall(r"`(\w+(?:\.\w+)+)`", cells[0])
    ]


def test_the_table_was_found() -> None:
    assert ("autoloader.background", "background work is interrupted: …") in log_lines()


@pytest.mark.parametrize(("logger", "message"), log_lines())
def test_the_line_is_in_the_code(logger: str, message: str) -> None:
    source = (ROOT / f"{logger.replace('.', '/')}.py").read_text()
    pattern = _PLACEHOLDER.join(re.escape(part) for part in message.split("…"))
    assert re.search(rf'log\.\w+\(\s*"{pattern}', source)
