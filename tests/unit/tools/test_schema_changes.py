from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.schema_changes import acknowledged, breaking

ROOT = Path(__file__).parents[3]
FIRST = "type Query { old: Int new(first: Int): Int }\n"
SECOND = "type Query { new(first: Int): Int }\n"


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Nothing of the repository and the person around it.
        self.environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}
        self.environment["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
        (folder / "CHANGELOG.md").write_text("# Changes\n")

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=Test", "-c", "user.email=test@example.test"]
        subprocess.run(["git", *who, *arguments], cwd=self.folder, env=self.environment, check=True, capture_output=True)

    def commit(self, schema: str) -> None:
        (self.folder / "schema.graphql").write_text(schema)
        self.git("add", "schema.graphql")
        self.git("commit", "-m", "Change the schema")

    def check(self) -> tuple[int, str]:
        """The exit code of the check in this folder, and what it said."""
        command = [sys.executable, "-m", "tools.schema_changes"]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path)
    made.git("init", "--initial-branch=main")
    made.commit(FIRST)
    return made


REFUSED = (
    "schema.graphql breaks clients. Keep what they use, or say so in CHANGELOG.md, under '### Breaking':\n- Field Query.old was removed.\n"
)


def test_a_break_in_the_working_tree_is_refused_until_the_changelog_owns_up(repository: Repository) -> None:
    assert repository.check() == (0, "")
    (repository.folder / "schema.graphql").write_text(SECOND)
    assert repository.check() == (1, REFUSED)
    (repository.folder / "CHANGELOG.md").write_text("# Changes\n\n### Removed\n\n- Field Query.old was removed.\n")
    assert repository.check() == (1, REFUSED)
    (repository.folder / "CHANGELOG.md").write_text("# Changes\n\n### Breaking\n\n- Field `Query.old` was\n  removed. Use `new`.\n")
    assert repository.check() == (0, "")


def test_a_break_is_not_forgotten_when_it_is_committed_and_mended_later(repository: Repository) -> None:
    repository.commit(SECOND)
    assert repository.check() == (1, REFUSED)
    repository.commit(FIRST)
    assert repository.check() == (1, REFUSED)


def test_what_lies_before_the_latest_version_is_past(repository: Repository) -> None:
    repository.commit(SECOND)
    repository.git("tag", "-a", "v0.1.0", "-m", "0.1.0")
    assert repository.check() == (0, "")
    (repository.folder / "schema.graphql").write_text("type Query { new: Int }\n")
    assert repository.check()[1].endswith("\n- Argument Query.new(first:) was removed.\n")


def test_a_break_that_came_by_a_merge_is_found(repository: Repository) -> None:
    repository.git("checkout", "-b", "side")
    repository.commit(SECOND)
    repository.git("checkout", "main")
    repository.git("merge", "--no-ff", "side", "-m", "Merge")
    assert repository.check() == (1, REFUSED)


def test_without_a_history_it_says_that_nothing_was_compared(tmp_path: Path) -> None:
    (tmp_path / "schema.graphql").write_text(FIRST)
    alone = Repository(tmp_path)
    code, said = alone.check()
    assert code == 0
    assert said.startswith("no history of schema.graphql to compare with, so that nothing was compared: fatal: not a git repository")
    alone.git("init", "--initial-branch=main")
    assert alone.check()[0] == 0
    alone.git("add", "CHANGELOG.md")
    alone.git("commit", "-m", "Begin")
    assert alone.check() == (
        0,
        "no history of schema.graphql to compare with, so that nothing was compared: git knows no earlier schema.graphql\n",
    )


def test_what_only_adds_breaks_nothing() -> None:
    assert breaking([SECOND, FIRST]) == []


def test_headings_bound_what_is_acknowledged() -> None:
    changelog = (
        "## [2]\n\n### Breaking\n\n- `A` was\n  removed.\n\n### Added\n\n- B was removed.\n\n## [1]\n\n### Breaking\n\n- C was removed.\n"
    )
    assert acknowledged(changelog) == "- A was removed. - C was removed."
