"""One thread that runs what it is given, now or later, in order.

Each Milonga device has one, which starts and ends its commands; the links to child devices share
one per process. What runs on it must be short: nothing here waits for a network.
"""

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

__all__ = ["Scheduler", "Timer"]

_log = logging.getLogger(__name__)


class Timer:
    """A call that will be made later, unless it is cancelled."""

    __slots__ = ("_function", "cancelled", "when")

    def __init__(self, when: float, function: Callable[[], None]) -> None:
        self.when = when
        self.cancelled = False
        self._function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Make the call not happen; harmless once it has."""
        self.cancelled = True
        self._function = None  # a cancelled deadline must not keep its command alive

    def __call__(self) -> None:
        function = self._function
        if function is not None:
            function()


class Scheduler:
    """A named thread with a queue and a clock.

    All methods may be called from any thread. A call that raises is logged and does not stop the
    thread.

    Parameters
    ----------
    name : str
        Name of the thread.
    surroundings : callable, optional
        Makes a context manager that the thread lives in.
    """

    def __init__(
        self,
        name: str,
        surroundings: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._surroundings = surroundings
        self._condition = threading.Condition()
        self._ready: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Run `function` on the thread, after what was given before. Ignored once closed."""
        with self._condition:
            if self._closed:
                return
            self._ready.append(function)
            self._condition.notify()

    def call_later(self, delay: float, function: Callable[[], None]) -> Timer:
        """Run `function` on the thread, `delay` seconds from now. Ignored once closed."""
        timer = Timer(time.monotonic() + max(0.0, delay), function)
        with self._condition:
            if not self._closed:
                heapq.heappush(self._timers, (timer.when, next(self._order), timer))
                if self._timers[0][2] is timer:
                    self._condition.notify()
        return timer

    def close(self, timeout: float = 5.0) -> bool:
        """Drop what waits, let what runs end, and end the thread.

        Parameters
        ----------
        timeout : float
            Seconds to wait for the thread.

        Returns
        -------
        bool
            Whether the thread has ended; True when called on the thread itself.
        """
        with self._condition:
            self._closed = True
            self._ready.clear()
            self._timers.clear()
            self._condition.notify()
        if threading.current_thread() is self._thread:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def statistics(self) -> dict[str, int]:
        """Return how many calls wait for the thread, and how many for their time."""
        with self._condition:
            return {"ready": len(self._ready), "timers": len(self._timers)}

    def _run(self) -> None:
        with self._surroundings():
            while (function := self._next()) is not None:
                try:
                    function()
                except Exception:  # noqa: BLE001 - the thread outlives what runs on it
                    _log.exception("%s: a scheduled call failed", self._thread.name)

    def _next(self) -> Callable[[], None] | None:
        with self._condition:
            while not self._closed:
                self._collect_due()
                if self._ready:
                    return self._ready.popleft()
                self._condition.wait(self._until_next_timer())
        return None

    def _collect_due(self) -> None:
        now = time.monotonic()
        while self._timers and (self._timers[0][2].cancelled or self._timers[0][0] <= now):
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                self._ready.append(timer)

    def _until_next_timer(self) -> float | None:
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())
