"""One thread of the process that makes calls when they are due.

Statuses have deadlines and settle times, the watchdog has a beat. What is called runs in that
thread, one after the other, so it is ours and short; what users gave runs elsewhere.
"""

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable

__all__ = ["Scheduler", "Timer", "scheduler"]

_logger = logging.getLogger(__name__)
_FEW = 64  # cancelled timers that are not worth a clean-up


class Timer:
    """A call that is due at a time; `cancel` makes it not happen."""

    __slots__ = ("_owner", "due", "function", "number")

    def __init__(
        self, owner: "Scheduler", due: float, number: int, function: Callable[[], object]
    ) -> None:
        self._owner = owner
        self.due = due
        self.number = number
        self.function: Callable[[], object] | None = function

    def __lt__(self, other: "Timer") -> bool:
        return (self.due, self.number) < (other.due, other.number)

    def cancel(self) -> None:
        """Drop the call; harmless when it has been made."""
        self._owner.forget(self)


class Scheduler:
    """Calls functions later, in a daemon thread that ends when nothing is due any more.

    Any thread may call any method.

    Parameters
    ----------
    name : str
        Name of the thread.
    linger : float, optional
        Seconds for which the thread stays when nothing is due.

    Examples
    --------
    >>> import threading
    >>> rang = threading.Event()
    >>> _ = scheduler.call_later(0.0, rang.set)
    >>> rang.wait(1.0)
    True
    """

    def __init__(self, name: str, *, linger: float = 2.0) -> None:
        self.name = name
        self._linger = linger
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._timers: list[Timer] = []
        self._dead = 0
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._ending = False

    @property
    def pending(self) -> int:
        """How many calls are due later."""
        return len(self._timers) - self._dead

    def call_later(self, delay: float, function: Callable[[], object]) -> Timer:
        """Call `function` in `delay` seconds; what is returned can cancel that."""
        with self._changed:
            timer = Timer(self, time.monotonic() + delay, next(self._numbers), function)
            heapq.heappush(self._timers, timer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
            elif self._timers[0] is timer:
                self._changed.notify()
        return timer

    def forget(self, timer: Timer) -> None:
        """Drop a call; does nothing if it has been made."""
        with self._changed:
            dropped, timer.function = timer.function, None
            if dropped is not None:
                self._dead += 1
                # Deadlines are long and operations short: without this the heap would only grow.
                if self._dead > _FEW and self._dead > len(self._timers) // 2:
                    self._timers = [each for each in self._timers if each.function is not None]
                    heapq.heapify(self._timers)
                    self._dead = 0
        del dropped  # outside the lock: it may be the last reference to somebody's object

    def release(self, timeout: float = 1.0) -> bool:
        """End the thread if nothing is due, without waiting for `linger`."""
        with self._changed:
            thread = self._thread
            if thread is None or self.pending or thread is threading.current_thread():
                return thread is None
            self._ending = True
            self._changed.notify()
        thread.join(timeout)
        return not thread.is_alive()

    def _run(self) -> None:
        while (function := self._next()) is not None:
            try:
                function()
            except BaseException:
                _logger.exception("a call of thread %s failed", self.name)
            del function

    def _next(self) -> Callable[[], object] | None:
        """Wait for what is due next; None, and the end of the thread, if nothing is."""
        with self._changed:
            waited = False
            while True:
                self._drop_dead()
                if not self._timers:
                    if waited or self._ending:
                        self._thread = None
                        self._ending = False
                        return None
                    waited = not self._changed.wait(self._linger)
                    continue
                left = self._timers[0].due - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                timer = heapq.heappop(self._timers)
                function, timer.function = timer.function, None
                return function

    def _drop_dead(self) -> None:
        while self._timers and self._timers[0].function is None:
            heapq.heappop(self._timers)
            self._dead -= 1


scheduler = Scheduler("milonga-engine-timer")

# A child of fork has none of its parent's threads, and maybe a lock that nobody will release.
os.register_at_fork(after_in_child=scheduler._reset)  # noqa: SLF001 - same module
