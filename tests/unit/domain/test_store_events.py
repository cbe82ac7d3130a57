"""What is read from the messages that a queue hands out, whoever has sent them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ledger.store_events import MOST_RECORDS, StoreEvents, read_events
from tests.notifications import A_GREETING, a_record


def a_body(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": records})


def problem_of(body: str) -> str | None:
    read = read_events(body)
    assert (read.paths, read.others, read.tests) == ((), 0, 0)
    return read.problem


@pytest.mark.parametrize(
    "event",
    ["ObjectCreated:Put", "ObjectCreated:Post", "ObjectCreated:Copy", "ObjectCreated:CompleteMultipartUpload", "s3:ObjectCreated:Put",
     "ObjectRestore:Completed"],
)  # fmt: skip
def test_what_tells_of_an_object(event: str) -> None:
    assert read_events(a_body(a_record("s3://landing/in/a.json", event))) == StoreEvents(("s3://landing/in/a.json",))


@pytest.mark.parametrize(
    "event", ["ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "ObjectTagging:Put", "ObjectRestore:Post", "Replication:x", ""]
)
def test_what_tells_of_no_object_to_load(event: str) -> None:
    assert read_events(a_body(a_record("s3://landing/in/a.json", event))) == StoreEvents(others=1)


@pytest.mark.parametrize("key", ["a b+c.json", "ünï-日本-😀.json", "100%.json", "a%20b.json", "x=1/y&z?#.json", "a//b", "new\nline"])
def test_keys_are_decoded(key: str) -> None:
    assert read_events(a_body(a_record(f"s3://landing/{key}"))).paths == (f"s3://landing/{key}",)


def test_several_records_in_their_order_and_each_path_once() -> None:
    records = [a_record(f"s3://landing/{key}") for key in "babc"] + [a_record("s3://landing/a", "ObjectRemoved:Delete")]
    assert read_events(a_body(*records)) == StoreEvents(tuple(f"s3://landing/{key}" for key in "bac"), others=1)


def test_the_greeting_of_s3() -> None:
    assert read_events(A_GREETING) == StoreEvents(tests=1)


def test_what_has_come_by_way_of_sns() -> None:
    around = {"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Subject": "Amazon S3 Notification"}
    assert read_events(json.dumps(around | {"Message": a_body(a_record("s3://landing/a b"))})).paths == ("s3://landing/a b",)
    assert problem_of(json.dumps(around | {"Message": json.dumps(around | {"Message": a_body(a_record("s3://landing/a"))})})) is not None


def test_what_eventbridge_sends_has_its_keys_as_they_are() -> None:
    detail = {"version": "0", "bucket": {"name": "landing"}, "object": {"key": "a+b%20c.json", "size": 1}, "reason": "PutObject"}
    event = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
    assert read_events(json.dumps(event)) == StoreEvents(("s3://landing/a+b%20c.json",))
    assert read_events(json.dumps(event | {"detail-type": "Object Deleted"})) == StoreEvents(others=1)
    assert problem_of(json.dumps(event | {"detail": None})) == "it names no bucket"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"a":' * 100_000, "it is not JSON"),
        ("9" * 5_000, "it is not JSON"),
        ("null", "it is no object"),
        ("[]", "it is no object"),
        ("{}", "it is no notification of S3"),
        ('{"Records": {}}', "it is no notification of S3"),
        ('{"Records": [1]}', "a record has no eventName"),
        ('{"Records": [{"eventName": 5}]}', "a record has no eventName"),
        ('{"Records": [{"eventName": "ObjectCreated:Put"}]}', "it names no bucket"),
        (a_body(a_record("s3://landing/a", key=None)), "it names no object"),
        (a_body(a_record("s3://landing/a", key="%ff")), "a key is not UTF-8"),
        (a_body(a_record("s3://landing/a", key="%00")), "a key cannot be stored: it holds NUL, or no Unicode"),
        (a_body(a_record("s3://landing/a", key="\ud800")), "a key cannot be stored: it holds NUL, or no Unicode"),
        (a_body(a_record("s3://landing/")), "a bucket or a key is longer or shorter than S3's are"),
        (a_body(a_record("s3://landing/" + "ü" * 513)), "a bucket or a key is longer or shorter than S3's are"),
        (a_body(a_record("s3:///a")), "a bucket or a key is longer or shorter than S3's are"),
        (
            a_body({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "landing/in"}, "object": {"key": "a"}}}),
            "a bucket or a key is longer or shorter than S3's are",
        ),
        (a_body(*[a_record("s3://landing/a")] * (MOST_RECORDS + 1)), "it has more than 1000 records"),
    ],
)  # fmt: skip
def test_what_is_not_understood(body: str, problem: str) -> None:
    assert problem_of(body) == problem


def test_a_record_that_is_not_understood_keeps_the_others() -> None:
    read = read_events(a_body(a_record("s3://landing/a"), {}, a_record("s3://landing/b")))
    assert (read.paths, read.problem) == (("s3://landing/a", "s3://landing/b"), "a record has no eventName")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["Records", "eventName", "s3", "bucket", "object", "name", "key"]), inner)
    ),
)


@given(st.text() | JSON.map(json.dumps) | st.builds(lambda r: json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": r}]}), JSON))
def test_anything_may_stand_in_a_message(body: str) -> None:
    read = read_events(body)
    assert read.problem is not None or read.paths or read.others or read.tests or json.loads(body)["Records"] == []
    for path in read.paths:
        assert path.startswith("s3://")
        assert path.encode()


@given(st.text(min_size=1).filter(lambda key: "\0" not in key and len(key.encode(errors="replace")) <= 1_000 and _is_unicode(key)))
def test_every_key_that_s3_has_comes_through(key: str) -> None:
    assert read_events(a_body(a_record(f"s3://landing/{key}"))) == StoreEvents((f"s3://landing/{key}",))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
