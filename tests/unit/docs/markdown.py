"""The repository's Markdown files, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
_FOLDERS = ("docs", "deploy", "graphql_api", "domain", "persistence", "integrations", "autoloader", "tests", "benchmarks", "tools")
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fence:
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    path: Path
    text: str

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def prose(self) -> str:
        """The text without its fences."""
        return _FENCE.sub("", self.text)

    @property
    def fences(self) -> list[Fence]:
        return [Fence(match["language"], match["text"]) for match in _FENCE.finditer(self.text)]

    @property
    def code(self) -> list[str]:
        """Everything that is set as code, in lines and in fences."""
        return [*_CODE.findall(self.prose), *(fence.text for fence in self.fences)]

    @property
    def links(self) -> list[str]:
        return _LINK.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """The headings as links name them."""
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(self.prose)}

    def section(self, heading: str) -> str:
        """What stands below a heading of the second level, up to the next one."""
        return self.text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]

    def rows(self) -> Iterator[list[str]]:
        """The cells of each table's line."""
        for line in self.prose.splitlines():
            if line.startswith("|"):
                yield [cell.strip() for cell in line.strip("|").split("|")]


@cache
def document(name: str) -> Document:
    path = ROOT / name
    return Document(path, path.read_text())


@cache
def names() -> tuple[str, ...]:
    """Ours, that is: not those of installed packages."""
    found = [*ROOT.glob("*.md"), *(path for folder in _FOLDERS for path in (ROOT / folder).rglob("*.md"))]
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in found if "node_modules" not in path.parts))
