"""What a store's notifications say.

Three forms of a body are known: S3's own records (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html),
the same in an SNS notification, and EventBridge's (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html). Whoever may
send to the queue may send anything: reading never fails, and takes bounded time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from domain.text import unstorable

MOST_RECORDS = 1_000
_MAX_KEY_BYTES = 1_024
_MAX_BUCKET_CHARACTERS = 255
_CREATED = ("ObjectCreated:", "ObjectRestore:Completed")
"""An object that has come, and one that has come back from an archive. Stores that only speak S3's protocol put `s3:` before them."""
_CREATED_BY_EVENTBRIDGE = ("Object Created", "Object Restore Completed")


@dataclass(frozen=True, slots=True)
class StoreEvents:
    """`paths` are of objects that are said to be there, as `s3://bucket/key`, in their order and each once.

    `others` counts what tells of no object to load (removals, tags and the like), `tests` S3's greetings to a queue that it has been
    pointed at. `problem` says for a person what of the body could not be understood.
    """

    paths: tuple[str, ...] = ()
    others: int = 0
    tests: int = 0
    problem: str | None = None


def read_events(body: str) -> StoreEvents:
    """What a message's body says."""
    try:
        document = _parsed(body)
        if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
            document = _parsed(document["Message"])
        return _events_of(document)
    except _UnknownError as error:
        return StoreEvents(problem=str(error))


class _UnknownError(Exception):
    """What is not understood, for a person."""


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _UnknownError("it is not JSON") from None
    if not isinstance(document, dict):
        raise _UnknownError("it is no object")
    return document


def _events_of(document: Mapping[str, Any]) -> StoreEvents:
    if document.get("Event") == "s3:TestEvent":
        return StoreEvents(tests=1)
    if document.get("source") == "aws.s3" and "detail-type" in document:
        if document["detail-type"] not in _CREATED_BY_EVENTBRIDGE:
            return StoreEvents(others=1)
        # EventBridge gives keys as they are.
        return StoreEvents((_path(document.get("detail"), encoded=False),))
    records = document.get("Records")
    if not isinstance(records, list):
        raise _UnknownError("it is no notification of S3")
    if len(records) > MOST_RECORDS:
        raise _UnknownError(f"it has more than {MOST_RECORDS} records")
    paths: dict[str, None] = {}
    others, problem = 0, None
    for record in records:
        try:
            if _tells_of_an_object(record):
                paths[_path(record.get("s3"), encoded=True)] = None
            else:
                others += 1
        except _UnknownError as error:
            problem = str(error)
    return StoreEvents(tuple(paths), others, problem=problem)


def _tells_of_an_object(record: Any) -> bool:
    name = record.get("eventName") if isinstance(record, dict) else None
    if not isinstance(name, str):
        raise _UnknownError("a record has no eventName")
    return name.removeprefix("s3:").startswith(_CREATED)


def _path(told: Any, *, encoded: bool) -> str:
    bucket, key = (_text(told, part, field) for part, field in (("bucket", "name"), ("object", "key")))
    if encoded:
        try:
            key = unquote_plus(key, errors="strict")
        except UnicodeDecodeError:
            raise _UnknownError("a key is not UTF-8") from None
    if unstorable(key) is not None or unstorable(bucket) is not None:
        raise _UnknownError("a key cannot be stored: it holds NUL, or no Unicode")
    if not key or len(key.encode()) > _MAX_KEY_BYTES or not bucket or "/" in bucket or len(bucket) > _MAX_BUCKET_CHARACTERS:
        raise _UnknownError("a bucket or a key is longer or shorter than S3's are")
    return f"s3://{bucket}/{key}"


def _text(told: Any, part: str, field: str) -> str:
    holder = told.get(part) if isinstance(told, dict) else None
    text = holder.get(field) if isinstance(holder, dict) else None
    if not isinstance(text, str):
        raise _UnknownError(f"it names no {part}")
    return text
