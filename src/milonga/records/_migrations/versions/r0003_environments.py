"""Remove from analyses the values of variables that may be secrets.

Up to 0002 the whole environment of an analysis's process was written down, with
MILONGA_WEBHOOK_SECRET and the URL of the store.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from milonga.records._environment import recorded_environment
from milonga.records._types import canonical_json

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

_TASK = sa.table("processing_task", sa.column("id"), sa.column("data", JSON))
_ANALYSIS = sa.table("analysis", sa.column("id"), sa.column("setting_id"))
_SETTING = sa.table(
    "analysis_setting",
    *(sa.column(name) for name in ("id", "sha256", "poll_interval")),
    *(sa.column(name, JSON) for name in ("environment", "communicators")),
)


def upgrade() -> None:
    """Scrub the records of tasks and the settings of analyses."""
    connection = op.get_bind()
    with _overwriting(connection):
        _scrub_tasks(connection)
        _scrub_settings(connection)


def downgrade() -> None:
    """Leave everything: what is removed does not come back."""


@contextmanager
def _overwriting(connection: sa.Connection) -> Iterator[None]:
    """Overwrite what goes: it would else stay readable in the free parts of an SQLite file."""
    if connection.dialect.name != "sqlite":
        yield
        return
    before = connection.exec_driver_sql("PRAGMA secure_delete").scalar_one()
    connection.exec_driver_sql("PRAGMA secure_delete=ON").close()
    yield
    connection.exec_driver_sql(f"PRAGMA secure_delete={int(before)}").close()


def _scrub_tasks(connection: sa.Connection) -> None:
    of_analyses = sa.select(_TASK.c.id).where(_TASK.c.data["analysis"].as_string().is_not(None))
    for number in [*connection.scalars(of_analyses)]:
        row = _TASK.c.id == number
        data = connection.execute(sa.select(_TASK.c.data).where(row)).scalar_one()
        analysis = data["analysis"]
        if isinstance(analysis, Mapping) and isinstance(analysis.get("task_env"), Mapping):
            scrubbed = {**analysis, "task_env": recorded_environment(analysis["task_env"])}
            changed = {**data, "analysis": scrubbed}
            connection.execute(sa.update(_TASK).where(row).values(data=changed))


def _scrub_settings(connection: sa.Connection) -> None:
    """Scrub the settings; those that are equal now become one, as they are found by their hash."""
    kept: dict[str, int] = {}
    for row in connection.execute(sa.select(_SETTING).order_by(_SETTING.c.id)).all():
        content = {
            "environment": recorded_environment(row.environment),
            "poll_interval": row.poll_interval,
            "communicators": row.communicators,
        }
        sha256 = hashlib.sha256(canonical_json(content).encode()).hexdigest()
        this = _SETTING.c.id == row.id
        if sha256 in kept:
            of_this = _ANALYSIS.c.setting_id == row.id
            connection.execute(sa.update(_ANALYSIS).where(of_this).values(setting_id=kept[sha256]))
            connection.execute(sa.delete(_SETTING).where(this))
        else:
            kept[sha256] = row.id
            changed = {"sha256": sha256, "environment": content["environment"]}
            connection.execute(sa.update(_SETTING).where(this).values(changed))
