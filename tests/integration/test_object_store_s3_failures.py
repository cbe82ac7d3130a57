"""What the S3 adapter makes of stores that refuse, break off, contradict themselves, or hold keys that few stores accept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.ingestions.entities import Source, SourceType
from domain.ports.object_store import ObjectStore, SourceUnavailableError, StagedObject, StoredObject
from domain.tenants import Grants
from integrations.object_store import s3_account
from integrations.object_store.credentials import S3Credential
from integrations.object_store.stores import ConfiguredObjectStores
from tests.contracts.object_store_contract import listed
from tests.fakes.s3_http import Request, Response, refusal, serving

Answer = Callable[[Request], Response]
OPEN = Callable[[Answer], ObjectStore]
LISTED_AT = datetime(2026, 1, 2, tzinfo=UTC)


def an_object(key: str = "in/a.json", size: int = 4, etag: str = "e1") -> StoredObject:
    return StoredObject(f"s3://bucket/{key}", size, etag, LISTED_AT)


def a_page(*keys: str, token: str | None = None) -> Response:
    head = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-02T00:00:00Z</LastModified><ETag>e1</ETag><Size>4</Size></Contents>"
        for key in keys
    )
    return Response(body=f"<ListBucketResult>{head}{entries}</ListBucketResult>".encode())


def bytes_of(request: Request) -> Response:
    """An object of four bytes and etag e1, under a precondition."""
    if request.headers.get("if-match") != '"e1"':
        return refusal(412, "PreconditionFailed")
    headers = {"ETag": '"e1"', "Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"}
    return Response(body=b"data", headers=headers)


@pytest.fixture
def open_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[OPEN]:
    """Opens `s3://bucket/in/` on a server that answers as told. Failures are tried once, to be quick."""
    monkeypatch.setitem(s3_account.PATIENT, "retries", {"mode": "standard", "total_max_attempts": 1})
    monkeypatch.setitem(s3_account.RETRIES, "max_retries", 0)
    servers, stores = [], []

    def opened(answer: Answer) -> ObjectStore:
        servers.append(serving(answer))
        credential = S3Credential(servers[-1].__enter__(), "us-east-1", "KEY", "the-secret")
        stores.append(ConfiguredObjectStores({"default": credential}))
        return stores[-1].open(Source(SourceType.S3, "s3://bucket/in/"), Grants(credentials=("*",)))

    yield opened
    for store in stores:
        store.close()
    for server in servers:
        server.__exit__(None, None, None)


async def stage_one(store: ObjectStore, into: Path, stored: StoredObject) -> StagedObject:
    [staged] = await store.stage([stored], into)
    return staged


async def test_a_listing_that_breaks_off_says_so_after_what_it_had(open_store: OPEN) -> None:
    def answer(request: Request) -> Response:
        return refusal(500, "InternalError") if "continuation-token" in request.query else a_page("in/a", "in/b", token="next")

    chunks = open_store(answer).list(chunk_size=2)
    assert [stored.path for stored in await anext(chunks)] == ["s3://bucket/in/a", "s3://bucket/in/b"]
    with pytest.raises(SourceUnavailableError, match=r"bucket bucket .* InternalError") as failure:
        await anext(chunks)
    assert failure.value.reason == SourceUnavailableError.UNREACHABLE
    assert "the-secret" not in failure.value.message


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (refusal(403, "AccessDenied"), SourceUnavailableError.ACCESS_DENIED),
        (refusal(400, "ExpiredToken"), SourceUnavailableError.ACCESS_DENIED),
        (refusal(404, "NoSuchBucket"), SourceUnavailableError.NOT_FOUND),
        (refusal(503, "SlowDown"), SourceUnavailableError.UNREACHABLE),
        (Response(body=b"<html>Please log in</html>"), SourceUnavailableError.UNREACHABLE),
        (Response(body=b"<ListBucketResult>", promised=100), SourceUnavailableError.UNREACHABLE),
    ],
)
async def test_a_store_that_refuses_is_named_with_its_reason(open_store: OPEN, response: Response, reason: str) -> None:
    store = open_store(lambda _: response)
    for asked in (store.check_access(), listed(store)):
        with pytest.raises(SourceUnavailableError, match="bucket") as failure:
            await asked
        assert failure.value.reason == reason
        assert "the-secret" not in failure.value.message


async def test_a_listing_that_does_not_advance_ends(open_store: OPEN) -> None:
    with pytest.raises(SourceUnavailableError):
        await listed(open_store(lambda _: a_page("in/a", token="same")))


@pytest.mark.parametrize(
    "key", ["in//a.json", "in/../a.json", "in/./a.json", "in/a/.", "in/\x01.json", "in/a\n.json", "in/a%2e%2e/b+ .json"]
)
async def test_keys_that_few_stores_accept_are_asked_for_as_they_are(open_store: OPEN, tmp_path: Path, key: str) -> None:
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.key)
        return bytes_of(request)

    staged = await stage_one(open_store(answer), tmp_path, an_object(key))
    assert staged.local_path is not None
    assert staged.local_path.read_bytes() == b"data"
    assert asked == [key]


@pytest.mark.parametrize("key", ["in/a.json", "in//a.json"])
@pytest.mark.parametrize(
    ("response", "message", "transient"),
    [
        (refusal(404, "NoSuchKey"), "has gone", False),
        (refusal(412, "PreconditionFailed"), "has changed", False),
        (refusal(403, "AccessDenied"), "may not be read: the store answered AccessDenied", False),
        (refusal(403, "InvalidObjectState"), "InvalidObjectState", False),
        (refusal(400, "InvalidRequest"), "InvalidRequest", False),
        (refusal(500, "InternalError"), "InternalError", True),
        (refusal(503, "SlowDown"), "SlowDown", True),
        (refusal(429, "TooManyRequests"), "TooManyRequests", True),
    ],
)
async def test_an_object_that_cannot_be_had_says_why_and_whether_to_try_again(
    open_store: OPEN, tmp_path: Path, key: str, response: Response, message: str, transient: bool
) -> None:
    staged = await stage_one(open_store(lambda _: response), tmp_path, an_object(key))
    assert staged.local_path is None
    assert message in (staged.error or "")
    assert "the-secret" not in (staged.error or "")
    assert staged.transient == transient
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("key", ["in/a.json", "in//a.json"])
async def test_a_store_that_ignores_the_precondition_is_found_out(open_store: OPEN, tmp_path: Path, key: str) -> None:
    headers = {"ETag": '"e2"', "Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"}
    staged = await stage_one(open_store(lambda _: Response(body=b"lies", headers=headers)), tmp_path, an_object(key))
    assert "has changed" in (staged.error or "")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("key", ["in/a.json", "in//a.json"])
async def test_a_body_that_breaks_off_leaves_no_file(open_store: OPEN, tmp_path: Path, key: str) -> None:
    headers = {"ETag": '"e1"', "Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"}
    size = 3 << 20
    short = Response(body=b"x" * (2 << 20), headers=headers, promised=size)
    staged = await stage_one(open_store(lambda _: short), tmp_path, an_object(key, size=size))
    assert staged.local_path is None
    assert staged.transient
    assert files_in(tmp_path) == []


async def test_a_trouble_of_the_local_disk_is_the_objects_error(open_store: OPEN, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    staged = await stage_one(open_store(bytes_of), gone, an_object())
    assert "cannot be staged: No such file or directory" in (staged.error or "")
    assert staged.transient


async def test_without_an_answer_every_object_waits_for_another_time(open_store: OPEN, tmp_path: Path) -> None:
    with serving(bytes_of) as endpoint:
        pass
    stores = ConfiguredObjectStores({"default": S3Credential(endpoint, "us-east-1", "KEY", "the-secret")})
    store = stores.open(Source(SourceType.S3, "s3://bucket/in/"), Grants(credentials=("*",)))
    staged = await store.stage([an_object("in/a"), an_object("in//b")], tmp_path)
    assert [result.transient for result in staged] == [True, True]
    assert [result.local_path for result in staged] == [None, None]
    with pytest.raises(SourceUnavailableError, match="cannot be reached"):
        await store.stat("s3://bucket/in/a")
    stores.close()


async def test_a_role_is_assumed_with_the_credentials_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    signers: list[tuple[str, str | None]] = []

    def answer(request: Request) -> Response:
        signer = request.headers["authorization"].partition("Credential=")[2].partition("/")[0]
        signers.append((signer, request.headers.get("x-amz-security-token")))
        if request.method == "POST":
            keys = "<AccessKeyId>ROLEKEY</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>role-token</SessionToken>"
            until = "<Expiration>2099-01-01T00:00:00Z</Expiration>"
            result = f"<AssumeRoleResult><Credentials>{keys}{until}</Credentials></AssumeRoleResult>"
            return Response(body=f"<AssumeRoleResponse>{result}</AssumeRoleResponse>".encode())
        return bytes_of(request) if request.key else a_page("in/a.json")

    with serving(answer) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint)
        role = "arn:aws:iam::123456789012:role/reader"
        stores = ConfiguredObjectStores({"default": S3Credential(endpoint, None, "KEY", "the-secret", role_arn=role)})
        store = stores.open(Source(SourceType.S3, "s3://bucket/in/"), Grants(credentials=("*",)))
        [stored] = await listed(store)
        staged = await stage_one(store, tmp_path, stored)
        stores.close()
    assert staged.error is None
    assert signers == [("KEY", None), ("ROLEKEY", "role-token"), ("ROLEKEY", "role-token")]


async def test_a_cancelled_staging_stops(open_store: OPEN, tmp_path: Path) -> None:
    began = threading.Event()
    release = threading.Event()
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.key)
        began.set()
        release.wait(10)
        return bytes_of(request)

    objects = [an_object(f"in/{number}.json") for number in range(200)]
    store = open_store(answer)
    task = asyncio.ensure_future(store.stage(objects, tmp_path))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    await store.stage([an_object("in/behind-them.json")], tmp_path)
    assert len(asked) <= 17


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())
