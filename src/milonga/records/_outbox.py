"""The messages to hooks that wait in the store, for whoever delivers them.

Messages to one hook about one task leave in their order: while the first waits, so do those after
it. A message that is being delivered is leased, so that two deliverers on one store do not send
the same at the same time; a deliverer that dies lets its leases run out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import aliased

from milonga.records._store import RecordStore
from milonga.records._subscription_model import OutboxMessage
from milonga.records._tables import table_of

__all__ = ["StoredMessage", "WebhookOutbox"]

_MESSAGE = table_of(OutboxMessage)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message to a hook.

    Parameters
    ----------
    id : int
        Its number, which grows from message to message.
    webhook_href, task_href : str
        Where to call, and what to name there.
    uid, event, status : str
        What changed.
    created_at : datetime
        When.
    attempts : int
        How often it was tried before.
    """

    id: int
    webhook_href: str
    task_href: str
    uid: str
    event: str
    status: str
    created_at: datetime
    attempts: int


class WebhookOutbox:
    """The waiting messages of a store; any thread may call any method.

    Parameters
    ----------
    store : RecordStore
        The store.
    lease : float, optional
        Seconds for which a message belongs to who took it.
    """

    def __init__(self, store: RecordStore, lease: float = 60.0) -> None:
        self._store = store
        self._lease = timedelta(seconds=lease)

    def take(self, limit: int) -> list[StoredMessage]:
        """Lease the messages that are due and first in their order, at most `limit`."""
        now, message = self._store.clock(), OutboxMessage
        free = or_(message.leased_until.is_(None), message.leased_until <= now)
        due = (
            select(message.id)
            .where(message.due_at <= now, free, _is_first())
            .order_by(message.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._store.writing() as transaction:
            connection = transaction.connection
            numbers = [*connection.scalars(due)]
            if not numbers:
                return []
            leased = update(_MESSAGE).where(_MESSAGE.c.id.in_(numbers))
            connection.execute(leased.values(leased_until=now + self._lease))
            rows = connection.execute(
                select(*(_MESSAGE.c[name] for name in StoredMessage.__dataclass_fields__))
                .where(_MESSAGE.c.id.in_(numbers))
                .order_by(_MESSAGE.c.id)
            )
            return [StoredMessage(*row) for row in rows]

    def next_due(self) -> datetime | None:
        """Return when the next message may be taken; None if none waits."""
        message = OutboxMessage
        when = func.min(func.coalesce(message.leased_until, message.due_at))
        with self._store.reading() as session:
            return session.scalar(select(when).where(_is_first()))

    def delivered(self, numbers: Sequence[int]) -> None:
        """Forget messages that have arrived."""
        with self._store.writing() as transaction:
            gone = delete(_MESSAGE).where(_MESSAGE.c.id.in_(numbers))
            transaction.connection.execute(gone)

    def failed(self, number: int, error: str, retry_at: datetime) -> None:
        """Let a message wait that did not arrive."""
        with self._store.writing() as transaction:
            transaction.connection.execute(
                update(_MESSAGE)
                .where(_MESSAGE.c.id == number)
                .values(
                    attempts=_MESSAGE.c.attempts + 1,
                    last_error=error[:1000],
                    due_at=retry_at,
                    # A lease that ends with the wait keeps later details from taking its place.
                    leased_until=retry_at,
                )
            )

    def given_up(self, number: int) -> None:
        """Forget a message that will not arrive."""
        self.delivered([number])

    def waiting(self) -> int:
        """Return how many messages wait."""
        with self._store.reading() as session:
            return session.scalar(select(func.count()).select_from(OutboxMessage)) or 0


def _is_first() -> ColumnElement[bool]:
    """Whether no earlier message waits for the same hook about the same task."""
    message, before = OutboxMessage, aliased(OutboxMessage)
    earlier = select(before.id).where(
        before.task_id == message.task_id,
        before.webhook_href == message.webhook_href,
        before.id < message.id,
    )
    return ~earlier.exists()
