"""Scratch folders: each process's own, gone with it, and never taken for a dead one's."""

from __future__ import annotations

import fcntl
from pathlib import Path

from autoloader.scratch import scratch_folder


def everything(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home / "staging")) for path in (home / "staging").rglob("*"))


def test_it_goes_with_its_owner(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "staged.json").write_text("{}")
    assert everything(tmp_path) == []


def test_those_of_the_living_stay(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as first:
        (first / "staged.json").write_text("{}")
        with scratch_folder(tmp_path) as second:
            assert second != first
            assert (first / "staged.json").read_text() == "{}"
        assert (first / "staged.json").exists()


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "staging" / "left"
    left.mkdir(parents=True)
    (left / "staged.json").write_text("{}")
    (tmp_path / "staging" / "left.lock").touch()

    with scratch_folder(tmp_path) as folder:
        assert everything(tmp_path) == sorted([folder.name, f"{folder.name}.lock"])


def test_a_lock_that_another_holds_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "staging" / "held").mkdir(parents=True)
    with (tmp_path / "staging" / "held.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with scratch_folder(tmp_path):
            assert (tmp_path / "staging" / "held").is_dir()
        assert everything(tmp_path) == ["held", "held.lock"]
