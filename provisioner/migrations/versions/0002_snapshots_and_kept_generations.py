"""Snapshots, drills, and generations that are kept"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

import provisioner.model.tables

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("generation") as batch_op:
        batch_op.add_column(sa.Column("media", AutoString(), nullable=False, server_default="media"))
        batch_op.add_column(sa.Column("kept_until", provisioner.model.tables.UtcDateTime(), nullable=True))

    op.create_table(
        "snapshot",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("snapshot", AutoString(), nullable=False),
        sa.Column("taken_at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("new_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("site_id", "snapshot"),
    )
    with op.batch_alter_table("snapshot") as batch_op:
        batch_op.create_index(batch_op.f("ix_snapshot_site_id"), ["site_id"], unique=False)

    op.create_table(
        "drill",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("snapshot", AutoString(), nullable=False),
        sa.Column("at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.Column("well", sa.Boolean(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("drill") as batch_op:
        batch_op.create_index(batch_op.f("ix_drill_site_id"), ["site_id"], unique=False)
