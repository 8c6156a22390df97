"""Mails to an association as a whole: what they are about, and the day that they name"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

import provisioner.model.tables

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TYPE mailstate ADD VALUE 'WITHDRAWN'")

    with op.batch_alter_table("mail") as batch_op:
        batch_op.add_column(sa.Column("matter", AutoString(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("day", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("day_says", AutoString(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("tried_since", provisioner.model.tables.UtcDateTime(), nullable=True))
        batch_op.alter_column(
            "state",
            existing_type=sa.Enum("QUEUED", "SENT", "DEAD", name="mailstate"),
            type_=sa.Enum("QUEUED", "SENT", "DEAD", "WITHDRAWN", name="mailstate"),
        )
        batch_op.create_index(batch_op.f("ix_mail_matter"), ["matter"], unique=False)
