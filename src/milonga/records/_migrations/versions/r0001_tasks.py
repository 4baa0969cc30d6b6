"""Tasks with their steps, logs, runs, files, links and subscriptions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

_STEP_ORDER_SQLITE = (
    """
    CREATE TRIGGER task_step_only_last_insert BEFORE INSERT ON task_step
    WHEN EXISTS (SELECT 1 FROM task_step WHERE id = NEW.id AND number < NEW.number AND cleared = 0)
      OR (NEW.cleared = 0
          AND EXISTS (SELECT 1 FROM task_step WHERE id = NEW.id AND number > NEW.number))
    BEGIN SELECT RAISE(ABORT, 'only the last step of a task may be uncleared'); END
    """,
    """
    CREATE TRIGGER task_step_only_last_update BEFORE UPDATE ON task_step
    WHEN NEW.cleared = 0
      AND EXISTS (SELECT 1 FROM task_step WHERE id = NEW.id AND number > NEW.number)
    BEGIN SELECT RAISE(ABORT, 'only the last step of a task may be uncleared'); END
    """,
)
_STEP_ORDER_POSTGRESQL = (
    """
    CREATE FUNCTION task_step_only_last() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF (TG_OP = 'INSERT' AND EXISTS (
            SELECT 1 FROM task_step WHERE id = NEW.id AND number < NEW.number AND NOT cleared))
         OR (NOT NEW.cleared AND EXISTS (
            SELECT 1 FROM task_step WHERE id = NEW.id AND number > NEW.number)) THEN
        RAISE EXCEPTION 'only the last step of a task may be uncleared'
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER task_step_only_last BEFORE INSERT OR UPDATE ON task_step
    FOR EACH ROW EXECUTE FUNCTION task_step_only_last()
    """,
)


def upgrade() -> None:
    """Make the tables."""
    _make_processing_task()
    _make_task_step()
    _make_task_log_line()
    _make_task_run()
    _make_task_file()
    _make_task_link()
    _make_task_update_subscription()
    postgresql_used = op.get_bind().dialect.name == "postgresql"
    for statement in _STEP_ORDER_POSTGRESQL if postgresql_used else _STEP_ORDER_SQLITE:
        op.execute(statement)


def downgrade() -> None:
    """Remove the tables."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER task_step_only_last ON task_step")
        op.execute("DROP FUNCTION task_step_only_last()")
    for table in (
        "task_update_subscription",
        "task_link",
        "task_file",
        "task_run",
        "task_log_line",
        "task_step",
        "processing_task",
    ):
        op.drop_table(table)


def _make_processing_task() -> None:
    op.create_table(
        "processing_task",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_name", sa.String(length=500), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("uid", sa.String(length=500), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("multi_step", sa.Boolean(), nullable=False),
        sa.Column("current_step", sa.Integer(), nullable=False),
        sa.Column("progress_value", sa.Float(), nullable=True),
        sa.Column("progress_start", sa.Float(), nullable=False),
        sa.Column("progress_target", sa.Float(), nullable=False),
        sa.Column("progress_unit", sa.String(length=100), nullable=False),
        sa.Column("task_status", sa.String(length=100), nullable=True),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("root_id", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(length=255), nullable=True),
        sa.Column("command", sa.String(length=255), nullable=True),
        sa.Column("command_id", sa.String(length=500), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=True),
        sa.Column("result_code", sa.String(length=16), nullable=True),
        sa.Column("health_state", sa.String(length=16), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("issuer", sa.String(length=255), nullable=True),
        sa.Column("origin", sa.String(length=255), nullable=True),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("queued_at", MOMENT, nullable=True),
        sa.Column("running_at", MOMENT, nullable=True),
        sa.Column("deadline_at", MOMENT, nullable=True),
        sa.Column("heartbeat_at", MOMENT, nullable=True),
        sa.Column("recorded_late", sa.Boolean(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "cause IS NULL OR cause IN "
            "('STOPPED', 'ERROR', 'REJECTED', 'NOT_ALLOWED', 'ABORTED', 'TIMED_OUT')",
            name=op.f("ck_processing_task_cause"),
        ),
        sa.CheckConstraint(
            "phase IS NULL OR phase IN ('QUEUED', 'RUNNING', 'PAUSED', 'FINISHED')",
            name=op.f("ck_processing_task_phase"),
        ),
        sa.CheckConstraint(
            "task_status IS NULL OR task_status IN "
            "('SUCCESS', 'PARTIAL', 'FAILURE', 'LOST', 'PENDING')",
            name=op.f("ck_processing_task_status"),
        ),
        sa.CheckConstraint("attempt >= 1", name=op.f("ck_processing_task_attempt")),
        sa.CheckConstraint(
            "finished_at IS NULL OR finished_at >= started_at",
            name=op.f("ck_processing_task_times"),
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["processing_task.id"],
            name=op.f("fk_processing_task_parent_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["root_id"],
            ["processing_task.id"],
            name=op.f("fk_processing_task_root_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processing_task")),
        sa.UniqueConstraint("uid", name=op.f("uq_processing_task_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_processing_task_command_started_at"),
        "processing_task",
        ["command", "started_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_processing_task_device_started_at"),
        "processing_task",
        ["device", "started_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_processing_task_issuer_started_at"),
        "processing_task",
        ["issuer", "started_at"],
        unique=False,
    )
    op.create_index(
        "ix_processing_task_open",
        "processing_task",
        ["owner", "started_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        op.f("ix_processing_task_parent_id_started_at"),
        "processing_task",
        ["parent_id", "started_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_processing_task_root_id"), "processing_task", ["root_id"], unique=False
    )
    op.create_index(
        op.f("ix_processing_task_started_at_id"),
        "processing_task",
        ["started_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_processing_task_task_status_started_at"),
        "processing_task",
        ["task_status", "started_at"],
        unique=False,
    )


def _make_task_step() -> None:
    op.create_table(
        "task_step",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("step_id", sa.String(length=500), nullable=False),
        sa.Column("href", sa.String(length=500), nullable=False),
        sa.Column("ui_href", sa.String(length=500), nullable=False),
        sa.Column("cleared", sa.Boolean(), nullable=False),
        sa.CheckConstraint("number >= 0", name=op.f("ck_task_step_number")),
        sa.ForeignKeyConstraint(
            ["id"], ["processing_task.id"], name=op.f("fk_task_step_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", "number", name=op.f("pk_task_step")),
    )
    op.create_index(
        "uq_task_step_open",
        "task_step",
        ["id"],
        unique=True,
        sqlite_where=sa.text("cleared = 0"),
        postgresql_where=sa.text("NOT cleared"),
    )


def _make_task_log_line() -> None:
    op.create_table(
        "task_log_line",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["processing_task.id"],
            name=op.f("fk_task_log_line_task_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_log_line")),
    )
    op.create_index(
        op.f("ix_task_log_line_task_id_id"), "task_log_line", ["task_id", "id"], unique=False
    )


def _make_task_run() -> None:
    op.create_table(
        "task_run",
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("run_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["processing_task.id"],
            name=op.f("fk_task_run_task_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("task_id", "run_uid", name=op.f("pk_task_run")),
    )
    op.create_index(op.f("ix_task_run_run_uid"), "task_run", ["run_uid"], unique=False)


def _make_task_file() -> None:
    op.create_table(
        "task_file",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=True),
        sa.Column("storage_provider", sa.String(length=64), nullable=False),
        sa.Column("file_name", sa.String(length=500), nullable=False),
        sa.Column("file_storage_data", sa.Text(), nullable=False),
        sa.Column("security_tag", sa.String(length=64), nullable=False),
        sa.Column("file_type", sa.String(length=255), nullable=True),
        sa.Column("mimetype", sa.String(length=255), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("tag_expires_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["processing_task.id"],
            name=op.f("fk_task_file_task_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_file")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_task_file_file_name"), "task_file", ["file_name"], unique=False)
    op.create_index(op.f("ix_task_file_task_id"), "task_file", ["task_id"], unique=False)


def _make_task_link() -> None:
    op.create_table(
        "task_link",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=True),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("href", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["processing_task.id"],
            name=op.f("fk_task_link_task_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_link")),
    )
    op.create_index(op.f("ix_task_link_task_id"), "task_link", ["task_id"], unique=False)


def _make_task_update_subscription() -> None:
    op.create_table(
        "task_update_subscription",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=True),
        sa.Column("webhook_href", sa.String(length=500), nullable=False),
        sa.Column("task_href", sa.String(length=500), nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=True),
        sa.CheckConstraint(
            "event_type IS NULL OR event_type IN ('status', 'steps', 'details')",
            name=op.f("ck_task_update_subscription_event"),
        ),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["processing_task.id"],
            name=op.f("fk_task_update_subscription_task_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_update_subscription")),
    )
    op.create_index(
        op.f("ix_task_update_subscription_task_id"),
        "task_update_subscription",
        ["task_id"],
        unique=False,
    )
    op.create_index(
        "uq_task_update_subscription_all",
        "task_update_subscription",
        ["task_id", "webhook_href"],
        unique=True,
        sqlite_where=sa.text("event_type IS NULL"),
        postgresql_where=sa.text("event_type IS NULL"),
    )
    op.create_index(
        "uq_task_update_subscription_event",
        "task_update_subscription",
        ["task_id", "webhook_href", "event_type"],
        unique=True,
        sqlite_where=sa.text("event_type IS NOT NULL"),
        postgresql_where=sa.text("event_type IS NOT NULL"),
    )
