"""Time limits that a client gives with a command."""

import threading
import time
from collections.abc import Callable
from typing import Any

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.lrc import Job, Reporter, Timer

__all__ = ["set_limit"]


def set_limit(
    job: Job, seconds: float, call_later: Callable[[float, Callable[[], None]], Timer]
) -> None:
    """Allow a job so many seconds from its start; after them it has failed, and is aborted.

    What the job asks for besides is added: its client hears of it, and has a limit of its own.

    Parameters
    ----------
    job : Job
        What is to be limited. One that knows limits keeps this one by itself.
    seconds : float
        How long it may run.
    call_later : callable
        ``call_later(delay, function)``, with a delay in seconds.
    """
    if job.limit is not None:
        job.limit(seconds)
        return
    job.time_limit = seconds
    start = job.start

    def start_limited(report: Reporter) -> None:
        limit = _Limit(seconds, call_later)

        def expire() -> None:
            if job.is_ending:  # it was given up for another reason
                return
            text = f"timed out after {limit.seconds:.4g} s"
            report(status=TaskStatus.FAILED, result=(ResultCode.FAILED, text))
            job.abort()

        limit.begin(expire)

        def reported(**news: Any) -> None:
            limit.extend(news.get("extend") or 0.0)
            status = news.get("status")
            if status is not None and is_final(status):
                limit.cancel()
            report(**news)

        start(reported)

    job.start = start_limited


class _Limit:
    """Seconds that may pass, and may become more while they do. Safe across threads."""

    def __init__(
        self, seconds: float, call_later: Callable[[float, Callable[[], None]], Timer]
    ) -> None:
        self.seconds = seconds
        self._call_later = call_later
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._over = False
        self._expire: Callable[[], None] | None = None
        self._timer: Timer | None = None

    def begin(self, expire: Callable[[], None]) -> None:
        """Call `expire` when they have passed."""
        self._expire = expire
        self._timer = self._call_later(self.seconds, self._look)

    def extend(self, seconds: float) -> None:
        """Allow so many seconds more."""
        with self._lock:
            self.seconds += max(0.0, seconds)

    def cancel(self) -> None:
        """Let them pass."""
        with self._lock:
            self._over = True
            timer = self._timer
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        with self._lock:
            left = self._began + self.seconds - time.monotonic()
            if self._over:
                return
            if left > 0:
                self._timer = self._call_later(left, self._look)
        if left <= 0 and self._expire is not None:
            self._expire()
