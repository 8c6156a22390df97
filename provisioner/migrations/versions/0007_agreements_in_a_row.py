"""Several agreements of a site, one after the other; what is planned follows from them"""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    names = {"uq": "%(table_name)s_%(column_0_name)s_key"}  # PostgreSQL's own; SQLite gave none
    with op.batch_alter_table("agreement", naming_convention=names) as batch_op:
        batch_op.drop_constraint("agreement_site_id_key", type_="unique")
        batch_op.add_column(sa.Column("recorded_on", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("closed_on", sa.Date(), nullable=True))
        batch_op.create_index(batch_op.f("ix_agreement_site_id"), ["site_id"], unique=False)

    # What was planned for a day keeps it: a termination of the past closes no site before the day that was announced.
    agreement = sa.table("agreement", sa.column("site_id", sa.Integer), sa.column("recorded_on", sa.Date))
    planned = sa.table(
        "plannedchange", *(sa.column(name) for name in ("site_id", "kind", "state")), sa.column("on", sa.Date)
    )
    rows = op.get_bind().execute(
        sa.select(planned.c.site_id, planned.c.on).where(planned.c.kind == "READ_ONLY", planned.c.state == "PLANNED")
    )
    for site_id, day in rows.all():
        op.execute(agreement.update().where(agreement.c.site_id == site_id).values(recorded_on=day - timedelta(days=1)))
    op.drop_table("plannedchange")
    for name in ("changekind", "changestate"):
        sa.Enum(name=name).drop(op.get_bind())
