"""Every pair of statuses, against a table written out by hand."""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import Any

import pytest

from domain.errors import ConflictError, ConflictReason
from domain.ingestions.entities import IngestionStatus
from domain.ledger.entities import FileStatus
from domain.runs.entities import RunStatus
from domain.states import ACTIVE_RUN, DONE_FILE, FILE, INGESTION, RUN, RUNNABLE, Transitions

ALLOWED = {
    (INGESTION, IngestionStatus): """
        DRAFT ACTIVE, DRAFT DELETING, ACTIVE PAUSED, ACTIVE ERROR, ACTIVE DELETING, PAUSED ACTIVE, PAUSED DELETING,
        ERROR ACTIVE, ERROR PAUSED, ERROR DELETING
    """,
    (RUN, RunStatus): """
        QUEUED RUNNING, QUEUED CANCELLING, QUEUED CANCELLED, QUEUED FAILED, RUNNING SUCCESS, RUNNING PARTIAL, RUNNING FAILED,
        RUNNING NO_NEW_FILES, RUNNING CANCELLING, CANCELLING CANCELLED, CANCELLING FAILED
    """,
    (FILE, FileStatus): """
        PENDING PROCESSING, PENDING SKIPPED, PROCESSING SUCCESS, PROCESSING FAILED, PROCESSING SKIPPED, PROCESSING HELD,
        PROCESSING PENDING, HELD PENDING, HELD SKIPPED, FAILED PENDING, FAILED SKIPPED, SKIPPED PENDING, SUCCESS SUPERSEDED
    """,
}


@pytest.mark.parametrize(("transitions", "statuses", "written"), [(*key, text) for key, text in ALLOWED.items()])
def test_every_pair(transitions: Transitions[Any], statuses: type[StrEnum], written: str) -> None:
    allowed = {tuple(statuses(name) for name in pair.split()) for pair in written.split(",")}
    for status, to in itertools.product(statuses, statuses):
        assert transitions.allows(status, to) == ((status, to) in allowed), (status, to)
        assert (status in transitions.sources(to)) == ((status, to) in allowed), (status, to)
        if (status, to) in allowed:
            transitions.require(status, to)
        else:
            with pytest.raises(ConflictError) as caught:
                transitions.require(status, to)
            assert caught.value.reason is ConflictReason.WRONG_STATE


def test_what_counts_as_what() -> None:
    assert set(RUNNABLE) == set(IngestionStatus) - {IngestionStatus.PAUSED, IngestionStatus.DELETING}
    assert set(ACTIVE_RUN) == {status for status in RunStatus if any(RUN.allows(status, to) for to in RunStatus)}
    assert set(DONE_FILE) == {FileStatus.SUCCESS, FileStatus.SKIPPED}
