"""Row-level security under the tenant conditions"""

from __future__ import annotations

from alembic import op

revision = "5c1f0a7be2d4"
down_revision = "23e1004636ef"
branch_labels = None
depends_on = None

# Roles belong to the whole server: other databases may have made them, perhaps at this very moment.
_ROLE = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
    BEGIN
      CREATE ROLE {role} NOLOGIN;
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
      WHEN insufficient_privilege THEN
        RAISE insufficient_privilege
          USING MESSAGE = format('an administrator has to run once: CREATE ROLE {role} NOLOGIN; GRANT {role} TO %I', current_user);
    END;
  END IF;
  -- Since PostgreSQL 16 whoever creates a role is its member, and may yet not act as it.
  IF NOT pg_has_role(
    current_user, '{role}', CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END
  ) THEN
    BEGIN
      GRANT {role} TO CURRENT_USER;
    EXCEPTION
      WHEN unique_violation THEN NULL;
      WHEN insufficient_privilege THEN
        RAISE insufficient_privilege USING MESSAGE = format('an administrator has to run once: GRANT {role} TO %I', current_user);
    END;
  END IF;
END $$
"""
_ROLES = ("autoloader_api", "autoloader_directory")
_MINE = "tenant_id = (SELECT nullif(current_setting('autoloader.tenant_id', true), '')::uuid)"
_ALL = "SELECT, INSERT, UPDATE, DELETE"
_TENANT = {
    "api_keys": _ALL,
    "audit_events": "SELECT, INSERT",
    "batches": _ALL,
    "file_attempts": _ALL,
    "idempotency_keys": _ALL,
    "ingestions": _ALL,
    "outbox": _ALL,
    "processed_files": _ALL,
    "runs": _ALL,
    "schema_versions": _ALL,
}
_DIRECTORY = {
    "api_keys": "SELECT, INSERT, UPDATE",
    "batches": "SELECT",
    "ingestions": "SELECT",
    "outbox": "SELECT, UPDATE, DELETE",
    "runs": "SELECT",
    "tenants": "SELECT, INSERT, UPDATE",
}


def upgrade() -> None:
    for role in _ROLES:
        op.execute(_ROLE.format(role=role))
        op.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    for table in sorted(_TENANT.keys() | _DIRECTORY.keys()):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    for table, grants in _TENANT.items():
        op.execute(f"CREATE POLICY tenant ON {table} TO autoloader_api USING ({_MINE})")
        op.execute(f"GRANT {grants} ON {table} TO autoloader_api")
    for table, grants in _DIRECTORY.items():
        op.execute(f"CREATE POLICY directory ON {table} TO autoloader_directory USING (true)")
        op.execute(f"GRANT {grants} ON {table} TO autoloader_directory")


def downgrade() -> None:
    for table in _DIRECTORY:
        op.execute(f"REVOKE ALL ON {table} FROM autoloader_directory")
        op.execute(f"DROP POLICY directory ON {table}")
    for table in _TENANT:
        op.execute(f"REVOKE ALL ON {table} FROM autoloader_api")
        op.execute(f"DROP POLICY tenant ON {table}")
    for table in sorted(_TENANT.keys() | _DIRECTORY.keys()):
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    # The roles stay: they may serve other databases of the server.
    for role in _ROLES:
        op.execute(f"REVOKE USAGE ON SCHEMA public FROM {role}")
