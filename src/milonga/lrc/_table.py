"""All commands that a device knows, and what its attributes show of them.

A report changes the table and yields the pushes that it causes, in the order that clients of
ska-tango-base see (lrc-protocol 3.4). Nothing here talks to Tango, and nothing calls anybody.
"""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from milonga.control_model import TaskStatus, is_final
from milonga.lrc._record import CommandRecord, Origin
from milonga.lrc._wire import (
    FINISHED_KEPT,
    legal_text,
    new_command_id,
    parse_progress,
    to_json,
)

__all__ = ["LEGACY_RETENTION", "CommandTable", "Push", "Report"]

LEGACY_RETENTION = 10.0
"""Seconds for which the deprecated attributes go on listing a command that has ended."""

_ORDER = {
    TaskStatus.STAGING: 0,
    TaskStatus.QUEUED: 1,
    TaskStatus.IN_PROGRESS: 2,
}
_TABLES = ("lrcQueue", "lrcExecuting", "lrcFinished")


@dataclass(frozen=True, slots=True)
class Push:
    """A value for an attribute.

    Of two with versions, for one attribute, the higher is the newer, and the older is worth
    nothing once the newer is out. Without a version it is news, which must reach everybody.
    A value of None says that nobody listens, so that it was not made; it still is the newest.
    """

    attribute: str
    value: object
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one report caused: pushes before and after the command's own actions."""

    before: list[Push]
    after: list[Push]
    started: bool = False
    ended: bool = False


class CommandTable:
    """The commands of one device. Safe across threads.

    Parameters
    ----------
    capacity : int
        How many commands the deprecated attributes list at the most.
    max_executing : int
        How many commands run at the same time, Abort included; the attributes of those that run
        list no more, and `lrcExecuting` one more, as in ska-tango-base.
    clock : callable
        Monotonic time source in seconds.
    is_watched : callable
        Tells whether anybody listens to an attribute; must be quick and wait for nobody. It is
        asked after a change, so who begins to listen later reads what the change has made.
    """

    def __init__(
        self,
        capacity: int = 66,
        max_executing: int = 2,
        clock: Callable[[], float] = time.monotonic,
        is_watched: Callable[[str], bool] = lambda _attribute: True,
    ) -> None:
        self.capacity = capacity
        self.max_executing = max_executing
        self._clock = clock
        self._is_watched = is_watched
        self._lock = threading.Lock()
        self._version = 0
        self._waiting: OrderedDict[str, CommandRecord] = OrderedDict()
        self._running: OrderedDict[str, CommandRecord] = OrderedDict()
        self._ended: OrderedDict[str, CommandRecord] = OrderedDict()
        self._finished: deque[str] = deque(maxlen=FINISHED_KEPT)
        self._remembered = max(FINISHED_KEPT, capacity)
        self._entries: dict[str, str] = {}
        self._last_result: tuple[str, str] = ("", "")
        self._ignored = 0

    def open(
        self,
        name: str,
        origin: Origin | None = None,
        *,
        uid: str | None = None,
        submitted_time: str | None = None,
    ) -> tuple[str, list[Push]]:
        """Take up a command; return its id and what to push.

        `uid` and `submitted_time` are those of a command that was accepted before a restart.
        """
        record = CommandRecord(uid or new_command_id(name), name, origin or Origin())
        record.submitted_time = submitted_time or record.submitted_time
        with self._lock:
            self._waiting[record.uid] = record
            pushes = self._pushes(
                "longRunningCommandsInQueue",
                "longRunningCommandIDsInQueue",
                "longRunningCommandStatus",
            )
            pushes.append(self._event(record.uid, {"status": int(TaskStatus.STAGING)}))
        return record.uid, pushes

    def restore(self, records: Sequence[CommandRecord]) -> list[Push]:
        """Take up commands that had ended before a restart, oldest first; return what to push."""
        with self._lock:
            known = [record for record in records if record.uid not in self._ended]
            earlier = OrderedDict((record.uid, record) for record in known)
            self._ended = OrderedDict([*earlier.items(), *self._ended.items()])
            entries = [*(record.finished_entry() for record in known), *self._finished]
            self._finished = deque(entries, maxlen=FINISHED_KEPT)
            return self._pushes("lrcFinished") if known else []

    def discard(self, uid: str) -> list[Push]:
        """Forget a command that was refused before it was queued; return what to push."""
        with self._lock:
            if self._waiting.pop(uid, None) is None:
                return []
            self._entries.pop(uid, None)
            return self._pushes(
                "longRunningCommandsInQueue",
                "longRunningCommandIDsInQueue",
                "longRunningCommandStatus",
            )

    def report(
        self,
        uid: str,
        status: TaskStatus | None = None,
        progress: object = None,
        result: object = None,
        extend: float | None = None,
    ) -> Report | None:
        """Note what is reported of a command; return what to push, None if nothing changed.

        A command that has ended is not changed any more, and no status goes backwards. What it
        asks for by `extend` is added up, so that who hears of it twice, or not at all, is right.
        """
        progress = parse_progress(progress)
        more = extend if extend is not None and 0 < extend < math.inf else 0.0
        with self._lock:
            record = self._waiting.get(uid) or self._running.get(uid)
            if record is None:
                self._ignored += 1
                return None
            if status is not None and not is_final(status) and _goes_back(record.status, status):
                self._ignored += 1
                status = None
            if status is None and progress is None and result is None and not more:
                return None
            return self._apply(record, status, progress, result, more)

    def status_of(self, uid: str) -> TaskStatus:
        """Return the status of a command; NOT_FOUND for one that is not remembered."""
        with self._lock:
            record = self._waiting.get(uid) or self._running.get(uid) or self._ended.get(uid)
            return TaskStatus.NOT_FOUND if record is None else record.status

    def value(self, attribute: str) -> tuple[str, ...]:
        """Return what `attribute` shows now.

        Raises
        ------
        KeyError
            If no such attribute is made from this table.
        """
        if attribute == "_lrcEvent":
            return ()
        with self._lock:
            return self._value(attribute)

    def statistics(self) -> dict[str, int]:
        """Return how many commands wait, run and are remembered, and how many reports came late."""
        with self._lock:
            return {
                "queued": len(self._waiting),
                "executing": len(self._running),
                "remembered": len(self._ended),
                "ignored_reports": self._ignored,
            }

    def _apply(
        self,
        record: CommandRecord,
        status: TaskStatus | None,
        progress: object,
        result: object,
        more: float,
    ) -> Report:
        before: list[Push] = []
        news: dict[str, object] = {}
        if status is not None:
            news["status"] = int(status)
        if progress is not None:
            assert isinstance(progress, int | str)  # noqa: S101 - made by parse_progress
            record.progress = news["progress"] = progress
        if result is not None:
            text, record.result = _expressible(result)
            news["result"] = record.result
            self._last_result = (record.uid, text)
        if more:
            record.extended = news["extend"] = record.extended + more
        started, ended = self._move(record, status, keep_progress=progress is not None)
        if result is not None:
            before.append(Push("longRunningCommandResult", self._last_result))
        if progress is not None:
            before += self._pushes("longRunningCommandProgress")
        if status is not None:
            before += self._pushes("longRunningCommandStatus")
        if started or (ended and status is not TaskStatus.REJECTED):
            before += self._pushes("longRunningCommandInProgress")
        after = [self._event(record.uid, news), *self._pushes(*_TABLES)]
        return Report(before, after, started=started, ended=ended)

    def _move(
        self, record: CommandRecord, status: TaskStatus | None, *, keep_progress: bool
    ) -> tuple[bool, bool]:
        started = ended = False
        if status is not None:
            record.status = status
        if status is TaskStatus.IN_PROGRESS and record.started_time is None:
            started = True
            record.start()
            self._waiting.pop(record.uid, None)
            self._running[record.uid] = record
        elif status is not None and is_final(status):
            ended = True
            self._end(record, keep_progress=keep_progress)
        self._entries.pop(record.uid, None)
        return started, ended

    def _end(self, record: CommandRecord, *, keep_progress: bool) -> None:
        record.end(self._clock())
        if not keep_progress:
            record.progress = None
        self._waiting.pop(record.uid, None)
        self._running.pop(record.uid, None)
        self._ended[record.uid] = record
        while len(self._ended) > self._remembered:
            self._ended.popitem(last=False)
        self._finished.append(record.finished_entry())

    def _event(self, uid: str, news: dict[str, object]) -> Push:
        return Push("_lrcEvent", (uid, to_json(news)))

    def _pushes(self, *attributes: str) -> list[Push]:
        self._version += 1
        return [
            Push(name, self._value(name) if self._is_watched(name) else None, self._version)
            for name in attributes
        ]

    def _value(self, attribute: str) -> tuple[str, ...]:
        return _CONTENTS[attribute](self)

    def _listed(self) -> list[CommandRecord]:
        """Return what the deprecated attributes list: ended of late, running, waiting."""
        oldest = self._clock() - LEGACY_RETENTION
        room = self.capacity - len(self._running) - len(self._waiting)
        ended: list[CommandRecord] = []
        for record in reversed(self._ended.values()):
            if record.ended_at < oldest or len(ended) >= room:
                break
            ended.append(record)
        listed = [*reversed(ended), *self._running.values(), *self._waiting.values()]
        return listed[: self.capacity]

    def _shown(self, number: int) -> list[CommandRecord]:
        """Return the running commands that were the first to start.

        There may be more, as any number of Aborts may join one, and an attribute that has more
        values than places cannot be read at all.
        """
        return list(islice(self._running.values(), number))

    def _queue(self) -> tuple[str, ...]:
        return tuple(
            self._entry(record, CommandRecord.queue_entry)
            for record in self._waiting.values()
            if record.status is not TaskStatus.STAGING
        )

    def _executing(self) -> tuple[str, ...]:
        return tuple(
            self._entry(record, CommandRecord.executing_entry)
            for record in self._shown(self.max_executing + 1)
        )

    def _entry(self, record: CommandRecord, make: Callable[[CommandRecord], str]) -> str:
        """Return a command's entry, which is made only once after each of its changes."""
        entry = self._entries.get(record.uid)
        if entry is None:
            entry = self._entries[record.uid] = make(record)
        return entry

    def _names(self) -> tuple[str, ...]:
        return tuple(record.name for record in self._listed())

    def _ids(self) -> tuple[str, ...]:
        return tuple(record.uid for record in self._listed())

    def _statuses(self) -> tuple[str, ...]:
        return tuple(text for record in self._listed() for text in (record.uid, record.status.name))

    def _in_progress(self) -> tuple[str, ...]:
        return tuple(record.name for record in self._shown(self.max_executing))

    def _progresses(self) -> tuple[str, ...]:
        return tuple(
            text
            for record in self._shown(self.max_executing)
            if record.progress is not None
            for text in (record.uid, str(record.progress))
        )


_CONTENTS: dict[str, Callable[[CommandTable], tuple[str, ...]]] = {
    "lrcQueue": CommandTable._queue,  # noqa: SLF001
    "lrcExecuting": CommandTable._executing,  # noqa: SLF001
    "lrcFinished": lambda table: tuple(table._finished),  # noqa: SLF001
    "longRunningCommandsInQueue": CommandTable._names,  # noqa: SLF001
    "longRunningCommandIDsInQueue": CommandTable._ids,  # noqa: SLF001
    "longRunningCommandStatus": CommandTable._statuses,  # noqa: SLF001
    "longRunningCommandInProgress": CommandTable._in_progress,  # noqa: SLF001
    "longRunningCommandProgress": CommandTable._progresses,  # noqa: SLF001
    "longRunningCommandResult": lambda table: table._last_result,  # noqa: SLF001
}


def _goes_back(current: TaskStatus, proposed: TaskStatus) -> bool:
    return _ORDER.get(proposed, -1) <= _ORDER.get(current, -1)


def _expressible(result: object) -> tuple[str, object]:
    """Return the JSON text of `result`, and `result` or, where it has no JSON, its text."""
    text = to_json(result)
    if isinstance(result, str) or not text.startswith('"'):
        return text, result
    return text, legal_text(result)
