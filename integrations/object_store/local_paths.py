"""Which local paths a tenant may reach: allow-listed roots that neither `..` nor a symlink leads out of."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from domain.errors import ValidationError
from domain.ingestions.entities import Source
from domain.tenants import Grants

_MAX_PATH_CHARACTERS = 4_096
_UNDECODABLE_BYTE = re.compile(rb"\\x([89a-f][0-9a-f])")


class AllowedRoots:
    """The real paths of the granted folders. Everything here blocks, for as long as a mount does not answer."""

    def __init__(self, roots: Iterable[str]) -> None:
        self.paths = tuple(os.path.realpath(root) for root in roots)

    def contain(self, real_path: str) -> bool:
        """Whether a path without symlinks is a root or lies below one."""
        return any(is_within(real_path, root) for root in self.paths)

    def resolve(self, path: str) -> str | None:
        """The path without symlinks, or None when it leads out of the roots. Raises `OSError` when there is nothing."""
        real = os.path.realpath(path, strict=True)
        return real if self.contain(real) else None

    def admit(self, folder: str) -> None:
        """Raise `ValidationError` when a source's folder leads out of the roots."""
        if not self.contain(os.path.realpath(folder)):
            raise _refused(f"{folder} is outside the local folders granted to this tenant ({', '.join(self.paths)})")


def is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder if folder.endswith("/") else folder + "/")


def source_folder(source: Source, grants: Grants) -> str:
    """The source's folder without a trailing slash, or `ValidationError` when it is malformed or none is granted.

    Nothing is asked of the disk: where the path really leads, `AllowedRoots` tell. `..` is refused rather than resolved: after a
    symlink it would mean something else than it seems to.
    """
    problem = _problem_with(source.path)
    if problem is None and not grants.local_roots:
        problem = "no local folder has been granted to this tenant"
    if problem is not None:
        raise _refused(problem)
    return source.path.rstrip("/") or "/"


def _refused(problem: str) -> ValidationError:
    return ValidationError.of("source", "path", message=problem)


def _problem_with(path: str) -> str | None:
    if not path.startswith("/"):
        return "must be an absolute path, such as /data/landing"
    if "\0" in path:
        return "must not contain a NUL character"
    if len(path) > _MAX_PATH_CHARACTERS:
        return f"must not be longer than {_MAX_PATH_CHARACTERS} characters"
    inner = path.strip("/")
    if any(segment in ("", ".", "..") for segment in inner.split("/")) and inner:
        return "must not contain empty, '.' or '..' segments"
    return None


def readable_name(name: str) -> str:
    """A file name fit for storing: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def actual_path(path: str) -> str:
    """The path on disk behind a path made of readable names."""
    if "\\x" not in path or os.path.lexists(path):
        return path
    return os.fsdecode(_UNDECODABLE_BYTE.sub(lambda match: bytes.fromhex(match[1].decode()), path.encode()))
