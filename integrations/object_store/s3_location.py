"""What an `s3://` path says: the bucket, and the prefix below which the source's objects lie."""

from __future__ import annotations

import re
from dataclasses import dataclass

from domain.errors import ValidationError
from domain.ingestions.entities import Source

_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_KEY_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class S3Location:
    """`prefix` is empty or ends in `/`: a path without its last slash means that folder, and never `prefix2/`."""

    bucket: str
    prefix: str

    @property
    def base(self) -> str:
        """What the paths of the bucket's objects begin with."""
        return f"s3://{self.bucket}/"

    def key_of(self, path: str) -> str | None:
        """The key behind an object's path, or None when the path is not below this location or names a folder's marker."""
        key = path.removeprefix(self.base)
        if key == path or not key.startswith(self.prefix) or not key or key.endswith("/"):
            return None
        return key


def s3_location(source: Source) -> S3Location:
    """The source's location, or `ValidationError` for `source.path`.

    Keys may legally hold `..`, `*` and `?`, and objects with such keys are listed and loaded. In the path of a source they
    are mistakes (a wildcard, a query, a path meant to be resolved), and are refused.
    """
    scheme, separator, rest = source.path.partition("://")
    bucket, _, prefix = rest.partition("/")
    problem = None
    if not separator or scheme != "s3":
        problem = "must be written as s3://bucket/prefix/"
    elif not _BUCKET.fullmatch(bucket):
        problem = f"{bucket!r} is not a bucket's name: 3 to 63 lower-case letters, digits, hyphens and single dots"
    elif _CONTROL.search(prefix):
        problem = "must not contain control characters"
    elif "*" in prefix or "?" in prefix:
        problem = "must not contain wildcards or a query; wildcards belong in the glob"
    elif any(segment in (".", "..") for segment in prefix.split("/")):
        problem = "must not contain '.' or '..' segments: S3 does not resolve them"
    elif len(prefix.encode("utf-8", "surrogatepass")) > _MAX_KEY_BYTES:
        problem = f"must not be longer than {_MAX_KEY_BYTES} bytes after the bucket"
    if problem is not None:
        raise ValidationError.of("source", "path", message=problem)
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    return S3Location(bucket, prefix)
