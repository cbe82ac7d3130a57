"""The history of a table's columns, one version per accepted change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.ports.engine import Column, TableSchema


@dataclass(frozen=True, slots=True)
class TypeChange:
    column: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """What changed from one version to the next."""

    added: tuple[Column, ...] = ()
    removed: tuple[Column, ...] = ()
    changed: tuple[TypeChange, ...] = ()

    @classmethod
    def between(cls, before: TableSchema | None, after: TableSchema) -> SchemaDiff:
        old = {c.name: c.type for c in before.columns} if before else {}
        new = {c.name: c.type for c in after.columns}
        return cls(
            added=tuple(c for c in after.columns if c.name not in old),
            removed=tuple(c for c in before.columns if c.name not in new) if before else (),
            changed=tuple(TypeChange(n, old[n], t) for n, t in new.items() if n in old and old[n] != t),
        )

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """`version` counts from 1 for each ingestion without a gap; `run_id` is the run that brought the change."""

    id: int
    tenant_id: UUID
    ingestion_id: UUID
    version: int
    run_id: UUID | None
    schema: TableSchema
    diff: SchemaDiff
    created_at: datetime
