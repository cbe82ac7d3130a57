"""What Spark is told to read: local files as they were staged, objects of S3 with the ingestion's own credential."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from integrations.engines.embedded.batch_files import LoadFile
from integrations.object_store.credentials import S3Credential

_UNREADABLE_PREFIXES = ("_", ".")


def s3_uris(files: Sequence[LoadFile], scheme: str) -> dict[int, str]:
    """The URIs of objects by index; fails the files whose names Spark would pass over or change."""
    uris = {}
    for file in files:
        bucket, _, key = file.path.removeprefix("s3://").partition("/")
        name = key.rpartition("/")[2]
        if name.startswith(_UNREADABLE_PREFIXES):
            file.fail('Spark passes over objects whose names begin with "_" or ".": rename it, or load it with the embedded engine.')
        elif "//" in key or key.startswith("/") or {".", ".."} & set(key.split("/")):
            file.fail("Spark cannot name this object: its key has empty, '.' or '..' parts.")
        else:
            uris[file.index] = f"{scheme}://{bucket}/{key}"
    return uris


def s3_scheme(credential: S3Credential) -> str:
    """A scheme of the credential's own.

    Hadoop keeps one file system for a scheme and a bucket, with the keys that it was first opened with: under a common scheme, one
    tenant's reads would go on with another's keys.
    """
    parts = (credential.endpoint_url, credential.region, credential.access_key_id, credential.secret_access_key, credential.session_token)
    return f"s3a-{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"


def s3_options(credential: S3Credential, scheme: str, bucket: str) -> Mapping[str, str]:
    """Hadoop's settings for reading the bucket with the credential, for one read.

    Whatever the server has been told of its own credential, or of this bucket, gives way to them.
    """
    given = {
        "path.style.access": "true",
        # Empty is AWS itself.
        "endpoint": credential.endpoint_url or "",
        "endpoint.region": credential.region,
        "access.key": credential.access_key_id,
        "secret.key": credential.secret_access_key,
        "session.token": credential.session_token,
    }
    if credential.endpoint_url is not None:
        given["connection.ssl.enabled"] = str(credential.endpoint_url.startswith("https://")).lower()
    if credential.access_key_id is not None:
        kind = "Simple" if credential.session_token is None else "Temporary"
        given["aws.credentials.provider"] = f"org.apache.hadoop.fs.s3a.{kind}AWSCredentialsProvider"
    own = {name: value for name, value in given.items() if value is not None}
    options = {f"fs.{scheme}.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem"}
    for prefix in ("fs.s3a", f"fs.s3a.bucket.{bucket}"):
        options |= {f"{prefix}.{name}": value for name, value in own.items()}
    return options
