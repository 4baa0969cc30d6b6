"""What a writer knows of the tasks that it has made and that are not over.

It spares a query in each transaction. It is only a guess, since others may end or delete a task:
what is written by it is checked, and written again with a query if the guess was wrong.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from milonga.records._words import RecordStatus

__all__ = ["KnownTask", "KnownTasks", "WrongGuessError"]


class WrongGuessError(Exception):
    """A task is not as the writer knew it."""


@dataclass(slots=True)
class KnownTask:
    """What a batch knows of a task that is in the store, and what it changes of it."""

    id: int
    uid: str
    root_id: int | None
    started_at: datetime
    status: RecordStatus | None
    may_wait: bool = True
    """Whether it may wait at a step."""
    changes: dict[str, Any] = field(default_factory=dict)

    def unchanged(self) -> "KnownTask":
        """Return the same with no changes."""
        return KnownTask(
            self.id, self.uid, self.root_id, self.started_at, self.status, self.may_wait
        )


class KnownTasks:
    """The tasks that a writer knows, the least recently used forgotten first.

    To be used by the thread that writes.
    """

    MOST = 10_000
    """How many are kept."""

    def __init__(self) -> None:
        self._by_uid: OrderedDict[str, KnownTask] = OrderedDict()
        self._by_number: dict[int, KnownTask] = {}

    def __len__(self) -> int:
        return len(self._by_uid)

    def find(self, uid: str) -> KnownTask | None:
        """Return a task by its name, if it is known."""
        known = self._by_uid.get(uid)
        return None if known is None else known.unchanged()

    def find_number(self, number: int) -> KnownTask | None:
        """Return a task by its number, if it is known."""
        known = self._by_number.get(number)
        return None if known is None else known.unchanged()

    def learn(self, tasks: Iterable[KnownTask]) -> None:
        """Take what was committed: keep tasks that go on, forget those that are over."""
        for task in tasks:
            if task.status is not None:
                self._forget(task.uid)
                continue
            self._by_uid[task.uid] = self._by_number[task.id] = task.unchanged()
            self._by_uid.move_to_end(task.uid)
        while len(self._by_uid) > self.MOST:
            self._forget(next(iter(self._by_uid)))

    def forget(self) -> None:
        """Know nothing any more."""
        self._by_uid.clear()
        self._by_number.clear()

    def _forget(self, uid: str) -> None:
        known = self._by_uid.pop(uid, None)
        if known is not None:
            del self._by_number[known.id]
