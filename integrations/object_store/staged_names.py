"""Names for staged files: made by us, safe for any reader, unique within a folder."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from domain.ports.object_store import StoredObject

_EXTENSION = re.compile(r"((?:\.[A-Za-z0-9]{1,16})?\.(?:gz|gzip|zst|zstd|bz2|xz|lz4|snappy)|\.[A-Za-z0-9]{1,16})$", re.IGNORECASE)


def staged_paths(objects: Sequence[StoredObject], into: Path) -> Iterator[str]:
    """A path under `into` for each object, in order: a name of our own with the object's extension (`.json.gz`)."""
    call = secrets.token_hex(4)
    for number, stored in enumerate(objects):
        yield f"{into}/{call}-{number:06d}{extension(stored.path)}"


def extension(path: str) -> str:
    """The extension of a path, with the one before it when it is a compression's; empty when there is none."""
    match = _EXTENSION.search(path, max(path.rfind("/") + 2, len(path) - 40))
    return match[0] if match else ""
