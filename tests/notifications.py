"""Notifications in the words of S3, for tests that send some themselves."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus


def a_record(path: str, /, event: str = "ObjectCreated:Put", **object: Any) -> dict[str, Any]:
    """As S3 sends it of `s3://bucket/key`, in short; the key is encoded here."""
    bucket, _, key = path.removeprefix("s3://").partition("/")
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": event,
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(key), "size": 1, "eTag": "0", "sequencer": "00"} | object,
        },
    }


def a_notification(*paths: str, event: str = "ObjectCreated:Put") -> str:
    """A message's body."""
    return json.dumps({"Records": [a_record(path, event) for path in paths]})


A_GREETING = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-02T12:00:00.000Z", "Bucket": "landing"})
