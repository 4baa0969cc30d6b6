"""What is told when records change: to listeners here, and to hooks by way of the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from milonga.records._subscription_model import OutboxMessage, TaskEvent, TaskUpdateSubscription
from milonga.records._tables import table_of
from milonga.records._words import RecordStatus

__all__ = ["Announcement", "insert_ignoring", "post"]


@dataclass(frozen=True, slots=True)
class Announcement:
    """A change that is committed, or about to be.

    Parameters
    ----------
    task_id : int
        Number of the task.
    uid : str
        Its unique name.
    event : TaskEvent
        What changed.
    status : RecordStatus
        Its status after the change.
    """

    task_id: int
    uid: str
    event: TaskEvent
    status: RecordStatus


def insert_ignoring(connection: Connection, table: Any) -> Any:
    """Return an INSERT that leaves rows out which are there already."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def post(
    connection: Connection,
    announcements: Sequence[Announcement],
    *,
    now: datetime,
    details_interval: float,
    max_messages: int,
) -> int:
    """Put messages to all hooks that subscribed into the outbox; return how many.

    Parameters
    ----------
    connection : Connection
        In the transaction of the change.
    announcements : sequence of Announcement
        What changed, in order.
    now : datetime
        The time of day.
    details_interval : float
        Seconds for which the details of a task are gathered into one message (QW-05).
    max_messages : int
        Messages that may wait; beyond it the oldest are dropped.
    """
    hooks = _hooks(connection, {announcement.task_id for announcement in announcements})
    messages: dict[tuple[int, str, str], dict[str, Any]] = {}
    for announcement in announcements:
        for webhook, task_href, event in hooks.get(announcement.task_id, ()):
            if event in {None, announcement.event}:
                key = (announcement.task_id, webhook, announcement.event.value)
                messages[key] = _message(announcement, webhook, task_href, now)
    if not messages:
        return 0
    # Details go first, so that the end of a task is the last that is heard of it.
    ordered = sorted(messages.values(), key=lambda row: row["event"] != TaskEvent.DETAILS)
    _hurry(connection, ordered, now, timedelta(seconds=details_interval))
    connection.execute(insert_ignoring(connection, OutboxMessage), ordered)
    _trim(connection, max_messages)
    return len(ordered)


_SUBSCRIPTION = table_of(TaskUpdateSubscription)
_SUBSCRIPTIONS = (
    select(
        *(_SUBSCRIPTION.c[name] for name in ("task_id", "webhook_href", "task_href", "event_type"))
    )
    .where(_SUBSCRIPTION.c.task_id.in_(bindparam("tasks", expanding=True)))
    .order_by(_SUBSCRIPTION.c.id)
)


def _hooks(connection: Connection, tasks: set[int]) -> dict[int, list[tuple[str, str, str | None]]]:
    rows = connection.execute(_SUBSCRIPTIONS, {"tasks": [*tasks]})
    hooks: dict[int, list[tuple[str, str, str | None]]] = {}
    for task_id, webhook, task_href, event in rows:
        if task_id is not None:
            hooks.setdefault(task_id, []).append((webhook, task_href, event))
    return hooks


def _message(
    announcement: Announcement, webhook: str, task_href: str, now: datetime
) -> dict[str, Any]:
    return {
        "task_id": announcement.task_id,
        "uid": announcement.uid,
        "webhook_href": webhook,
        "task_href": task_href,
        "event": announcement.event.value,
        "status": announcement.status.value,
        "due_at": now,
        "created_at": now,
    }


def _hurry(
    connection: Connection,
    messages: Sequence[dict[str, Any]],
    now: datetime,
    interval: timedelta,
) -> None:
    """Let details wait to be gathered, but not hold up a more important message after them."""
    important = {
        (row["task_id"], row["webhook_href"])
        for row in messages
        if row["event"] != TaskEvent.DETAILS
    }
    for row in messages:
        if (row["task_id"], row["webhook_href"]) not in important:
            row["due_at"] = now + interval
    waiting = OutboxMessage.event == TaskEvent.DETAILS, OutboxMessage.attempts == 0
    for task_id, webhook in important:
        of_hook = OutboxMessage.task_id == task_id, OutboxMessage.webhook_href == webhook
        connection.execute(update(OutboxMessage).where(*of_hook, *waiting).values(due_at=now))


def _trim(connection: Connection, max_messages: int) -> None:
    count = connection.scalar(select(func.count()).select_from(OutboxMessage)) or 0
    if count > max_messages:
        oldest = select(OutboxMessage.id).order_by(OutboxMessage.id).limit(count - max_messages)
        connection.execute(
            delete(OutboxMessage)
            .where(OutboxMessage.id.in_(oldest))
            .execution_options(synchronize_session=False)
        )
