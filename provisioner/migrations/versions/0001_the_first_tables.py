"""The first tables"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

import provisioner.model.tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.Column("subject", AutoString(), nullable=False),
        sa.Column("kind", AutoString(), nullable=False),
        sa.Column("operation_id", sa.Integer(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("event") as batch_op:
        batch_op.create_index(batch_op.f("ix_event_operation_id"), ["operation_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_event_subject"), ["subject"], unique=False)

    op.create_table(
        "operation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", AutoString(), nullable=False),
        sa.Column("subject", AutoString(), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("RUNNING", "UNDOING", "SUCCEEDED", "UNDONE", "NEEDS_HAND", name="operationstate"),
            nullable=False,
        ),
        sa.Column("holder", AutoString(), nullable=False),
        sa.Column("started_at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.Column("ended_at", provisioner.model.tables.UtcDateTime(), nullable=True),
        sa.Column("message", AutoString(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("operation") as batch_op:
        batch_op.create_index(batch_op.f("ix_operation_subject"), ["subject"], unique=False)
        batch_op.create_index(
            "one_unfinished_operation_per_subject",
            ["subject"],
            unique=True,
            sqlite_where=sa.text("state IN ('RUNNING', 'UNDOING', 'NEEDS_HAND')"),
            postgresql_where=sa.text("state IN ('RUNNING', 'UNDOING', 'NEEDS_HAND')"),
        )

    op.create_table(
        "release",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", AutoString(), nullable=False),
        sa.Column("host", AutoString(), nullable=False),
        sa.Column("image", AutoString(), nullable=False),
        sa.Column("wordpress", AutoString(), nullable=False),
        sa.Column("php", AutoString(), nullable=False),
        sa.Column("themes", sa.JSON(), nullable=False),
        sa.Column("content_key", AutoString(), nullable=False),
        sa.Column("built_at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "host"),
    )
    op.create_table(
        "site",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("slug", AutoString(), nullable=False),
        sa.Column("host_name", AutoString(), nullable=False),
        sa.Column("host", AutoString(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("PREPARING", "ONLINE", "SUSPENDED", "CLOSING", "ARCHIVED", "DELETED", name="sitestate"),
            nullable=False,
        ),
        sa.Column("name", AutoString(), nullable=False),
        sa.Column("profile", AutoString(), nullable=False),
        sa.Column("release", AutoString(), nullable=False),
        sa.Column("theme", AutoString(), nullable=True),
        sa.Column("commune", AutoString(), nullable=True),
        sa.Column("rna", AutoString(), nullable=True),
        sa.Column("siret", AutoString(), nullable=True),
        sa.Column("seat", AutoString(), nullable=True),
        sa.Column("telephone", AutoString(), nullable=True),
        sa.Column("mail", AutoString(), nullable=True),
        sa.Column("publication_director", AutoString(), nullable=True),
        sa.Column("created_at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("host_name"),
        sa.UniqueConstraint("slug"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "agreement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("start", sa.Date(), nullable=False),
        sa.Column("term_years", sa.Integer(), nullable=False),
        sa.Column("terms", sa.Integer(), nullable=False),
        sa.Column("notice_months", sa.Integer(), nullable=False),
        sa.Column("signed_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["site_id"],
            ["site.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("site_id"),
    )
    op.create_table(
        "contact",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("name", AutoString(), nullable=False),
        sa.Column("mail", AutoString(), nullable=False),
        sa.Column("login", AutoString(), nullable=False),
        sa.Column("administrator", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["site_id"],
            ["site.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("site_id", "mail"),
    )
    with op.batch_alter_table("contact") as batch_op:
        batch_op.create_index(batch_op.f("ix_contact_site_id"), ["site_id"], unique=False)

    op.create_table(
        "generation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Enum("BUILDING", "SERVING", "KEPT", name="generationstate"), nullable=False),
        sa.Column("release", AutoString(), nullable=False),
        sa.Column("image", AutoString(), nullable=False),
        sa.Column("wordpress", AutoString(), nullable=False),
        sa.Column("php", AutoString(), nullable=False),
        sa.Column("created_at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["site_id"],
            ["site.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("site_id", "number"),
    )
    with op.batch_alter_table("generation") as batch_op:
        batch_op.create_index(batch_op.f("ix_generation_site_id"), ["site_id"], unique=False)

    op.create_table(
        "operationstep",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("operation_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", AutoString(), nullable=False),
        sa.Column("state", sa.Enum("PLANNED", "STARTED", "DONE", "UNDONE", name="stepstate"), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("changed_at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["operation_id"],
            ["operation.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("operation_id", "position"),
    )
    with op.batch_alter_table("operationstep") as batch_op:
        batch_op.create_index(batch_op.f("ix_operationstep_operation_id"), ["operation_id"], unique=False)

    op.create_table(
        "mail",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("occasion", AutoString(), nullable=False),
        sa.Column("message_id", AutoString(), nullable=False),
        sa.Column("kind", AutoString(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=True),
        sa.Column("contact_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.Enum("QUEUED", "SENT", "DEAD", name="mailstate"), nullable=False),
        sa.Column("subject", AutoString(), nullable=False),
        sa.Column("body", AutoString(), nullable=False),
        sa.Column("created_at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", provisioner.model.tables.UtcDateTime(), nullable=False),
        sa.Column("sent_at", provisioner.model.tables.UtcDateTime(), nullable=True),
        sa.Column("outcome", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(
            ["contact_id"],
            ["contact.id"],
        ),
        sa.ForeignKeyConstraint(
            ["site_id"],
            ["site.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("message_id"),
        sa.UniqueConstraint("occasion"),
    )
    with op.batch_alter_table("mail") as batch_op:
        batch_op.create_index(batch_op.f("ix_mail_site_id"), ["site_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("mail") as batch_op:
        batch_op.drop_index(batch_op.f("ix_mail_site_id"))

    op.drop_table("mail")
    with op.batch_alter_table("operationstep") as batch_op:
        batch_op.drop_index(batch_op.f("ix_operationstep_operation_id"))

    op.drop_table("operationstep")
    with op.batch_alter_table("generation") as batch_op:
        batch_op.drop_index(batch_op.f("ix_generation_site_id"))

    op.drop_table("generation")
    with op.batch_alter_table("contact") as batch_op:
        batch_op.drop_index(batch_op.f("ix_contact_site_id"))

    op.drop_table("contact")
    op.drop_table("agreement")
    op.drop_table("site")
    op.drop_table("release")
    with op.batch_alter_table("operation") as batch_op:
        batch_op.drop_index(
            "one_unfinished_operation_per_subject",
            sqlite_where=sa.text("state IN ('RUNNING', 'UNDOING', 'NEEDS_HAND')"),
            postgresql_where=sa.text("state IN ('RUNNING', 'UNDOING', 'NEEDS_HAND')"),
        )
        batch_op.drop_index(batch_op.f("ix_operation_subject"))

    op.drop_table("operation")
    with op.batch_alter_table("event") as batch_op:
        batch_op.drop_index(batch_op.f("ix_event_subject"))
        batch_op.drop_index(batch_op.f("ix_event_operation_id"))

    op.drop_table("event")
