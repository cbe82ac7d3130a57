"""Opening a source checks its path, its credential and the tenant's grants; nothing is asked of any server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from domain.errors import UnsupportedError, ValidationError
from domain.ingestions.entities import Source, SourceType
from domain.tenants import Grants
from integrations.object_store.credentials import S3Credential
from integrations.object_store.s3_location import S3Location, s3_location
from integrations.object_store.stores import ConfiguredObjectStores

KEYS = S3Credential("http://127.0.0.1:1", "us-east-1", "KEY", "the-secret", session_token="the-token")

NO_GRANTS = Grants()


@pytest.fixture
def stores() -> Iterator[ConfiguredObjectStores]:
    stores = ConfiguredObjectStores({"default": KEYS, "prod": KEYS})
    yield stores
    stores.close()


def refused(stores: ConfiguredObjectStores, source: Source, grants: Grants = NO_GRANTS) -> tuple[tuple[str, ...], str]:
    with pytest.raises(ValidationError) as failure:
        stores.open(source, grants)
    [error] = failure.value.fields
    return error.path, error.message


@pytest.mark.parametrize("kind", [SourceType.AZURE_BLOB, SourceType.GCS])
def test_sources_that_do_not_work_yet_are_refused_by_name(stores: ConfiguredObjectStores, kind: SourceType) -> None:
    with pytest.raises(UnsupportedError, match=f"{kind} do not work yet; S3 and LOCAL do"):
        stores.open(Source(kind, "wasb://container/"), Grants(credentials=("*",)))


@pytest.mark.parametrize("name", [None, "default"])
def test_the_default_credential_needs_its_grant(stores: ConfiguredObjectStores, name: str | None) -> None:
    source = Source(SourceType.S3, "s3://bucket/in/", credential=name)
    stores.open(source, Grants(credentials=("default",)))
    assert refused(stores, source, Grants(credentials=("prod",))) == (
        ("source", "credential"),
        "there is no credential 'default' for this tenant",
    )


def test_the_machines_own_credentials_need_the_defaults_grant() -> None:
    stores = ConfiguredObjectStores({})
    stores.open(Source(SourceType.S3, "s3://bucket/in/"), Grants(credentials=("default",)))
    field, _ = refused(stores, Source(SourceType.S3, "s3://bucket/in/"))
    assert field == ("source", "credential")
    stores.close()


@pytest.mark.parametrize("granted", ["prod", "*"])
def test_a_granted_credential_opens(stores: ConfiguredObjectStores, granted: str) -> None:
    stores.open(Source(SourceType.S3, "s3://bucket/in/", credential="prod"), Grants(credentials=(granted,)))


def test_a_credential_not_granted_looks_like_one_that_is_not_there(stores: ConfiguredObjectStores) -> None:
    grants = Grants(credentials=("none",))
    for name in ("prod", "none", "other", "*"):
        field, message = refused(stores, Source(SourceType.S3, "s3://bucket/in/", credential=name), grants)
        assert field == ("source", "credential")
        assert message == f"there is no credential {name!r} for this tenant"


@pytest.mark.parametrize("pattern", ["[a", "{a", "x" * 1_025])
def test_a_malformed_glob_is_refused(stores: ConfiguredObjectStores, pattern: str) -> None:
    field, _ = refused(stores, Source(SourceType.S3, "s3://bucket/in/", glob=pattern))
    assert field == ("source", "glob")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "s3://bucket/prefix/"),
        ("bucket/in/", "s3://bucket/prefix/"),
        ("s3a://bucket/in/", "s3://bucket/prefix/"),
        ("https://bucket.s3.amazonaws.com/in/", "s3://bucket/prefix/"),
        ("S3://bucket/in/", "s3://bucket/prefix/"),
        ("s3://", "bucket's name"),
        ("s3:///in/", "bucket's name"),
        ("s3://ab/", "bucket's name"),
        ("s3://Bucket/", "bucket's name"),
        ("s3://my_bucket/", "bucket's name"),
        ("s3://a..b/", "bucket's name"),
        ("s3://-ab/", "bucket's name"),
        ("s3://127.0.0.1/", "bucket's name"),
        ("s3://key:secret@bucket/", "bucket's name"),
        (f"s3://{'b' * 64}/", "bucket's name"),
        ("s3://bucket/in/*.json", "glob"),
        ("s3://bucket/in/?versionId=1", "glob"),
        ("s3://bucket/in/../out/", "'..'"),
        ("s3://bucket/./in/", "'.'"),
        ("s3://bucket/in\n/", "control"),
        ("s3://bucket/\0", "control"),
        ("s3://bucket/" + "é" * 513, "1024 bytes"),
    ],
)
def test_a_malformed_path_is_refused(stores: ConfiguredObjectStores, path: str, message: str) -> None:
    field, found = refused(stores, Source(SourceType.S3, path))
    assert field == ("source", "path")
    assert message in found


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("s3://bucket", S3Location("bucket", "")),
        ("s3://bucket/", S3Location("bucket", "")),
        ("s3://my.bucket-1/in", S3Location("my.bucket-1", "in/")),
        ("s3://bucket/in/day=1/", S3Location("bucket", "in/day=1/")),
        ("s3://bucket/a b+c%20é#1/", S3Location("bucket", "a b+c%20é#1/")),
        ("s3://bucket//in//", S3Location("bucket", "/in//")),
    ],
)
def test_a_path_is_taken_as_it_is_written(path: str, location: S3Location) -> None:
    assert s3_location(Source(SourceType.S3, path)) == location


def test_a_key_belongs_to_a_location_or_not() -> None:
    location = S3Location("bucket", "in/")
    assert location.key_of("s3://bucket/in/a/../b?c") == "in/a/../b?c"
    for path in ("s3://bucket/in/", "s3://bucket/in", "s3://bucket/in2/a", "s3://bucket/in/day/", "s3://bucket2/in/a", "/in/a", "in/a"):
        assert location.key_of(path) is None, path


def test_a_credential_never_shows_its_secrets() -> None:
    assert "KEY" in repr(KEYS)
    assert "the-secret" not in repr(KEYS)
    assert "the-token" not in repr(KEYS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"access_key_id": "KEY"}, "both"),
        ({"secret_access_key": "the-secret"}, "both"),
        ({"session_token": "the-token"}, "session_token"),
        ({"access_key_id": "KEY", "secret_access_key": "the-secret", "profile": "prod"}, "not both"),
        ({"endpoint_url": "minio:9000"}, "http"),
    ],
)
def test_a_credential_that_makes_no_sense_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as failure:
        S3Credential(**fields)
    assert "the-secret" not in str(failure.value)
