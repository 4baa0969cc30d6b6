"""A queue of calls, made one after the other on a thread of their own.

Calls to a device that knows no protocol may take minutes, so they must not occupy a pool that
everybody shares; and a device serves one call at a time, so that a second thread would only wait
for the first. The same holds for methods that are steps of a device's commands.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial

import tango

__all__ = ["Lane"]

_log = logging.getLogger(__name__)


class Lane:
    """Runs calls in turn; its thread lives only as long as there are any. Safe across threads.

    The thread is a daemon: a call that hangs must not hold up the end of the process. What it
    runs looks whether the lane is closed while it waits.

    Parameters
    ----------
    name : str
        Name of the thread.
    """

    MAX_WAITING = 64
    """How many calls may wait for their turn."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._calls: deque[Callable[[], None]] = deque()
        self._running = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, call: Callable[[], None]) -> bool:
        """Make a call when its turn comes; tell whether there was room for it."""
        with self._lock:
            if self._closed.is_set() or len(self._calls) >= self.MAX_WAITING:
                return False
            # in the context of who asks, so that logs and traces know what the call belongs to
            self._calls.append(partial(copy_context().run, call))
            if self._running:
                return True
            self._running = True
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return True

    def wait_closed(self, timeout: float) -> bool:
        """Wait `timeout` seconds; tell whether the lane has been closed."""
        return self._closed.wait(timeout)

    def close(self) -> None:
        """Make no further call. Returns at once."""
        self._closed.set()
        with self._lock:
            self._calls.clear()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread, `timeout` seconds at the most; tell whether it came."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def statistics(self) -> dict[str, int]:
        """Return how many calls wait, and whether one is under way."""
        with self._lock:
            return {"calls_waiting": len(self._calls), "calls_running": int(self._running)}

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while (call := self._next()) is not None:
                try:
                    call()
                except Exception:  # noqa: BLE001 - the next call must not suffer
                    _log.exception("%s: a call failed in an unexpected way", self._name)

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if self._calls:
                return self._calls.popleft()
            self._running = False
            return None
