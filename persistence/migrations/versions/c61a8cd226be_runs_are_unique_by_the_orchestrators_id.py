"""Runs are unique by the orchestrator's id"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c61a8cd226be"
down_revision = "10e561eb6977"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("uq_runs_flow_run", "runs", ["flow_run_id"], unique=True, postgresql_where=sa.text("flow_run_id IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("uq_runs_flow_run", table_name="runs", postgresql_where=sa.text("flow_run_id IS NOT NULL"))
