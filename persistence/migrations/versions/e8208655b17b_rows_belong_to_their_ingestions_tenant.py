"""Rows belong to their ingestion's tenant, and an ingestion's files are found whatever their version"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "e8208655b17b"
down_revision = "a20a6de67d2f"
branch_labels = None
depends_on = None

OWNED = ("batches", "processed_files", "runs", "schema_versions")


def upgrade() -> None:
    op.create_unique_constraint("uq_ingestions_id_of_tenant", "ingestions", ["tenant_id", "id"])
    for table in OWNED:
        op.drop_constraint(op.f(f"fk_{table}_tenant_id"), table, type_="foreignkey")
        op.drop_constraint(op.f(f"fk_{table}_ingestion_id"), table, type_="foreignkey")
        op.create_foreign_key(
            f"fk_{table}_ingestion", table, "ingestions", ["tenant_id", "ingestion_id"], ["tenant_id", "id"], ondelete="CASCADE"
        )
    op.drop_index("ix_processed_files_of_ingestion", "processed_files")
    op.create_index("ix_processed_files_of_ingestion", "processed_files", ["ingestion_id", "id"])
    op.drop_constraint("uq_outbox_subject", "outbox", type_="unique")
    op.create_unique_constraint("uq_outbox_subject", "outbox", ["tenant_id", "subject_id", "topic"])


def downgrade() -> None:
    op.drop_constraint("uq_outbox_subject", "outbox", type_="unique")
    op.create_unique_constraint("uq_outbox_subject", "outbox", ["subject_id", "topic"])
    op.drop_index("ix_processed_files_of_ingestion", "processed_files")
    op.create_index("ix_processed_files_of_ingestion", "processed_files", ["ingestion_id", "id"], postgresql_where=sa.text("current"))
    for table in OWNED:
        op.drop_constraint(f"fk_{table}_ingestion", table, type_="foreignkey")
        op.create_foreign_key(op.f(f"fk_{table}_ingestion_id"), table, "ingestions", ["ingestion_id"], ["id"], ondelete="CASCADE")
        op.create_foreign_key(op.f(f"fk_{table}_tenant_id"), table, "tenants", ["tenant_id"], ["id"], ondelete="CASCADE")
    op.drop_constraint("uq_ingestions_id_of_tenant", "ingestions", type_="unique")
