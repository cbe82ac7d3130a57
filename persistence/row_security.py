"""The second lock: row-level security under the repositories' own tenant conditions.

The application's connections act as one of two roles, neither of which owns anything or may log in. As TENANT_ROLE they see
and change the rows of one tenant, the one that `autoloader.tenant_id` names, and none while it names nobody. As
DIRECTORY_ROLE they do what crosses tenants: credentials, and the chores of background work, on the tables that these need.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Table

from persistence import tables

TENANT_ROLE = "autoloader_api"
DIRECTORY_ROLE = "autoloader_directory"
TENANT_SETTING = "autoloader.tenant_id"

TENANT_GRANTS: Mapping[Table, str] = {
    table: "SELECT, INSERT, UPDATE, DELETE" for table in tables.metadata.sorted_tables if "tenant_id" in table.c
} | {tables.audit_events: "SELECT, INSERT", tables.activity_events: "SELECT, INSERT", tables.file_count_changes: "SELECT"}
"""What the API may do with each tenant-owned table: nobody rewrites what has happened, and nobody but the ledger's triggers counts."""

DIRECTORY_GRANTS: Mapping[Table, str] = {
    tables.tenants: "SELECT, INSERT, UPDATE",
    tables.api_keys: "SELECT, INSERT, UPDATE",
    tables.ingestions: "SELECT",
    tables.runs: "SELECT, UPDATE (lease_expires_at)",
    tables.batches: "SELECT",
    tables.outbox: "SELECT, UPDATE, DELETE",
    tables.file_count_changes: "SELECT, INSERT, UPDATE, DELETE",
    tables.activity_events: "SELECT, DELETE",
    tables.webhook_deliveries: "SELECT, DELETE",
    tables.idempotency_keys: "SELECT, DELETE",
}


def protection_of(table: Table) -> list[str]:
    """The statements that a migration which makes the table has to carry."""
    # As a subquery the setting is read once for a statement, not once for a row. A setting of an ended transaction is ''.
    mine = f"tenant_id = (SELECT nullif(current_setting('{TENANT_SETTING}', true), '')::uuid)"
    statements = [f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY"]
    if table in TENANT_GRANTS:
        statements += [
            f"CREATE POLICY tenant ON {table.name} TO {TENANT_ROLE} USING ({mine})",
            f"GRANT {TENANT_GRANTS[table]} ON {table.name} TO {TENANT_ROLE}",
        ]
    if table in DIRECTORY_GRANTS:
        statements += [
            f"CREATE POLICY directory ON {table.name} TO {DIRECTORY_ROLE} USING (true)",
            f"GRANT {DIRECTORY_GRANTS[table]} ON {table.name} TO {DIRECTORY_ROLE}",
        ]
    return statements
