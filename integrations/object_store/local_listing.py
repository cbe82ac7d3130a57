"""Walking a local folder: streamed, bounded, and never out of the allowed roots."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from errno import ENOENT
from typing import NamedTuple

from domain.ports.object_store import SourceUnavailableError, StoredObject
from integrations.object_store.local_paths import AllowedRoots, is_within, readable_name


def stored_object(path: str, status: os.stat_result) -> StoredObject:
    """A regular file as the port shows it. The etag is its modification time, size and inode, so that an overwritten file and a
    replaced one both differ."""
    return StoredObject(path, status.st_size, fingerprint(status), _modified_at(status))


def fingerprint(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def _modified_at(status: os.stat_result) -> datetime:
    try:
        return datetime.fromtimestamp(status.st_mtime, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC) if status.st_mtime > 0 else datetime.min.replace(tzinfo=UTC)


def unavailable(folder: str, error: OSError) -> SourceUnavailableError:
    """What an operating system's error means for a person who wants the folder listed."""
    match error:
        case FileNotFoundError():
            return SourceUnavailableError(SourceUnavailableError.NOT_FOUND, f"there is no folder {folder}")
        case NotADirectoryError():
            return SourceUnavailableError(
                SourceUnavailableError.NOT_FOUND, f"{folder} is not a folder; give its folder as the path and its name as the glob"
            )
        case PermissionError():
            return SourceUnavailableError(SourceUnavailableError.ACCESS_DENIED, f"the folder {folder} may not be read")
    return SourceUnavailableError(SourceUnavailableError.UNREACHABLE, f"the folder {folder} cannot be read: {error.strerror}")


class _Folder(NamedTuple):
    """A folder yet to be listed: where it is, how its path is shown, and whether a link led there."""

    path: str
    shown: str
    through_link: bool


class LocalListing:
    """One walk through a folder. Memory holds one chunk and the names of folders still to be visited, never of files.

    Everything here blocks.
    """

    def __init__(self, folder: str, roots: AllowedRoots) -> None:
        self._top = folder
        self._real_top = os.path.realpath(folder)
        self._roots = roots
        self._pending = [_Folder(folder, folder, through_link=False)]

    def chunks(self, chunk_size: int) -> Generator[list[StoredObject], None, None]:
        """Chunks of at most `chunk_size` objects. Raises `SourceUnavailableError`."""
        found: list[StoredObject] = []
        while self._pending:
            folder = self._pending.pop()
            for stored in self._files(folder):
                found.append(stored)
                if len(found) == chunk_size:
                    yield found
                    found = []
        if found:
            yield found

    def look_inside(self) -> None:
        """Return when the folder can be listed. Raises `SourceUnavailableError`."""
        try:
            with _opened(self._top, self._roots) as entries:
                next(entries, None)
        except OSError as error:
            raise unavailable(self._top, error) from error

    def _linked(self, path: str, shown: str, folder: _Folder) -> StoredObject | None:
        """What a symlink stands for: a file, a folder put among the pending ones, or nothing."""
        try:
            real = self._roots.resolve(path)
            if real is None:
                return None
            status = os.lstat(real)
        except OSError:
            return None
        if stat.S_ISREG(status.st_mode):
            return stored_object(shown, status)
        related = is_within(real, self._real_top) or is_within(self._real_top, real)
        if stat.S_ISDIR(status.st_mode) and not folder.through_link and not related:
            self._pending.append(_Folder(path, shown, through_link=True))
        return None

    def _files(self, folder: _Folder) -> Iterator[StoredObject]:
        """The folder's own files; its sub-folders are put among the pending ones."""
        shown_base = folder.shown if folder.shown.endswith("/") else folder.shown + "/"
        base = folder.path if folder.path.endswith("/") else folder.path + "/"
        try:
            with _opened(folder.path, self._roots) as entries:
                for entry in entries:
                    name = entry.name
                    shown = shown_base + (name if name.isascii() else readable_name(name))
                    if entry.is_symlink():
                        stored = self._linked(base + name, shown, folder)
                        if stored is not None:
                            yield stored
                    elif entry.is_dir(follow_symlinks=False):
                        self._pending.append(_Folder(base + name, shown, folder.through_link))
                    elif entry.is_file(follow_symlinks=False):
                        try:
                            yield stored_object(shown, entry.stat(follow_symlinks=False))
                        except FileNotFoundError:
                            continue
        except (FileNotFoundError, NotADirectoryError) as error:
            if folder.path == self._top:
                raise unavailable(self._top, error) from error
        except OSError as error:
            raise unavailable(folder.shown, error) from error


@contextmanager
def _opened(path: str, roots: AllowedRoots) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The entries of a folder, which is proven to lie inside the roots after it was opened: no later swap can change that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        real = roots.resolve(path)
        if real is None or not os.path.samestat(os.fstat(descriptor), os.lstat(real)):
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path)
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)
