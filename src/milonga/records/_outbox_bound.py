"""How many messages to one hook may wait."""

import logging
import threading

from sqlalchemy import Connection, case, delete, func, select

from milonga.records._subscription_model import OutboxMessage, TaskEvent
from milonga.records._tables import table_of

__all__ = ["OutboxBound"]

_logger = logging.getLogger(__name__)
_MESSAGE = table_of(OutboxMessage)
_WORTH = case(
    {TaskEvent.DETAILS.value: 0, TaskEvent.STEPS.value: 1}, value=_MESSAGE.c.event, else_=2
)


class OutboxBound:
    """Drops messages to a hook for which too many wait. Safe across threads.

    They are counted only once in a while, as to count them in each transaction would make each
    transaction slower the more of them wait; so there may be a tenth more than the bound.

    Parameters
    ----------
    per_hook : int
        Messages that may wait for one hook. Beyond it details go first, then steps, then the ends
        of tasks, and of each the oldest.
    """

    def __init__(self, per_hook: int) -> None:
        self._per_hook = per_hook
        self._lock = threading.Lock()
        self._since = 0
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many messages were dropped."""
        return self._dropped

    def keep(self, connection: Connection, posted: int) -> None:
        """Drop what is too much, in the transaction in which messages were posted."""
        with self._lock:
            self._since += posted
            if self._since * 10 < self._per_hook:
                return
            self._since = 0
        count = func.count()
        crowded = select(_MESSAGE.c.webhook_href, count).group_by(_MESSAGE.c.webhook_href)
        for href, waiting in connection.execute(crowded.having(count > self._per_hook)).all():
            self._drop(connection, href, waiting - self._per_hook)

    def _drop(self, connection: Connection, href: str, excess: int) -> None:
        least = (
            select(_MESSAGE.c.id)
            .where(_MESSAGE.c.webhook_href == href)
            .order_by(_WORTH, _MESSAGE.c.id)
            .limit(excess)
        )
        connection.execute(delete(_MESSAGE).where(_MESSAGE.c.id.in_(least)))
        with self._lock:
            self._dropped += excess
        _logger.warning(
            "webhook %s: %d message(s) dropped, as more than %d wait for it",
            *(href, excess, self._per_hook),
        )
