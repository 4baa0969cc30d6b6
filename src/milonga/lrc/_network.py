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
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

import tango

from milonga.lrc._leaving import leave_without_waiting
from milonga.lrc._scheduler import Scheduler, Timer

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = ["MAX_CALLERS", "MAX_LOOKERS", "Network", "network"]

_log = logging.getLogger(__name__)

MAX_CALLERS = 64
"""How many calls to other devices a process has under way at the most."""

MAX_LOOKERS = 64
"""How many looks at other devices a process has under way at the most.

They have threads of their own, so that devices that hang hold up no commands.
"""


class Network:
    """All links of a process. Safe across threads."""

    DISCONNECT_WAIT = 2.0
    """Seconds to wait for the end of a link's subscriptions."""

    CLOSE_WAIT = 5.0
    """Seconds that the end of the process may wait for connections that are being made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[str, tuple[Link, int]] = {}
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._scheduler: Scheduler | None = None
        self._closed = False
        self._abandoned_until = 0.0

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
        link.prepare_close()
        # On another thread, and not waited for without end: the caller may hold a lock of Tango's
        # that an event callback waits for. Waited for at all, because Tango crashes if its server
        # ends while a subscription does.
        ended = self.run(link.close)
        if ended is not None:
            wait([ended], timeout=self.DISCONNECT_WAIT)

    def run(
        self, function: Callable[[], None], *, in_background: bool = False
    ) -> "Future[None] | None":
        """Run `function`, which may wait for a network, on a thread of a pool.

        Parameters
        ----------
        function : callable
            What to run.
        in_background : bool, optional
            Whether it only looks how a device is, or what has become of its commands, which must
            not hold up commands.

        Returns
        -------
        Future or None
            Its end; None if the process is shutting down, and it is not run.
        """
        if in_background:
            return self._run(function, *_LOOKERS)
        return self._run(_in_this_context(function), *_CALLERS)

    def run_abort(self, function: Callable[[], None]) -> "Future[None] | None":
        """Run `function`, which asks a device to end something; calls that hang hold it up not."""
        return self._run(_in_this_context(function), *_ABORTERS)

    def _run(self, function: Callable[[], None], name: str, size: int) -> "Future[None] | None":
        with self._lock:
            if self._closed:
                return None
            if name not in self._pools:
                self._pools[name] = ThreadPoolExecutor(
                    size, thread_name_prefix=name, initializer=_enter_omni_thread
                )
            pool = self._pools[name]
        try:
            return pool.submit(_logged, function)
        except RuntimeError:  # the interpreter is shutting down
            return None

    def call_later(self, delay: float, function: Callable[[], None]) -> Timer:
        """Run `function`, which must be short, `delay` seconds from now. Ignored once closed."""
        with self._lock:
            if self._closed:  # a thread that were made now, nobody would end
                return Timer(time.monotonic(), function)
            if self._scheduler is None:
                self._scheduler = Scheduler("milonga-links", tango.EnsureOmniThread)
            scheduler = self._scheduler
        return scheduler.call_later(delay, function)

    def abandon(self, until: float) -> None:
        """Take note that a call has been given up that may be under way until that time."""
        with self._lock:
            self._abandoned_until = max(self._abandoned_until, until)

    def close(self) -> None:
        """End all subscriptions and threads: a subscription alive at exit aborts the process."""
        with self._lock:
            self._closed = True
            links = [link for link, _ in self._links.values()]
            self._links.clear()
            pools, self._pools = self._pools, {}
            scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.close()
        for link in links:
            link.prepare_close()
        deadline = time.monotonic() + self.CLOSE_WAIT
        for link in links:
            link.close(timeout=deadline - time.monotonic())
        for pool in pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        if time.monotonic() < self._abandoned_until:
            leave_without_waiting()

    def statistics(self) -> dict[str, int]:
        """Return how many links there are."""
        with self._lock:
            return {"links": len(self._links)}


_CALLERS = ("milonga-call", MAX_CALLERS)
_LOOKERS = ("milonga-look", MAX_LOOKERS)
_ABORTERS = ("milonga-abort", MAX_CALLERS)

_network = Network()
atexit.register(_network.close)


def network() -> Network:
    """Return the network of this process."""
    return _network


def _in_this_context(function: Callable[[], None]) -> Callable[[], None]:
    """Have logs and traces know what the call belongs to."""
    return partial(copy_context().run, function)


def _enter_omni_thread() -> None:
    # Left open on purpose: it lives as long as the pool's thread.
    tango.EnsureOmniThread().__enter__()


def _logged(function: Callable[[], None]) -> None:
    try:
        function()
    except Exception:  # noqa: BLE001 - the pool would swallow it
        _log.exception("a call to another device failed in an unexpected way")
