"""Pushes attribute values from whichever thread has news, in order, without anybody waiting.

A thread that brings news while another is pushing leaves them with that one and goes on: so no
thread ever waits for another's push, which is what made pushing from worker threads deadlock
with Tango's own locks (cppTango 762 and 935).
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable

from milonga.lrc._table import Push

__all__ = ["Publisher"]

_log = logging.getLogger(__name__)


class Publisher:
    """Sends pushes one at a time, in the order in which they came.

    A value equal to the last one sent for its attribute is not sent again, and one that was
    overtaken by a newer version is dropped.

    Parameters
    ----------
    push : callable
        Sends (attribute name, value). May raise.
    retry : callable
        Called as ``retry(delay, function)`` when the device was too busy for a push.
    is_busy : callable
        Tells whether an exception of `push` means that trying again makes sense.
    """

    RETRY_DELAY = 0.05
    """Seconds before a push is tried again that found the device busy."""

    MAX_TRIES = 600
    """How often a push is tried before it is given up."""

    BATCHES_PER_TURN = 64
    """How many batches one thread pushes before it hands the rest to the retry thread."""

    CLOSE_WAIT = 1.0
    """Seconds to wait for a push under way, which may itself wait for who closes."""

    def __init__(
        self,
        push: Callable[[str, object], None],
        retry: Callable[[float, Callable[[], None]], object],
        is_busy: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        self._push = push
        self._retry = retry
        self._is_busy = is_busy
        self._queue: deque[deque[Push]] = deque()
        self._pushing = threading.Lock()
        self._last: dict[str, tuple[int, object]] = {}
        self._tries = 0
        self._closed = False
        self._sent = self._failed = 0

    def put(self, pushes: Iterable[Push]) -> None:
        """Send `pushes` after all that came before."""
        self.add(pushes)
        self.flush()

    def add(self, pushes: Iterable[Push]) -> None:
        """Put `pushes` after all that came before; whoever flushes next sends them."""
        self._queue.append(deque(pushes))

    def flush(self) -> None:
        """Send what was added, unless another thread is at it, which then sends that too."""
        self._drain()

    def close(self) -> None:
        """Send nothing any more. Returns once no push is under way, or after `CLOSE_WAIT`."""
        self._closed = True
        if self._pushing.acquire(timeout=self.CLOSE_WAIT):
            self._pushing.release()
        self._queue.clear()

    def statistics(self) -> dict[str, int]:
        """Return how many batches wait, and how many pushes were sent and given up."""
        return {"waiting": len(self._queue), "sent": self._sent, "failed": self._failed}

    def _drain(self) -> None:
        turns = self.BATCHES_PER_TURN
        while self._queue and not self._closed and self._pushing.acquire(blocking=False):
            try:
                while self._queue and turns and not self._closed:
                    if not self._send(self._queue[0]):
                        self._retry(self.RETRY_DELAY, self._drain)
                        return
                    self._queue.popleft()
                    turns -= 1
            finally:
                self._pushing.release()
            if not turns:
                self._retry(0.0, self._drain)
                return

    def _send(self, batch: deque[Push]) -> bool:
        """Send a batch; False if it has to be tried again from where it stopped."""
        while batch:
            push = batch[0]
            version, value = self._last.get(push.attribute, (-1, None))
            is_news = push.version is None or push.version >= version
            if is_news and push.value is None:
                self._last[push.attribute] = (push.version or 0, None)
            elif is_news and push.value != value:
                try:
                    self._push(push.attribute, push.value)
                except Exception as error:  # noqa: BLE001 - Tango raises what it likes
                    self._tries += 1
                    if self._is_busy(error) and self._tries < self.MAX_TRIES:
                        return False
                    self._failed += 1
                    _log.exception("could not push %s", push.attribute)
                else:
                    self._sent += 1
                    self._last[push.attribute] = (push.version or 0, push.value)
                self._tries = 0
            batch.popleft()
        return True
