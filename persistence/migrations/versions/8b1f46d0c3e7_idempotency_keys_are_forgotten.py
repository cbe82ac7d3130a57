"""Idempotency keys are forgotten"""

from __future__ import annotations

from alembic import op

revision = "8b1f46d0c3e7"
down_revision = "5d2e8f13b7a4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_idempotency_keys_oldest", "idempotency_keys", ["created_at"], unique=False)
    op.execute("CREATE POLICY directory ON idempotency_keys TO autoloader_directory USING (true)")
    op.execute("GRANT SELECT, DELETE ON idempotency_keys TO autoloader_directory")


def downgrade() -> None:
    op.execute("REVOKE SELECT, DELETE ON idempotency_keys FROM autoloader_directory")
    op.execute("DROP POLICY directory ON idempotency_keys")
    op.drop_index("ix_idempotency_keys_oldest", table_name="idempotency_keys")
