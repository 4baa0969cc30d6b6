"""Whose task a message to a hook is about, and which servers sign what they send."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; a message belongs to the server that its task belongs to."""
    op.add_column("webhook_outbox", sa.Column("owner", sa.String(length=255), nullable=True))
    op.execute(
        "UPDATE webhook_outbox SET owner ="
        " (SELECT owner FROM processing_task WHERE processing_task.id = webhook_outbox.task_id)"
    )
    signs: sa.Column[bool] = sa.Column(
        "signs", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("record_owner", signs)


def downgrade() -> None:
    """Remove the columns."""
    op.drop_column("record_owner", "signs")
    op.drop_column("webhook_outbox", "owner")
