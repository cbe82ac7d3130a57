"""Changes of a table's columns that people decide on: proposed by the files that need them, one proposal for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.ports.engine import Column, ColumnChange, Decisions
from domain.schema_versions import SchemaDiff, TypeChange

_SHOWN = 5


class SchemaChangeDecision(StrEnum):
    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What one or more files of an ingestion ask of its table.

    `digest` stands for `changes`, and of one digest an ingestion has at most one PENDING proposal. `run_id` is the run that
    met it first, and `example_path` one of the files. `decided_by` is the principal's name.
    """

    id: UUID
    tenant_id: UUID
    ingestion_id: UUID
    run_id: UUID | None
    digest: str
    changes: tuple[ColumnChange, ...]
    example_path: str
    proposed_at: datetime
    decision: SchemaChangeDecision
    decided_at: datetime | None
    decided_by: str | None
    decision_reason: str | None

    @property
    def diff(self) -> SchemaDiff:
        """Relative to the table's columns at the time, with what was approved by then."""
        return SchemaDiff(
            added=tuple(Column(change.column, change.after) for change in self.changes if change.before is None),
            changed=tuple(TypeChange(change.column, change.before, change.after) for change in self.changes if change.before is not None),
        )


def digest_of(changes: Sequence[ColumnChange]) -> str:
    """Equal for equal changes, whatever their order. Types count as they are written: engines write equal ones alike."""
    written = json.dumps(sorted((change.column, change.before or "", change.after) for change in changes))
    return hashlib.sha256(written.encode()).hexdigest()


def described(changes: Sequence[ColumnChange]) -> str:
    """For a person, and not longer than that takes."""
    said = [
        f'new column "{change.column}" ({_short(change.after)})'
        if change.before is None
        else f'column "{change.column}" from {_short(change.before)} to {_short(change.after)}'
        for change in changes[:_SHOWN]
    ]
    more = len(changes) - _SHOWN
    return ", ".join([*said, f"and {more} more"] if more > 0 else said)


def decisions_of(changes: Iterable[SchemaChange]) -> Decisions:
    """What an engine has to know of decided changes, the earliest decision first."""
    decided = list(changes)
    approved = (change.changes for change in decided if change.decision is SchemaChangeDecision.APPROVED)
    rejected = (change.changes for change in decided if change.decision is SchemaChangeDecision.REJECTED)
    return Decisions(tuple(one for many in approved for one in many), tuple(one for many in rejected for one in many))


def _short(type_: str) -> str:
    return type_ if len(type_) <= 100 else f"{type_[:100]}..."
