"""What doctor makes of an S3 account's answers."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from autoloader.doctor import _answers
from integrations.object_store.credentials import S3Credential
from integrations.object_store.s3_account import S3Account


class _Account(S3Account):
    def __init__(self, error: ClientError | None) -> None:
        super().__init__("lab", S3Credential("http://store.test"))
        self._error = error

    def client(self, *, quick: bool = False) -> Any:
        return self

    def list_buckets(self, **_: object) -> None:
        if self._error is not None:
            raise self._error


def refused(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, operation)


def test_a_key_need_not_be_allowed_to_list_buckets() -> None:
    assert _answers(_Account(None)) == "answers at http://store.test"
    denied = _Account(refused("AccessDenied", "ListBuckets"))
    assert _answers(denied) == "known at http://store.test; it may not list buckets, and need not"


@pytest.mark.parametrize(("code", "operation"), [("InvalidAccessKeyId", "ListBuckets"), ("AccessDenied", "AssumeRole")])
def test_a_key_that_is_not_known_and_a_role_that_may_not_be_assumed_are_wrong(code: str, operation: str) -> None:
    with pytest.raises(ClientError):
        _answers(_Account(refused(code, operation)))
