"""Breaking changes of the API that the changelog does not own up to: `python -m tools.schema_changes`; exit 1 when there are any.

What is compared: each version of schema.graphql in git's history with the next one, from the latest version tag on (from the first commit
when there is none), and the last of them with the file as it lies there. Each breaking change has to stand in CHANGELOG.md under a heading
`### Breaking`, in the words that this prints.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from graphql import build_schema, find_breaking_changes

SCHEMA = Path("schema.graphql")
CHANGELOG = Path("CHANGELOG.md")
_TAGS = "v[0-9]*"


class NoHistoryError(Exception):
    """There is nothing to compare with."""


def versions() -> list[str]:
    """The schema's texts, the oldest first, as the line of first parents brought them; merges count as what they brought."""
    tag = _git("describe", "--tags", "--abbrev=0", f"--match={_TAGS}", default="").strip()
    since = [f"{tag}..HEAD"] if tag else ["HEAD"]
    commits = _git("rev-list", "--reverse", "--first-parent", *since, "--", str(SCHEMA)).split()
    texts = [_git("show", f"{commit}:{SCHEMA}", default="") for commit in ([tag] if tag else []) + commits]
    if not any(texts):
        raise NoHistoryError(f"git knows no earlier {SCHEMA}")
    return [text for text in texts if text]


def breaking(texts: Iterable[str]) -> list[str]:
    """The breaking changes from each text to the next, in words that name their schema coordinates."""
    return list(
        dict.fromkeys(change.description for old, new in pairwise(map(build_schema, texts)) for change in find_breaking_changes(old, new))
    )


def acknowledged(changelog: str) -> str:
    """What stands under the headings `### Breaking`, as one line without marks of code."""
    sections = re.findall(r"^### Breaking\n(.*?)(?=^#|\Z)", changelog, re.MULTILINE | re.DOTALL)
    return " ".join(" ".join(sections).replace("`", "").split())


def unacknowledged() -> Iterator[str]:
    """Raises `NoHistoryError`."""
    told = acknowledged(CHANGELOG.read_text())
    yield from (change for change in breaking([*versions(), SCHEMA.read_text()]) if change not in told)


def _git(*arguments: str, default: str | None = None) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607  # words of our own
    except FileNotFoundError:
        raise NoHistoryError("git is not installed") from None
    if done.returncode == 0:
        return done.stdout
    if default is None:
        raise NoHistoryError(done.stderr.strip().partition("\n")[0])
    return default


if __name__ == "__main__":
    try:
        found = list(unacknowledged())
    except NoHistoryError as reason:
        print(f"no history of {SCHEMA} to compare with, so that nothing was compared: {reason}")
        sys.exit(0)
    if found:
        sys.exit(
            "\n".join(
                [
                    f"{SCHEMA} breaks clients. Keep what they use, or say so in {CHANGELOG}, under '### Breaking':",
                    *(f"- {change}" for change in found),
                ]
            )
        )
