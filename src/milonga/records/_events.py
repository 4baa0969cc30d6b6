"""What is told when records change: to listeners here, and to hooks by way of the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from milonga.records._subscription_model import OutboxMessage, TaskEvent, TaskUpdateSubscription
from milonga.records._tables import table_of
from milonga.records._task_model import ProcessingTask
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
    is_gathered : bool
        Whether it may be told together with others of its transaction: that nodes of a command's
        tree came or went, which whoever hears of it reads anew.
    """

    task_id: int
    uid: str
    event: TaskEvent
    status: RecordStatus
    is_gathered: bool = False


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
) -> int:
    """Put messages to all hooks that subscribed into the outbox; return how many.

    Each step has a message of its own (QW-03). The end of a task is the last that is heard of it:
    its status goes after the rest of its transaction, and nothing is told of a task that was over
    before.

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
    """
    told = _to_be_told(announcements)
    hooks = _hooks(connection, {announcement.task_id for announcement in told})
    if not hooks:
        return 0
    messages: dict[tuple[int, str, str, int], dict[str, Any]] = {}
    for number, announcement in enumerate(told):
        for hook in hooks.get(announcement.task_id, ()):
            if hook.event in {None, announcement.event}:
                single = announcement.event is TaskEvent.STEPS and not announcement.is_gathered
                apart = number + 1 if single else 0
                key = (announcement.task_id, hook.webhook_href, announcement.event.value, apart)
                messages[key] = _message(announcement, hook, now)
    if not messages:
        return 0
    ordered = sorted(messages.values(), key=lambda row: _ORDER[row["event"]])
    _hurry(connection, ordered, now, timedelta(seconds=details_interval))
    connection.execute(insert_ignoring(connection, OutboxMessage), ordered)
    return len(ordered)


_ORDER = {TaskEvent.DETAILS.value: 0, TaskEvent.STEPS.value: 1, TaskEvent.STATUS.value: 2}


def _to_be_told(announcements: Sequence[Announcement]) -> list[Announcement]:
    """Leave out what is about tasks that were over before."""
    ended_now = {one.task_id for one in announcements if one.event is TaskEvent.STATUS}
    return [
        one
        for one in announcements
        if one.status is RecordStatus.PENDING or one.task_id in ended_now
    ]


@dataclass(frozen=True, slots=True)
class _Hook:
    """Whom to tell, of which event, and the server whose message it is."""

    webhook_href: str
    task_href: str
    event: str | None
    owner: str | None


_SUBSCRIPTION, _TASK = table_of(TaskUpdateSubscription), table_of(ProcessingTask)
_SUBSCRIPTIONS = (
    select(
        *(_SUBSCRIPTION.c[name] for name in ("task_id", "webhook_href", "task_href", "event_type")),
        _TASK.c.owner,
    )
    .join_from(_SUBSCRIPTION, _TASK, _SUBSCRIPTION.c.task_id == _TASK.c.id)
    .where(_SUBSCRIPTION.c.task_id.in_(bindparam("tasks", expanding=True)))
    .order_by(_SUBSCRIPTION.c.id)
)


_ANY_SUBSCRIPTION = f"SELECT 1 FROM {_SUBSCRIPTION.name} LIMIT 1"  # noqa: S608 - a table of ours


def _hooks(connection: Connection, tasks: set[int]) -> dict[int, list[_Hook]]:
    if connection.exec_driver_sql(_ANY_SUBSCRIPTION).first() is None:
        return {}  # as nearly always, and much cheaper than to ask for these tasks
    hooks: dict[int, list[_Hook]] = {}
    for task_id, *hook in connection.execute(_SUBSCRIPTIONS, {"tasks": [*tasks]}):
        hooks.setdefault(task_id, []).append(_Hook(*hook))
    return hooks


def _message(announcement: Announcement, hook: _Hook, now: datetime) -> dict[str, Any]:
    return {
        "task_id": announcement.task_id,
        "uid": announcement.uid,
        "webhook_href": hook.webhook_href,
        "task_href": hook.task_href,
        "owner": hook.owner,
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
