"""States of flow runs, in the words of runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled, Completed, Failed

from domain.runs.entities import Run, RunStatus

BEGUN_WITHIN_SECONDS = 60.0
"""A flow run that a worker has taken executes its run by then, or that worker is gone."""


def state_of(run: Run, *, nothing_new: str = "nothing waited") -> State[Any]:
    """How the flow run ends whose run is as it is now. Its data is the run's status. `nothing_new` says why there was nothing to load."""
    match run.status:
        case RunStatus.SUCCESS:
            return Completed(message=_counted(run), data=run.status.value)
        case RunStatus.PARTIAL:
            return Completed(name=run.status.value, message=run.error_message, data=run.status.value)
        case RunStatus.NO_NEW_FILES:
            return Completed(name=run.status.value, message=nothing_new, data=run.status.value)
        case RunStatus.CANCELLED:
            return Cancelled(message="the run was cancelled", data=run.status.value)
        case RunStatus.FAILED:
            return Failed(message=run.error_message, data=run.status.value)
        case _:
            return Failed(message="the run is no longer this worker's", data=run.status.value)


def is_stuck(state: State[Any], now: datetime) -> bool:
    """Whether a worker has taken the flow run so long ago that it must have died if it has not begun with the run."""
    since = now - state.timestamp
    return state.type in (StateType.PENDING, StateType.RUNNING) and since > timedelta(seconds=BEGUN_WITHIN_SECONDS)


def _counted(run: Run) -> str:
    return f"{run.files_processed} files loaded, {run.files_failed} failed, {run.rows_written} rows written"
