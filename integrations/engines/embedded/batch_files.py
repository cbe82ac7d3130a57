"""The files of one load while it lasts: where their bytes are, and what has become of them so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from domain.ports.engine import ColumnChange
from domain.ports.object_store import StagedObject


@dataclass(slots=True)
class LoadFile:
    """One staged file. `index` is its place in the batch and stands for it inside DuckDB.

    `rows_read` counts all rows of the file, also those that are then skipped. `failure` says for a person why the file
    is not loaded; `empty` means that there is nothing in it. `asks_for` are changes that its columns' types would
    bring, if anybody has to be asked for them; `needs` those without which its values have no place, so that it is not loaded.
    """

    index: int
    path: str
    size_bytes: int
    local: Path
    rows_read: int = 0
    rows_skipped: int = 0
    rows_rescued: int = 0
    failure: str | None = None
    transient: bool = False
    empty: bool = False
    asks_for: tuple[ColumnChange, ...] = ()
    needs: tuple[ColumnChange, ...] = ()

    @property
    def rows(self) -> int:
        return self.rows_read - self.rows_skipped

    @property
    def is_open(self) -> bool:
        """Whether the file is still to be loaded."""
        return self.failure is None and not self.empty and not self.needs

    def fail(self, message: str, *, transient: bool = False) -> None:
        self.failure = message
        self.transient = transient
        self.rows_read = self.rows_skipped = self.rows_rescued = 0

    def hold(self, needs: tuple[ColumnChange, ...]) -> None:
        """Not to be loaded before somebody has decided on these changes."""
        self.needs = needs
        self.rows_read = self.rows_skipped = self.rows_rescued = 0

    def begin_again(self) -> None:
        """Be ready to be read once more: for a table that has changed, what was needed may be another matter."""
        self.asks_for = self.needs = ()
        self.rows_read = self.rows_skipped = self.rows_rescued = 0


EMPTY_FILE = "The file is empty."


def load_files(staged: Iterable[StagedObject]) -> list[LoadFile]:
    files = []
    for index, item in enumerate(staged):
        stored = item.object
        file = LoadFile(index, stored.path, stored.size_bytes, item.local_path or Path())
        if item.local_path is None:
            reason = item.error or "it could not be staged"
            file.fail(f"The file could not be read: {reason}.", transient=item.transient)
        files.append(file)
    return files


def excerpt(text: str, limit: int = 80) -> str:
    """A short, printable piece of somebody's data, for a message."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[: limit + 1])
    return shown if len(shown) <= limit else shown[:limit] + "..."
