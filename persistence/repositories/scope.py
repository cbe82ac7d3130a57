"""The tenant's scope: every statement of a repository starts from here."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Delete, FromClause, Select, Table, Update, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.activity.notes import ActivityNotes
from persistence.mapping import TABLE_OF, columns_of, entity_of

E = TypeVar("E")


class TenantScope:
    """A connection inside a transaction, and the tenant whose rows alone are seen and touched through it.

    What a repository changes of what people follow, it notes in `activity`.
    """

    def __init__(self, connection: AsyncConnection, tenant_id: UUID) -> None:
        self.connection = connection
        self.tenant_id = tenant_id
        self.activity = ActivityNotes()

    def owns(self, table: FromClause) -> ColumnElement[bool]:
        return table.c.tenant_id == self.tenant_id

    def select(self, entity: type) -> Select[Any]:
        return select(*columns_of(entity)).where(self.owns(TABLE_OF[entity]))

    def update(self, table: Table) -> Update:
        return update(table).where(self.owns(table))

    def delete(self, table: Table) -> Delete:
        return delete(table).where(self.owns(table))

    async def all(self, entity: type[E], statement: Any) -> list[E]:
        """`statement` selects or returns the entity's columns."""
        return [entity_of(entity, row) for row in (await self.connection.execute(statement)).all()]

    async def first(self, entity: type[E], statement: Any) -> E | None:
        row = (await self.connection.execute(statement)).first()
        return None if row is None else entity_of(entity, row)

    async def changed(self, statement: Any) -> int:
        """Run an INSERT, UPDATE or DELETE; how many rows it touched."""
        return (await self.connection.execute(statement)).rowcount
