"""The one thread that watches the processes of all analyses; it lives while there are any.

It waits for what they say, for their ends and for their deadlines at once, and does not look
around in between: an analysis that says nothing costs nothing (D-16).
"""

import functools
import logging
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["AnalysisLoop", "Job", "shared_loop"]

_logger = logging.getLogger(__name__)


class Job(Protocol):
    """What the loop watches; every method is called in its thread."""

    def begin(self, selector: selectors.BaseSelector) -> None:
        """Start, and register files with a callable as data."""

    def due(self) -> float | None:
        """Return the monotonic time at which `look` is to be called; None: whenever."""

    def look(self, now: float) -> None:
        """Do what time has made due."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to watch."""


class AnalysisLoop:
    """Watches jobs in one thread; `add` and `call` may be called from any thread."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Callable[[], None]] = deque()
        self._jobs: list[Job] = []
        self._thread: threading.Thread | None = None
        self._wake: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None

    def add(self, job: Job) -> None:
        """Begin a job."""
        self.call(lambda: self._begin(job))

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the loop's thread."""
        with self._lock:
            self._calls.append(function)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="milonga-analyses", daemon=True
                )
                self._thread.start()
            elif self._wake is not None:
                os.eventfd_write(self._wake, 1)

    # The thread

    def _run(self) -> None:
        with selectors.DefaultSelector() as self._selector:
            wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            with self._lock:
                self._wake = wake
            self._selector.register(
                wake, selectors.EVENT_READ, functools.partial(os.eventfd_read, wake)
            )
            try:
                while self._turn():
                    pass
            finally:
                os.close(wake)

    def _turn(self) -> bool:
        """Do what is there to do, then wait for more; False ends the thread."""
        while self._calls:
            _guarded(self._calls.popleft())
        now = time.monotonic()
        for job in self._jobs:
            if (due := job.due()) is not None and due <= now:
                _guarded(lambda job=job: job.look(now))  # type: ignore[misc]
        self._jobs = [job for job in self._jobs if not job.is_over]
        with self._lock:
            if not self._jobs and not self._calls:
                self._thread = self._wake = None
                return False
            waiting = bool(self._calls)
        for key, _ in self._selector.select(0 if waiting else self._patience()):
            _guarded(key.data)
        return True

    def _patience(self) -> float | None:
        dues = [due for job in self._jobs if (due := job.due()) is not None]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _begin(self, job: Job) -> None:
        self._jobs.append(job)
        job.begin(self._selector)


def _guarded(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:
        _logger.exception("watching an analysis failed")


shared_loop = AnalysisLoop()

# A child of fork has none of its parent's threads, and maybe a lock that nobody will release.
os.register_at_fork(after_in_child=shared_loop._reset)  # noqa: SLF001 - same module
