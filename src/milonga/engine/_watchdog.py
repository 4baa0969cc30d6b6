"""Tells when a plan blocks the event loop, and where.

The loop is shared, so a device that waits in it, instead of awaiting, stops every engine of the
process and every control call. Nothing can break that off, but it should not be a riddle.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from milonga.engine._scheduler import Scheduler, Timer

__all__ = ["LagStatistics", "LoopWatchdog", "watchdog_of"]

_logger = logging.getLogger("milonga.engine.watchdog")
_beats = Scheduler("milonga-engine-watchdog", linger=0.0)
PERIOD = 0.5
"""Seconds between two looks."""


@dataclass(frozen=True)
class LagStatistics:
    """How an event loop kept up: seconds, and how often it was blocked beyond the limit."""

    worst: float
    latest: float
    blocked: int


class LoopWatchdog:
    """Posts a call to an event loop now and then, and warns if it is not made.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop.
    thread : threading.Thread
        The thread that it runs in, whose stack goes into the warning.
    limit : float, optional
        Seconds that a call may be late.
    on_lag : callable, optional
        Gets the lag in seconds and the stack as text, once for each time that the loop is blocked.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: threading.Thread,
        limit: float = 1.0,
        on_lag: Callable[[float, str], None] | None = None,
    ) -> None:
        self.limit = limit
        self._loop = weakref.ref(loop)
        self._thread = thread
        self.on_lag = on_lag
        self._lock = threading.Lock()
        self._reasons: list[Callable[[], bool]] = []
        self._timer: Timer | None = None
        self._posted: float | None = None
        self._told = False
        self._worst = self._latest = 0.0
        self._blocked = 0

    def watch_while(self, reason: Callable[[], bool]) -> None:
        """Look as long as `reason` says so."""
        with self._lock:
            if reason not in self._reasons:
                self._reasons.append(reason)
            if self._timer is None:
                self._look_later()

    def _look_later(self) -> None:
        self._timer = _beats.call_later(min(PERIOD, self.limit), self._look)

    def rest(self) -> None:
        """End the thread now if there is no reason to look."""
        with self._lock:
            self._reasons = [each for each in self._reasons if each()]
            if self._reasons or self._timer is None:
                return
            self._timer.cancel()
            self._timer = None
        _beats.release()

    def statistics(self) -> LagStatistics:
        """Return how the loop kept up so far."""
        with self._lock:
            return LagStatistics(self._worst, self._latest, self._blocked)

    def _look(self) -> None:
        with self._lock:
            self._reasons = [each for each in self._reasons if each()]
            if not self._reasons:
                self._timer = None
                return
            self._look_later()
        if self._posted is None:
            self._post()
        elif not self._told and time.monotonic() - self._posted > self.limit:
            self._told = True
            self._tell(time.monotonic() - self._posted)

    def _post(self) -> None:
        loop = self._loop()
        if loop is None:
            return
        self._posted = time.monotonic()
        self._told = False
        try:
            loop.call_soon_threadsafe(self._arrived, self._posted)
        except RuntimeError:
            self._posted = None  # the loop is closed

    def _arrived(self, posted: float) -> None:
        lag = time.monotonic() - posted
        with self._lock:
            self._latest = lag
            self._worst = max(self._worst, lag)
            self._blocked += lag > self.limit
        self._posted = None

    def _tell(self, lag: float) -> None:
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - no other way
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "no stack"
        _logger.warning(
            "the event loop of all engines has been blocked for %.1f s, and with it every plan; "
            "something waits in it instead of awaiting:\n%s",
            lag,
            stack,
        )
        if self.on_lag is not None:
            self.on_lag(lag, stack)


_watchdogs: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWatchdog]" = (
    weakref.WeakKeyDictionary()
)


def watchdog_of(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> LoopWatchdog:
    """Return the one watchdog of an event loop."""
    watchdog = _watchdogs.get(loop)
    return watchdog or _watchdogs.setdefault(loop, LoopWatchdog(loop, thread))
