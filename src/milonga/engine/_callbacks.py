"""Threads for what users give us, so that no timer, device or event loop waits for it.

What may block for long runs beside what should not. All are daemons: work that does not end must
not keep the interpreter from ending, as the threads of the standard library's executor would.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from threading import Lock
from typing import Any, TypeVar

from milonga.engine._scheduler import scheduler
from milonga.engine._threads import Worker

__all__ = [
    "CallbackThreads",
    "DaemonExecutor",
    "blocking_threads",
    "callback_threads",
    "release_idle_threads",
]

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class CallbackThreads:
    """A few threads that are started when the others are busy, and end when there is no work.

    Any thread may call any method.

    Parameters
    ----------
    name : str
        Their names begin so.
    most : int, optional
        How many threads at most.

    Examples
    --------
    >>> import threading
    >>> called = threading.Event()
    >>> callback_threads.post(called.set)
    >>> called.wait(1.0)
    True
    """

    def __init__(self, name: str, most: int = 8) -> None:
        self._name = name
        self._most = most
        self._reset()

    def _reset(self) -> None:
        self._lock = Lock()
        self._workers: list[Worker] = []
        self._busy: dict[Worker, int] = {}
        self._numbers = count(1)

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call `function` in the thread that has least to do."""
        with self._lock:
            worker = min(self._workers, key=self._load, default=None)
            if worker is None or (self._load(worker) and len(self._workers) < self._most):
                worker = Worker(f"{self._name}-{next(self._numbers)}", linger=2.0)
                self._workers.append(worker)
            self._busy[worker] = self._load(worker) + 1
        worker.post(self._call, worker, function, arguments)

    async def call(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread and return what it returns; for an event loop."""
        future: Future[T] = Future()
        self.post(_work, future, function, (), {})
        return await asyncio.wrap_future(future)

    def _load(self, worker: Worker) -> int:
        return self._busy.get(worker, 0)

    def _call(
        self, worker: Worker, function: Callable[..., object], arguments: tuple[Any, ...]
    ) -> None:
        try:
            function(*arguments)
        except Exception:
            _logger.exception("callback %r failed", function)
        finally:
            with self._lock:
                self._busy[worker] -= 1

    def release(self, timeout: float = 1.0) -> bool:
        """End the threads that have nothing to do; return whether all have ended."""
        with self._lock:
            workers = [each for each in self._workers if not self._load(each)]
            busy = len(self._workers) - len(workers)
        ended = [each.release(timeout) for each in workers]
        return all(ended) and not busy


class DaemonExecutor(ThreadPoolExecutor):
    """An executor for an event loop, whose threads do not outlive the interpreter's end.

    Parameters
    ----------
    threads : CallbackThreads
        Do the work.
    """

    def __init__(self, threads: CallbackThreads) -> None:
        super().__init__(max_workers=1)  # which starts none; an event loop takes no other class
        self._daemons = threads

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Call a function in one of the threads."""
        future: Future[T] = Future()
        self._daemons.post(_work, future, fn, args, kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end by themselves."""


def _work(
    future: "Future[Any]",
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*arguments, **keywords)
    except BaseException as error:  # noqa: BLE001 - it is the answer
        future.set_exception(error)
    else:
        future.set_result(result)


callback_threads = CallbackThreads("milonga-engine-callbacks")
blocking_threads = CallbackThreads("milonga-engine-blocking", most=16)


def release_idle_threads() -> None:
    """End all threads of the process that are kept for callbacks and timers and have no work."""
    callback_threads.release()
    blocking_threads.release()
    scheduler.release()


os.register_at_fork(after_in_child=callback_threads._reset)  # noqa: SLF001 - same module
os.register_at_fork(after_in_child=blocking_threads._reset)  # noqa: SLF001 - same module
