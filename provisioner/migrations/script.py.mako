"""${message}"""

import sqlalchemy as sa
from sqlmodel.sql.sqltypes import AutoString
from alembic import op

import provisioner.model.tables

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
