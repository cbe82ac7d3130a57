"""Pages of a listing are taken exactly as they are, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain.ports.object_store import StoredObject
from integrations.object_store.s3_listing import MalformedPageError, Page, next_token, parse_page

ENTRY = "<Contents><Key>{}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;e1&quot;</ETag><Size>7</Size></Contents>"


NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def page(*keys: str, head: str = "<IsTruncated>false</IsTruncated>", namespace: str = NAMESPACE) -> bytes:
    entries = "\n  ".join(ENTRY.format(key) for key in keys)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{namespace}>{head}\n  {entries}</ListBucketResult>'.encode()


def paths(body: bytes) -> list[str]:
    return [stored.path for stored in parse_page(body, "s3://b/").objects]


@pytest.mark.parametrize("namespace", ["", NAMESPACE])
def test_reads_an_object(namespace: str) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert parse_page(page("in/a.json", namespace=namespace), "s3://b/") == Page([StoredObject("s3://b/in/a.json", 7, "e1", moment)], None)


def test_takes_keys_as_they_are() -> None:
    keys = ["/lead", "a//b", "a/../b", "a/./b", "a%20b", "a+b", "a&amp;b&lt;c", "a&#10;b", "ü", "a\\b", " a "]
    written = ["/lead", "a//b", "a/../b", "a/./b", "a%20b", "a+b", "a&b<c", "a\nb", "ü", "a\\b", " a "]
    assert paths(page(*keys)) == [f"s3://b/{key}" for key in written]


def test_decodes_keys_that_the_store_says_it_has_encoded() -> None:
    body = page("a+b%2Bc%250A%0A%01%C3%BC", "plain", head="<EncodingType>url</EncodingType>")
    assert paths(body) == ["s3://b/a b+c%0A\n\x01ü", "s3://b/plain"]


def test_leaves_out_markers_of_folders() -> None:
    assert paths(page("in/", "in/a", "in//", "b")) == ["s3://b/in/a", "s3://b/b"]


@pytest.mark.parametrize("token", ["abc+/=", "a&amp;b"])
def test_finds_the_next_page_with_and_without_parsing(token: str) -> None:
    body = page("a", head=f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
    assert parse_page(body, "s3://b/").next_token == next_token(body) == token.replace("&amp;", "&")


def test_the_last_page_has_no_next() -> None:
    assert parse_page(page("a"), "s3://b/").next_token is next_token(page("a")) is None


def test_times_with_an_offset_or_none_are_in_utc() -> None:
    for text in ("2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05", "2026-01-02T03:04:05Z"):
        body = page("a").replace(b"2026-01-02T03:04:05.678Z", text.encode())
        [stored] = parse_page(body, "s3://b/").objects
        assert stored.modified_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert stored.modified_at.tzinfo is UTC


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<html><body>Please log in</body></html>",
        b"<ListBucketResult><Contents>",
        page("a")[:-30],
        page("a").replace(b"<Size>7</Size>", b""),
        page("a").replace(b"<Size>7</Size>", b"<Size>many</Size>"),
        page("a").replace(b"<ETag>&quot;e1&quot;</ETag>", b""),
        page("a").replace(b"2026-01-02T", b"yesterday "),
        page("a", head="<IsTruncated>true</IsTruncated>"),
        page("a%FF", head="<EncodingType>url</EncodingType>"),
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + page("&b;"),
    ],
)
def test_what_is_not_a_listing_is_an_error_and_not_an_empty_source(body: bytes) -> None:
    with pytest.raises(MalformedPageError):
        parse_page(body, "s3://b/")
