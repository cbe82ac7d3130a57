"""What a caller may say about beginning anew; nothing is asked of anybody before it is confirmed."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from domain.errors import ConfirmationRequiredError, ValidationError
from domain.ingestions.inputs import InputModel
from domain.ingestions.refresh import RefreshRequest, RefreshService
from domain.ledger.state_service import ClearRequest
from domain.runs.entities import RefreshMode
from tests.factories import a_principal

REFRESH = {"ingestion_id": uuid4(), "mode": "FULL"}
CLEAR = {"ingestion_id": uuid4()}


@pytest.mark.scenario(135)
@pytest.mark.parametrize("value", ["true", "yes", 1, 0, None, [True], {}])
@pytest.mark.parametrize(
    ("model", "data", "field"),
    [
        (RefreshRequest, REFRESH, "confirm"),
        (RefreshRequest, REFRESH, "dry_run"),
        (RefreshRequest, REFRESH, "auto_run"),
        (ClearRequest, CLEAR, "confirm"),
        (ClearRequest, CLEAR, "keep_rows"),
    ],
)
def test_only_a_boolean_says_yes_or_no(model: type[InputModel], data: dict[str, Any], field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        model.parse(data | {field: value})
    assert [error.path for error in caught.value.fields] == [(field,)]
    for good in (True, False):
        assert getattr(model.parse(data | {field: good}), field) is good


def test_what_is_not_said_destroys_nothing() -> None:
    refresh, clear = RefreshRequest.parse(REFRESH), ClearRequest.parse(CLEAR)
    assert (refresh.mode, refresh.confirm, refresh.dry_run, refresh.auto_run) == (RefreshMode.FULL, False, False, True)
    assert (clear.confirm, clear.keep_rows, clear.path_prefix) == (False, False, None)


@pytest.mark.parametrize("mode", ["full", "", "EVERYTHING", None, 1])
def test_an_unknown_mode_is_named(mode: object) -> None:
    with pytest.raises(ValidationError) as caught:
        RefreshRequest.parse(REFRESH | {"mode": mode})
    assert [error.path for error in caught.value.fields] == [("mode",)]


@pytest.mark.scenario(23)
async def test_without_confirmation_nobody_is_asked_for_anything() -> None:
    nobody: Any = None
    service = RefreshService(nobody, nobody, nobody, nobody, nobody)
    with pytest.raises(ConfirmationRequiredError) as caught:
        await service.refresh(a_principal(), RefreshRequest.parse(REFRESH))
    assert caught.value.message == "a refresh drops the table: confirm it, or ask for a dry run"
