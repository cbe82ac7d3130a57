"""Secrets in files: made once, whole, and for their owner alone."""

from __future__ import annotations

from pathlib import Path

from autoloader.kept_secret import kept_secret


def test_it_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "home" / "a.key"
    assert [kept_secret(path, lambda text=text: text) for text in ("first", "second")] == ["first", "first"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_of_two_that_come_at_once_the_first_ones_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.key"

    def meanwhile() -> str:
        path.write_text("the other's\n")
        return "mine"

    assert kept_secret(path, meanwhile) == "the other's"
    assert list(tmp_path.iterdir()) == [path]
