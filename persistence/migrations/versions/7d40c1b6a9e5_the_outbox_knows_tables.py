"""The outbox knows tables"""

from __future__ import annotations

from alembic import op

revision = "7d40c1b6a9e5"
down_revision = "3e5fc16c1a29"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_outbox_topic"), "outbox")
    op.create_check_constraint(op.f("ck_outbox_topic"), "outbox", "topic IN ('RUN', 'INGESTION', 'TABLE')")


def downgrade() -> None:
    op.execute("DELETE FROM outbox WHERE topic = 'TABLE'")
    op.drop_constraint(op.f("ck_outbox_topic"), "outbox")
    op.create_check_constraint(op.f("ck_outbox_topic"), "outbox", "topic IN ('RUN', 'INGESTION')")
