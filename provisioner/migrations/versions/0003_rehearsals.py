"""Twins, and the database version of a release"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("release") as batch_op:
        batch_op.add_column(sa.Column("db_version", sa.Integer(), nullable=False, server_default="0"))
    if op.get_bind().dialect.name == "postgresql":  # elsewhere the states are mere text
        op.execute("ALTER TYPE generationstate ADD VALUE 'TWIN'")
