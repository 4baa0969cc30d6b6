"""The process's links to other devices, and the threads that serve them.

There is one set of subscriptions per device and process, however many commands are on their way
and however many of our own devices command it.

Calls that may wait for a network run on a bounded pool, because a device that hangs holds its
caller for three to nine seconds whatever its timeout; cppTango's own callback thread would hold
up the answers of all other devices meanwhile.
"""

import atexit
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import tango

from milonga.lrc._scheduler import Scheduler, Timer

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = ["MAX_CALLERS", "Network", "network"]

_log = logging.getLogger(__name__)

MAX_CALLERS = 64
"""How many calls to other devices a process has under way at the most."""


class Network:
    """All links of a process. Safe across threads."""

    DISCONNECT_WAIT = 2.0
    """Seconds to wait for the end of a link's subscriptions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[str, tuple[Link, int]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._scheduler: Scheduler | None = None
        self._closed = False

    def acquire(self, trl: str, make: "Callable[[str], Link]") -> "Link":
        """Return the link to `trl`, made if there is none; to be given back by `release`."""
        key = trl.lower()
        with self._lock:
            link, users = self._links.get(key) or (make(trl), 0)
            self._links[key] = (link, users + 1)
            return link

    def release(self, link: "Link") -> None:
        """Give a link back; the last one to do so ends its subscriptions."""
        key = link.trl.lower()
        with self._lock:
            known, users = self._links.get(key, (None, 0))
            if known is not link:
                return
            if users > 1:
                self._links[key] = (link, users - 1)
                return
            del self._links[key]
        # On another thread, and not waited for without end: the caller may hold a lock of Tango's
        # that an event callback waits for. Waited for at all, because Tango crashes if its server
        # ends while a subscription does.
        ended = self.run(link.disconnect)
        if ended is not None:
            wait([ended], timeout=self.DISCONNECT_WAIT)

    def run(self, function: Callable[[], None]) -> "Future[None] | None":
        """Run `function`, which may wait for a network, on a thread of the pool."""
        with self._lock:
            if self._closed:
                return None
            if self._pool is None:
                self._pool = ThreadPoolExecutor(
                    MAX_CALLERS, thread_name_prefix="milonga-call", initializer=_enter_omni_thread
                )
            pool = self._pool
        try:
            return pool.submit(_logged, function)
        except RuntimeError:  # the interpreter is shutting down
            return None

    def call_later(self, delay: float, function: Callable[[], None]) -> Timer:
        """Run `function`, which must be short, `delay` seconds from now."""
        with self._lock:
            if self._scheduler is None:
                self._scheduler = Scheduler("milonga-links", tango.EnsureOmniThread)
            scheduler = self._scheduler
        return scheduler.call_later(delay, function)

    def close(self) -> None:
        """End all subscriptions and threads: a subscription alive at exit aborts the process."""
        with self._lock:
            self._closed = True
            links = [link for link, _ in self._links.values()]
            self._links.clear()
            pool, self._pool = self._pool, None
            scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.close()
        for link in links:
            link.disconnect()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def statistics(self) -> dict[str, int]:
        """Return how many links there are."""
        with self._lock:
            return {"links": len(self._links)}


_network = Network()
atexit.register(_network.close)


def network() -> Network:
    """Return the network of this process."""
    return _network


def _enter_omni_thread() -> None:
    # Left open on purpose: it lives as long as the pool's thread.
    tango.EnsureOmniThread().__enter__()


def _logged(function: Callable[[], None]) -> None:
    try:
        function()
    except Exception:  # noqa: BLE001 - the pool would swallow it
        _log.exception("a call to another device failed in an unexpected way")
