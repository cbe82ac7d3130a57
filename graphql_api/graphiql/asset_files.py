"""The page's files: which there are, what they are, and what identifies their contents."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "assets"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".LICENSE": "text/plain; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served. `digest` is the SHA-256 of its content, in hexadecimal."""

    name: str
    content: bytes
    media_type: str
    digest: str

    @property
    def tag(self) -> str:
        """A short mark that changes with the content, for URLs."""
        return self.digest[:16]


@cache
def assets() -> dict[str, Asset]:
    """All files by name, read once: about 1.5 MB."""
    found: dict[str, Asset] = {}
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in _MEDIA_TYPES:
            content = path.read_bytes()
            found[path.name] = Asset(path.name, content, _MEDIA_TYPES[path.suffix], hashlib.sha256(content).hexdigest())
    return found
