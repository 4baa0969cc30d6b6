"""One timer thread for the process, which lives only while something is due.

Trackers need a timer when a final status came without its result, which is rare and short.
Functions run one after the other in that thread, so they must not block.
"""

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["CallLater", "Cancellable", "TimerThread", "call_later"]

_logger = logging.getLogger(__name__)


class Cancellable(Protocol):
    """A call that is due later."""

    def cancel(self) -> object:
        """Do not make the call, if it has not been made."""
        ...


CallLater = Callable[[float, Callable[[], None]], Cancellable]


class _Entry:
    """A function and the time at which it is due."""

    __slots__ = ("due", "function", "number", "owner")

    def __init__(
        self, owner: "TimerThread", due: float, number: int, function: Callable[[], None]
    ) -> None:
        self.owner = owner
        self.due = due
        self.number = number
        self.function: Callable[[], None] | None = function

    def __lt__(self, other: "_Entry") -> bool:
        return (self.due, self.number) < (other.due, other.number)

    def cancel(self) -> None:
        self.owner.forget(self)


class TimerThread:
    """Calls functions later, in one daemon thread that ends when nothing is left to do.

    Any thread may call any method.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._entries: list[_Entry] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def call_later(self, delay: float, function: Callable[[], None]) -> Cancellable:
        """Call `function` in `delay` seconds; what is returned can cancel that."""
        with self._changed:
            due = time.monotonic() + max(0.0, delay)
            entry = _Entry(self, due, next(self._numbers), function)
            heapq.heappush(self._entries, entry)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="milonga-tracking-timer", daemon=True
                )
                self._thread.start()
            else:
                self._changed.notify()
        return entry

    def forget(self, entry: _Entry) -> None:
        """Drop an entry; does nothing if it is over."""
        with self._changed:
            dropped, entry.function = entry.function, None
            while self._entries and self._entries[0].function is None:
                heapq.heappop(self._entries)
            self._changed.notify()
        del dropped  # outside the lock: it may be the last reference to somebody's object

    def _run(self) -> None:
        while True:
            function = self._next()
            if function is None:
                return
            try:
                function()
            except BaseException:
                _logger.exception("a timed call failed")
            del function

    def _next(self) -> Callable[[], None] | None:
        """Wait for what is due next; None, and the end of the thread, if nothing is."""
        with self._changed:
            while self._entries:
                entry = self._entries[0]
                left = entry.due - time.monotonic()
                if entry.function is not None and left > 0:
                    self._changed.wait(left)
                    continue
                heapq.heappop(self._entries)
                function, entry.function = entry.function, None
                if function is not None:
                    return function
            self._thread = None
            return None


_shared = TimerThread()
call_later = _shared.call_later

# A child of fork has none of its parent's threads, and maybe a lock that nobody will release.
os.register_at_fork(after_in_child=_shared._reset)  # noqa: SLF001 - same module
