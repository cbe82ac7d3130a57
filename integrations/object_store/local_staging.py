"""Local files where a reader finds them, exactly as they were listed.

A link for each file would cost more than reading it, on a disk: a file whose name is safe for any reader is staged by a
link to its folder, which it shares with the others there.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from domain.ports.object_store import StagedObject, StoredObject
from integrations.object_store.local_listing import fingerprint, stored_object
from integrations.object_store.local_paths import AllowedRoots, actual_path, is_within
from integrations.object_store.staged_names import staged_paths

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


class LocalFiles:
    """Looks at files below one folder by their listed paths; remembers resolved parent folders for as long as it lives.

    `staged` says when each staged file's inode last changed, in nanoseconds, by path. The system moves that time for whatever is
    done to content or name, and nobody can set it back: so a file that was away for a moment, while a reader found another
    in its place, is known by it.
    """

    def __init__(self, folder: str, roots: AllowedRoots, staged: dict[str, int]) -> None:
        self._folder = folder
        self._roots = roots
        self._staged = staged
        self._real_parents: dict[str, str] = {}

    def stat(self, path: str) -> StoredObject | None:
        """The file now, or None when there is none. Raises `OSError` when that cannot be said."""
        try:
            _, status = self._look(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return stored_object(path, status)

    def changed(self, objects: Sequence[StoredObject]) -> frozenset[str]:
        """The paths whose file is not, or cannot be shown to be, the listed one."""
        return frozenset(stored.path for stored in objects if not self._is_as_listed(stored))

    def stage(self, objects: Sequence[StoredObject], into: Path) -> list[StagedObject]:
        folders = _LinkedFolders(into)
        return [self._stage_one(stored, path, folders) for stored, path in zip(objects, staged_paths(objects, into), strict=True)]

    def _stage_one(self, stored: StoredObject, staged_path: str, folders: _LinkedFolders) -> StagedObject:
        try:
            real, status = self._look(stored.path)
            if fingerprint(status) != stored.etag:
                return StagedObject(stored, None, "the file has changed since it was listed")
            if not os.access(real, os.R_OK):
                return StagedObject(stored, None, "the file may not be read: permission denied")
        except (FileNotFoundError, NotADirectoryError):
            return StagedObject(stored, None, "the file has gone since it was listed")
        except PermissionError:
            return StagedObject(stored, None, "the file's folder may not be entered: permission denied")
        except OSError as error:
            return StagedObject(stored, None, f"the file cannot be reached: {error.strerror}", transient=True)
        self._staged.setdefault(stored.path, status.st_ctime_ns)
        folder, _, name = real.rpartition("/")
        try:
            if _SAFE_NAME.fullmatch(name):
                staged_path = f"{folders.link_to(folder or '/')}/{name}"
            else:
                os.symlink(real, staged_path)
        except OSError as error:
            return StagedObject(stored, None, f"the file cannot be staged: {error.strerror}", transient=True)
        return StagedObject(stored, Path(staged_path))

    def _is_as_listed(self, stored: StoredObject) -> bool:
        try:
            _, status = self._look(stored.path)
        except OSError:
            return False
        untouched = self._staged.get(stored.path, status.st_ctime_ns) == status.st_ctime_ns
        return untouched and fingerprint(status) == stored.etag

    def _look(self, path: str) -> tuple[str, os.stat_result]:
        """The real path and status of the regular file at a listed path. Raises `OSError`, as for a missing file when the path
        is not in the source or leads out of the roots."""
        if not is_within(path, self._folder) or os.path.normpath(path) != path:
            raise FileNotFoundError(path)
        parent, _, name = actual_path(path).rpartition("/")
        real_parent = self._real_parents.get(parent)
        if real_parent is None:
            real_parent = self._real_parents[parent] = os.path.realpath(parent or "/", strict=True)
        real = f"{real_parent.rstrip('/')}/{name}"
        status = os.lstat(real)
        if stat.S_ISLNK(status.st_mode):
            real = os.path.realpath(real, strict=True)
            status = os.lstat(real)
        if not self._roots.contain(real) or not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(path)
        return real, status


class _LinkedFolders:
    """Links under one folder to the folders that files lie in, made when first needed."""

    def __init__(self, into: Path) -> None:
        self._prefix = f"{into}/{secrets.token_hex(4)}-folder"
        self._links: dict[str, str] = {}

    def link_to(self, folder: str) -> str:
        link = self._links.get(folder)
        if link is None:
            link = f"{self._prefix}{len(self._links)}"
            os.symlink(folder, link)
            self._links[folder] = link
        return link
