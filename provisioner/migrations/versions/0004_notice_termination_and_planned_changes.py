"""Notice, termination, and changes that are planned"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("agreement") as batch_op:
        batch_op.add_column(sa.Column("closing_days", sa.Integer(), nullable=False, server_default="30"))
        batch_op.add_column(sa.Column("handed_over_on", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("notice_on", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("notice_ends", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("notice_from", AutoString(), nullable=True))
        batch_op.add_column(sa.Column("terminated_on", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("termination_reason", AutoString(), nullable=True))

    op.create_table(
        "plannedchange",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Enum("READ_ONLY", "ARCHIVE", name="changekind"), nullable=False),
        sa.Column("on", sa.Date(), nullable=False),
        sa.Column("state", sa.Enum("PLANNED", "DONE", "CANCELLED", name="changestate"), nullable=False),
        sa.Column("operation_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("plannedchange") as batch_op:
        batch_op.create_index(batch_op.f("ix_plannedchange_site_id"), ["site_id"], unique=False)
