"""The messages to hooks that wait in the store, for whoever delivers them.

Messages to one hook about one task leave in their order: while the first waits, so do those after
it. A message that is being delivered is leased, so that two deliverers on one store do not send
the same at the same time; a deliverer that dies lets its leases run out.

Servers that share a store may have different secrets and lists of hosts, so each delivers the
messages about its own tasks, and those of servers that are gone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select, true, update
from sqlalchemy.orm import aliased

from milonga.records._owner_model import RecordOwner
from milonga.records._store import RecordStore
from milonga.records._subscription_model import OutboxMessage
from milonga.records._tables import table_of

__all__ = ["StoredMessage", "WebhookOutbox"]

_MESSAGE = table_of(OutboxMessage)
_COLUMNS = [
    _MESSAGE.c[name]
    for name in (
        *("id", "webhook_href", "task_href", "uid"),
        *("event", "status", "created_at", "attempts"),
    )
]


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
    is_own : bool
        Whether it is about a task of the server that delivers, or of nobody.
    """

    id: int
    webhook_href: str
    task_href: str
    uid: str
    event: str
    status: str
    created_at: datetime
    attempts: int
    is_own: bool


class WebhookOutbox:
    """The waiting messages of a store; any thread may call any method.

    Parameters
    ----------
    store : RecordStore
        The store.
    lease : float, optional
        Seconds for which a message belongs to who took it.
    owner : str, optional
        The server that delivers. It takes the messages about its own tasks and those of nobody;
        without it, all.
    signs : bool, optional
        Whether it signs what it sends; if not, it takes no messages of servers that do.
    silent_for : float, optional
        Seconds without a heartbeat after which another server counts as gone, so that its messages
        are taken.
    """

    def __init__(
        self,
        store: RecordStore,
        lease: float = 60.0,
        *,
        owner: str | None = None,
        signs: bool = False,
        silent_for: float = 60.0,
    ) -> None:
        self._store = store
        self._lease = timedelta(seconds=lease)
        self._signs = signs
        self._silent_for = timedelta(seconds=silent_for)
        of_nobody = or_(_MESSAGE.c.owner.is_(None), _MESSAGE.c.owner == "")
        self._is_own = true() if owner is None else or_(of_nobody, _MESSAGE.c.owner == owner)

    def take(
        self, limit: int, *, only: Collection[str] | None = None, without: Collection[str] = ()
    ) -> list[StoredMessage]:
        """Lease the messages that are due and first in their order.

        Parameters
        ----------
        limit : int
            How many, at most.
        only : collection of str, optional
            To these hooks, those first that were tried least: what a hook never takes must not
            keep it from being asked to take another.
        without : collection of str, optional
            To none of these hooks.
        """
        now, message = self._store.clock(), OutboxMessage
        free = or_(message.leased_until.is_(None), message.leased_until <= now)
        order = [message.id] if only is None else [message.attempts, message.id]
        due = (
            select(message.id)
            .where(message.due_at <= now, free, _is_first(), self._is_mine(now))
            .where(*_is_to(only, without))
            .order_by(*order)
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
                select(*_COLUMNS, self._is_own.label("is_own"))
                .where(_MESSAGE.c.id.in_(numbers))
                .order_by(_MESSAGE.c.id)
            )
            return [StoredMessage(**row) for row in rows.mappings()]

    def next_due(self, *, without: Collection[str] = ()) -> datetime | None:
        """Return when the next message may be taken, but to these hooks; None if none waits."""
        message = OutboxMessage
        when = func.min(func.coalesce(message.leased_until, message.due_at))
        with self._store.reading() as session:
            mine = self._is_mine(self._store.clock())
            of_these = _is_to(None, without)
            return session.scalar(select(when).where(_is_first(), mine, *of_these))

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

    def expire(self, href: str, before: datetime) -> int:
        """Forget the messages to a hook that are as old as that; return how many there were."""
        old = (OutboxMessage.webhook_href == href, OutboxMessage.created_at <= before)
        mine = self._is_mine(self._store.clock())
        with self._store.writing() as transaction:
            return transaction.connection.execute(delete(_MESSAGE).where(*old, mine)).rowcount

    def waiting(self) -> int:
        """Return how many messages wait."""
        with self._store.reading() as session:
            return session.scalar(select(func.count()).select_from(OutboxMessage)) or 0

    def _is_mine(self, now: datetime) -> ColumnElement[bool]:
        """Whether it is for this server to deliver: its own, or one of a server that is gone."""
        living = select(RecordOwner.name).where(RecordOwner.name == _MESSAGE.c.owner)
        heard_of = RecordOwner.heartbeat_at >= now - self._silent_for
        keeps_it = heard_of if self._signs else or_(heard_of, RecordOwner.signs)
        return or_(self._is_own, ~living.where(keeps_it).exists())


def _is_to(only: Collection[str] | None, without: Collection[str]) -> list[ColumnElement[bool]]:
    """Whether a message is to one of these hooks, and to none of those."""
    href = _MESSAGE.c.webhook_href
    wanted: list[ColumnElement[bool]] = [] if only is None else [href.in_(only)]
    return [*wanted, href.not_in(without)] if without else wanted


def _is_first() -> ColumnElement[bool]:
    """Whether no earlier message waits for the same hook about the same task."""
    message, before = OutboxMessage, aliased(OutboxMessage)
    earlier = select(before.id).where(
        before.task_id == message.task_id,
        before.webhook_href == message.webhook_href,
        before.id < message.id,
    )
    return ~earlier.exists()
