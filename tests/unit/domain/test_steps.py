"""The steps at which tests kill processes, and that nothing but tests can."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import domain
from domain import steps
from domain.steps import Step

ROOT = Path(domain.__file__).parents[1]
SHIPPED = [
    path for package in ("autoloader", "domain", "graphql_api", "integrations", "persistence") for path in (ROOT / package).rglob("*.py")
]


def test_nothing_that_is_shipped_puts_anything_in_place_of_doing_nothing() -> None:
    """No module so much as names it, but the one that declares it; and there it is set once."""
    naming = [path for path in SHIPPED if "on_step" in path.read_text()]
    assert naming == [Path(steps.__file__)]
    tree = ast.parse(naming[0].read_text())
    set_by = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "on_step" and isinstance(node.ctx, ast.Store)]
    assert len(set_by) == 1
    assert steps.on_step is steps._nothing


def test_every_step_is_reached_at_one_place() -> None:
    """So that what is said of it is said of that place; each engine has its own."""
    calls = Counter(
        (node.args[0].attr, engine_of(path))
        for path in SHIPPED
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reached"
        if isinstance(node.args[0], ast.Attribute)
    )
    assert {step for step, _ in calls} == set(Step.__members__)
    assert set(calls.values()) == {1}
    in_engines = {step for step, engine in calls if engine}
    assert not in_engines & {step for step, engine in calls if not engine}


def engine_of(path: Path) -> str | None:
    _, found, below = path.as_posix().partition("/integrations/engines/")
    return below.partition("/")[0] if found else None
