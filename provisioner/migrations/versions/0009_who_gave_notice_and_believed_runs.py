"""Who gave notice, since when a site is online under a signature, and runs at which the clock was believed"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    with op.batch_alter_table("agreement") as batch_op:
        batch_op.add_column(sa.Column("notice_giver", AutoString(), nullable=True))
        batch_op.add_column(sa.Column("online_on", sa.Date(), nullable=True))
    with op.batch_alter_table("run") as batch_op:
        batch_op.add_column(sa.Column("believed", sa.Boolean(), nullable=False, server_default=sa.true()))

    agreement = sa.table("agreement", sa.column("notice_from"), sa.column("notice_giver"))
    # Until now the mail said that the association gave it.
    op.execute(agreement.update().where(agreement.c.notice_from.is_not(None)).values(notice_giver="association"))
    # The first notice reminder leaves 31 days before its deadline now: whoever got it is not reminded once more.
    mail = sa.table("mail", sa.column("matter"), sa.column("occasion"))
    for column in (mail.c.matter, mail.c.occasion):
        renamed = sa.func.replace(column, " notice_30 ", " notice_31 ")
        op.execute(mail.update().where(column.like("reminder % notice_30 %")).values({column.name: renamed}))
