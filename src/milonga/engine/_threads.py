"""Threads that do one thing after the other, and end when nothing is left to do.

A worker is a daemon: a plan that never ends must not keep the interpreter from ending.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakSet

__all__ = ["Worker"]

_logger = logging.getLogger(__name__)
_workers: "WeakSet[Worker]" = WeakSet()


class Worker:
    """Calls what it is given, in order, in one thread that it starts when there is work.

    Any thread may call any method.

    Parameters
    ----------
    name : str
        Name of the thread.
    linger : float, optional
        Seconds for which the thread stays when there is nothing to do.
    surroundings : callable, optional
        Makes a context manager that the thread lives in, such as `tango.EnsureOmniThread`.

    Examples
    --------
    >>> worker, seen = Worker("example"), []
    >>> worker.post(seen.append, 1)
    >>> worker.close(timeout=1.0), seen
    (True, [1])
    """

    def __init__(
        self,
        name: str,
        *,
        linger: float = 5.0,
        surroundings: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.name = name
        self.failed = 0
        self._linger = linger
        self._surroundings = surroundings
        self._reset()
        _workers.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._closed = False

    @property
    def depth(self) -> int:
        """How many calls wait."""
        return len(self._calls)

    @property
    def is_current(self) -> bool:
        """Whether the caller is the worker's own thread."""
        return self._thread is threading.current_thread()

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call `function` in the thread; what comes after `close` is called in the caller's."""
        with self._changed:
            closed = self._closed
            if not closed:
                self._calls.append((function, arguments))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                    self._thread.start()
                else:
                    self._changed.notify()
        if closed:
            self._call(function, arguments)

    def close(self, timeout: float) -> bool:
        """Do what is left and end the thread; return whether it ended within `timeout` seconds."""
        with self._changed:
            self._closed = True
        return self._end(timeout)

    def release(self, timeout: float = 1.0) -> bool:
        """End the thread for now, without waiting for `linger`; it comes back with new work."""
        return self._end(timeout)

    def _end(self, timeout: float) -> bool:
        with self._changed:
            thread = self._thread
            self._ending = True
            self._changed.notify()
        if thread is None or thread is threading.current_thread():
            return thread is None
        thread.join(max(0.0, timeout))
        return not thread.is_alive()

    def _run(self) -> None:
        with self._surroundings():
            while (call := self._next()) is not None:
                self._call(*call)
                del call

    def _next(self) -> tuple[Callable[..., object], tuple[Any, ...]] | None:
        """Wait for the next call; None, and the end of the thread, if none comes."""
        with self._changed:
            if not self._calls and not self._ending:
                self._changed.wait_for(lambda: self._calls or self._ending, self._linger)
            if self._calls:
                return self._calls.popleft()
            self._thread = None
            self._ending = self._closed
            return None

    def _call(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        try:
            function(*arguments)
        except BaseException:
            self.failed += 1
            _logger.exception("thread %s: %r failed", self.name, function)


def _forget_threads() -> None:
    # A child of fork has none of its parent's threads, and maybe a lock that nobody releases.
    for worker in list(_workers):
        worker._reset()  # noqa: SLF001 - same module


os.register_at_fork(after_in_child=_forget_threads)
