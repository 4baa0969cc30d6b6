"""The event loop that all engines of a process share, in one thread.

bluesky's engine makes a loop and a thread of its own, for ever; ours takes a lease. The first
lease starts the thread and the last one ends it. pytango binds itself to the first loop that
awaits a proxy, so a server that opens and closes engines holds one lease for its whole life.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Self

from bluesky.run_engine import _ensure_event_loop_running  # noqa: PLC2701 - no other way

from milonga.engine._callbacks import DaemonExecutor, blocking_threads
from milonga.engine._loop_answers import ask, check_answers

__all__ = ["LoopLease", "hold_event_loop", "lease_of"]

_logger = logging.getLogger(__name__)

Surroundings = Callable[[], AbstractContextManager[object]]


class _LoopThread:
    """An event loop and the thread that it runs in.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop, optional
        A loop that does not run yet; it is not closed at the end. Default: a new one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop or asyncio.new_event_loop()
        self._ours = loop is None
        self._stack = ExitStack()
        self._entered: list[Surroundings] = []
        if self._ours:
            self.loop.set_default_executor(DaemonExecutor(blocking_threads))
        self.thread = threading.Thread(target=self._run, name="bluesky-run-engine", daemon=True)
        self.thread.start()
        ask(self.loop, lambda: None)
        _make_known(self.loop, self.thread)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        with self._stack:
            self.loop.run_forever()
            self._drop_tasks()
        if self._ours:
            self.loop.close()

    def _drop_tasks(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            gathered = asyncio.gather(*tasks, return_exceptions=True)
            try:
                self.loop.run_until_complete(asyncio.wait_for(gathered, 1.0))
            except (TimeoutError, RuntimeError):
                _logger.warning("tasks would not end with their event loop: %s", tasks)

    def surround(self, surroundings: Surroundings) -> None:
        """Enter a context in the thread, once; it is left when the thread ends."""
        if surroundings not in self._entered:
            self._entered.append(surroundings)
            self.loop.call_soon_threadsafe(lambda: self._stack.enter_context(surroundings()))

    def stop(self, timeout: float) -> bool:
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:  # closed already
            return True
        if threading.current_thread() is self.thread:
            return False
        self.thread.join(max(0.0, timeout))
        return not self.thread.is_alive()


def _make_known(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Tell bluesky which thread the loop runs in, so that it does not start another."""
    _ensure_event_loop_running.loop_to_thread[loop] = thread  # type: ignore[attr-defined]


class LoopLease:
    """The right to use an event loop's thread until `release`.

    Examples
    --------
    >>> with hold_event_loop() as lease:
    ...     lease.loop.is_running()
    True
    """

    def __init__(self, owner: "_LoopThread | None", loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._owner = owner
        self._lock = threading.Lock()

    def check_answers(self) -> None:
        """See that the loop is not blocked.

        Raises
        ------
        EngineBlockedError
            If it is, with the place where it waits.
        """
        check_answers(self.loop, _ensure_event_loop_running.loop_to_thread[self.loop])  # type: ignore[attr-defined]

    def surround(self, surroundings: Surroundings) -> None:
        """Have the loop's thread enter a context, such as `tango.EnsureOmniThread`."""
        if self._owner is not None:
            self._owner.surround(surroundings)

    def release(self, timeout: float = 0.0) -> bool:
        """Give the lease back; idempotent.

        Returns
        -------
        bool
            False if it was the last lease and the thread did not end within `timeout` seconds.
        """
        with self._lock:
            owner, self._owner = self._owner, None
        return owner is None or _give_back(owner, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release(timeout=5.0)


class _Leases:
    """Who uses the loop that is shared; guarded by a lock that nothing waits under."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.shared: _LoopThread | None = None
        self.count = 0


_leases = _Leases()
os.register_at_fork(after_in_child=_leases.reset)


def hold_event_loop() -> LoopLease:
    """Keep the event loop of all engines running until the lease is released."""
    with _leases.lock:
        if _leases.shared is None or not _leases.shared.thread.is_alive():
            _leases.shared = _LoopThread()
            _leases.count = 0
        _leases.count += 1
        return LoopLease(_leases.shared, _leases.shared.loop)


def lease_of(loop: asyncio.AbstractEventLoop | None) -> LoopLease:
    """Return a lease of the shared loop, or of the one that a caller brought along."""
    _refuse_own_thread(loop or (_leases.shared.loop if _leases.shared is not None else None))
    if loop is None:
        return hold_event_loop()
    if not loop.is_running():
        return LoopLease(_LoopThread(loop), loop)
    ask(loop, lambda: _make_known(loop, threading.current_thread()))
    return LoopLease(None, loop)


def _refuse_own_thread(loop: asyncio.AbstractEventLoop | None) -> None:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return
    if running is loop:
        raise RuntimeError("found an engine being made in the thread of its own event loop")


def _give_back(owner: _LoopThread, timeout: float) -> bool:
    with _leases.lock:
        if owner is _leases.shared:
            _leases.count -= 1
            if _leases.count:
                return True
            _leases.shared = None
    return owner.stop(timeout)
