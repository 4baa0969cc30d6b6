"""Whether a thread still does what it is given."""

import threading
import time
from collections.abc import Callable

__all__ = ["Pulse"]


class Pulse:
    """Feels the pulse of a thread that runs what it is given. Safe across threads.

    No thread of its own watches: who asks gives the other thread something to do, and waits a
    moment for it. If it is not done, that is how long the thread has been stuck at the next
    question.

    Parameters
    ----------
    call_soon : callable
        Gives the thread a function to run; returns at once.
    clock : callable, optional
        Monotonic time in seconds.
    """

    PATIENCE = 0.2
    """Seconds that a question waits for the thread."""

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._beat = threading.Event()

    def lag(self) -> float:
        """Return for how many seconds the thread has not done what it was given; 0 if it has."""
        with self._lock:
            first = self._asked_at is None
            if self._asked_at is None:
                self._asked_at = self._clock()
                self._beat.clear()
            asked_at = self._asked_at
        if first:
            self._call_soon(self._note)
            self._beat.wait(self.PATIENCE)
        return 0.0 if self._beat.is_set() else max(0.0, self._clock() - asked_at)

    def _note(self) -> None:
        with self._lock:
            self._asked_at = None
        self._beat.set()
