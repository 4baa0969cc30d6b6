"""Owners, the outbox of webhooks, states, blobs and analyses."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    _make_record_owner()
    _make_webhook_outbox()
    _make_plugin_state()
    _make_data_blob()
    _make_analysis_header()
    _make_analysis_setting()
    _make_analysis()
    _make_analysis_parameter()


def downgrade() -> None:
    """Remove the tables."""
    for table in (
        "analysis_parameter",
        "analysis",
        "analysis_setting",
        "analysis_header",
        "data_blob",
        "plugin_state",
        "webhook_outbox",
        "record_owner",
    ):
        op.drop_table(table)


def _make_record_owner() -> None:
    op.create_table(
        "record_owner",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("incarnation", sa.String(length=64), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("heartbeat_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_record_owner")),
    )


def _make_webhook_outbox() -> None:
    op.create_table(
        "webhook_outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=500), nullable=False),
        sa.Column("webhook_href", sa.String(length=500), nullable=False),
        sa.Column("task_href", sa.String(length=500), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=100), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("leased_until", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["processing_task.id"],
            name=op.f("fk_webhook_outbox_task_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_webhook_outbox_due_at"), "webhook_outbox", ["due_at"], unique=False)
    op.create_index(
        op.f("ix_webhook_outbox_task_id_webhook_href_id"),
        "webhook_outbox",
        ["task_id", "webhook_href", "id"],
        unique=False,
    )
    op.create_index(
        "uq_webhook_outbox_details",
        "webhook_outbox",
        ["task_id", "webhook_href"],
        unique=True,
        sqlite_where=sa.text("event = 'details' AND leased_until IS NULL"),
        postgresql_where=sa.text("event = 'details' AND leased_until IS NULL"),
    )


def _make_plugin_state() -> None:
    op.create_table(
        "plugin_state",
        sa.Column("plugin_id", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", JSON, nullable=False),
        sa.PrimaryKeyConstraint("plugin_id", "key", name=op.f("pk_plugin_state")),
    )


def _make_data_blob() -> None:
    op.create_table(
        "data_blob",
        sa.Column("plugin_id", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("plugin_id", "key", name=op.f("pk_data_blob")),
    )


def _make_analysis_header() -> None:
    op.create_table(
        "analysis_header",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analysis_header")),
        sa.UniqueConstraint("sha256", name=op.f("uq_analysis_header_sha256")),
    )


def _make_analysis_setting() -> None:
    op.create_table(
        "analysis_setting",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("environment", JSON, nullable=False),
        sa.Column("poll_interval", sa.Float(), nullable=False),
        sa.Column("communicators", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analysis_setting")),
        sa.UniqueConstraint("sha256", name=op.f("uq_analysis_setting_sha256")),
    )


def _make_analysis() -> None:
    op.create_table(
        "analysis",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_name", sa.String(length=500), nullable=False),
        sa.Column("run", sa.String(length=255), nullable=False),
        sa.Column("task_status", sa.String(length=32), nullable=False),
        sa.Column("valid", sa.Boolean(), nullable=False),
        sa.Column("summary", JSON, nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("impl_schemas", sa.Text(), nullable=True),
        sa.Column("header_id", sa.Integer(), nullable=False),
        sa.Column("setting_id", sa.Integer(), nullable=False),
        sa.Column("parameters_type", sa.String(length=255), nullable=False),
        sa.Column("uid", sa.String(length=500), nullable=True),
        sa.Column("task_id", sa.Integer(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("format_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["header_id"], ["analysis_header.id"], name=op.f("fk_analysis_header_id")
        ),
        sa.ForeignKeyConstraint(
            ["setting_id"], ["analysis_setting.id"], name=op.f("fk_analysis_setting_id")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["processing_task.id"],
            name=op.f("fk_analysis_task_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analysis")),
    )
    op.create_index(op.f("ix_analysis_header_id"), "analysis", ["header_id"], unique=False)
    op.create_index(op.f("ix_analysis_setting_id"), "analysis", ["setting_id"], unique=False)
    op.create_index(op.f("ix_analysis_task_id"), "analysis", ["task_id"], unique=False)
    op.create_index(
        op.f("ix_analysis_task_name_run_valid_id"),
        "analysis",
        ["task_name", "run", "valid", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_analysis_task_name_valid_id"),
        "analysis",
        ["task_name", "valid", "id"],
        unique=False,
    )


def _make_analysis_parameter() -> None:
    op.create_table(
        "analysis_parameter",
        sa.Column("analysis_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("task_name", sa.String(length=500), nullable=False),
        sa.Column("run", sa.String(length=255), nullable=False),
        sa.Column("valid", sa.Boolean(), nullable=False),
        sa.Column("value", JSON, nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["analysis_id"],
            ["analysis.id"],
            name=op.f("fk_analysis_parameter_analysis_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("analysis_id", "name", name=op.f("pk_analysis_parameter")),
    )
    op.create_index(
        op.f("ix_analysis_parameter_task_name_name_run_valid_analysis_id"),
        "analysis_parameter",
        ["task_name", "name", "run", "valid", "analysis_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_analysis_parameter_task_name_name_valid_analysis_id"),
        "analysis_parameter",
        ["task_name", "name", "valid", "analysis_id"],
        unique=False,
    )
