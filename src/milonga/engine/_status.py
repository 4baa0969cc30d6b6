"""The state of an operation that takes time: started now, finished or failed later.

No status has a thread of its own. Deadlines and settle times are entries of one timer thread, and
callbacks run in threads that all statuses share.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from milonga.engine._callbacks import callback_threads
from milonga.engine._scheduler import Timer, scheduler
from milonga.engine._status_bridges import StatusBridges, logger
from milonga.errors import (
    InvalidState,
    StatusTimeoutError,
    UnknownStatusFailure,
    WaitTimeoutError,
)

__all__ = ["Status"]

_OPEN, _SETTLING, _LATE, _DONE, _OVERDUE, _CLOSED = range(6)
"""What was reported: nothing; the end, in time or too late; all; nothing in time; late as well."""

_HOOKS = ("_settled", "_handle_failure")


class Status(StatusBridges):
    """Tells when an operation is done, and how it ended.

    The operation's side calls `set_finished` or `set_exception`, once. The rule of the times: the
    report must come within `timeout`, and a report in time has `settle_time` on top of that. Any
    thread may call any method.

    Parameters
    ----------
    timeout : float, optional
        Seconds in which the report must come; None waits for ever.
    settle_time : float, optional
        Seconds from `set_finished` to done.
    name : str, optional
        What the operation is called in texts.
    obj : object, optional
        The device that works; its `name` is used in texts.
    fail_during_settle : bool, optional
        Whether `set_exception` is allowed after `set_finished`, until the status is done.

    Examples
    --------
    >>> status = Status(timeout=10.0, name="home")
    >>> status.set_finished()
    >>> status.wait(timeout=1.0), status.success
    (None, True)
    """

    def __init__(
        self,
        *,
        timeout: float | None = None,
        settle_time: float | None = 0,
        name: str | None = None,
        obj: object = None,
        fail_during_settle: bool = False,
    ) -> None:
        self._timeout = None if timeout is None else float(timeout)
        self._settle_time = 0.0 if settle_time is None else float(settle_time)
        self._name = name
        self.obj = obj
        self._fail_during_settle = fail_during_settle
        self._lock = threading.Lock()
        self._state = _OPEN
        self._is_done = False
        self._exception: BaseException | None = None
        self._traceback: Any = None
        self._waiters: threading.Event | None = None
        self._callbacks: deque[Callable[[Self], None]] = deque()
        self._timer: Timer | None = None
        self._started = time.monotonic()
        self._ended: float | None = None
        self._init_bridges()
        if self._timeout is not None:
            self._timer = scheduler.call_later(self._timeout + self._settle_time, self._overdue)

    # What it says

    @property
    def name(self) -> str:
        """What the operation is called."""
        return self._name or str(getattr(self.obj, "name", "") or "")

    @property
    def timeout(self) -> float | None:
        """Seconds in which the report must come."""
        return self._timeout

    @property
    def settle_time(self) -> float:
        """Seconds from the report to done."""
        return self._settle_time

    @property
    def done(self) -> bool:
        """Whether the operation has ended, and settled."""
        return self._is_done

    @property
    def success(self) -> bool:
        """Whether the operation is done and did not fail."""
        return self._is_done and self._exception is None

    @property
    def callbacks(self) -> deque[Callable[[Self], None]]:
        """The callbacks that have not been called, a copy."""
        with self._lock:
            return self._callbacks.copy()

    @property
    def elapsed(self) -> float:
        """Seconds from the start to the end, or to now."""
        return (self._ended or time.monotonic()) - self._started

    def __repr__(self) -> str:
        kind = type(self).__name__
        name = f" {self.name!r}" if self.name else ""
        limit = "" if self._timeout is None else f", timeout {self._timeout:g} s"
        return f"<{kind}{name}: {self._described()} after {self.elapsed:.3f} s{limit}>"

    def _described(self) -> str:
        if not self._is_done:
            return "settling" if self._state == _SETTLING else "pending"
        return "done" if self._exception is None else f"failed, {self._exception!r}"

    # What the operation reports

    def set_finished(self) -> None:
        """Report that the operation ended well.

        Raises
        ------
        InvalidState
            If an end was reported before.
        """
        with self._lock:
            if self._reported():
                return
            late = self._is_past(0.0)
            self._state = _LATE if late else _SETTLING
            wait = self._settle_time if not late else None
            old = self._timer
            if wait:
                self._timer = scheduler.call_later(wait, self._settle)
        if wait is None:
            if self._settle_time <= 0:
                self._overdue()
            return
        if old is not None:
            old.cancel()
        if not wait:
            self._settle()

    def set_exception(self, exc: BaseException | type[BaseException]) -> None:
        """Report that the operation failed; it is done at once.

        Parameters
        ----------
        exc : BaseException or a class of exceptions
            Why. A class is instantiated without arguments.

        Raises
        ------
        ValueError
            If it is not an exception, or one by which a status reports time that is over.
        InvalidState
            If an end was reported before.
        """
        error = _as_exception(exc)
        with self._lock:
            settling = self._state == _SETTLING and not self._is_done
            if not (self._fail_during_settle and settling) and self._reported():
                return
            overdue = not settling and self._is_past(self._settle_time)
            if overdue:
                self._state = _LATE
        if overdue:  # the timer is late, the rule is not
            self._overdue()
        else:
            self._end(error, _DONE)

    def _is_past(self, margin: float) -> bool:
        """Whether it is later than `margin` seconds after the timeout."""
        if self._timeout is None:
            return False
        return time.monotonic() - self._started > self._timeout + margin

    def _reported(self) -> bool:
        """Whether the report comes after the timeout, once; raises if it is a second one."""
        if self._state == _OVERDUE:
            self._state = _CLOSED
            return True
        if self._state != _OPEN:
            raise InvalidState(f"{self!r} got a second report of its end")
        return False

    # How it ends

    def _settle(self) -> None:
        self._end(None, _DONE)

    def _overdue(self) -> None:
        name = self.name or type(self).__name__
        text = f"{name} was not reported done within {self._timeout:g} s"
        if self._state == _LATE:
            text += ", only later"
        if self._end(StatusTimeoutError(text), _OVERDUE):
            logger.warning("%r: %s", self, text)

    def _end(self, error: BaseException | None, state: int) -> bool:
        """Fix the outcome, unless there is one."""
        with self._lock:
            if self._ended is not None:
                return False
            self._ended = time.monotonic()
            # After a late report the timeout was still to come: it has been answered already.
            self._state = _CLOSED if state == _OVERDUE and self._state == _LATE else state
            self._exception = error
            self._traceback = None if error is None else error.__traceback__
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._has_hooks():
            callback_threads.post(self._complete)
        else:
            self._complete()
        return True

    def _has_hooks(self) -> bool:
        kind = type(self)
        return any(getattr(kind, name) is not getattr(Status, name) for name in _HOOKS)

    def _complete(self) -> None:
        self._guarded(self._settled)
        with self._lock:
            self._is_done = True
            waiters = self._waiters
            callbacks, self._callbacks = self._callbacks, deque()
        if waiters is not None:
            waiters.set()
        if self._exception is not None and self._has_hooks():
            self._guarded(self._handle_failure)
        if callbacks:
            callback_threads.post(self._call_all, callbacks)

    def _settled(self) -> None:
        """Do what a subclass wants done just before the status is done."""

    def _handle_failure(self) -> None:
        """Do what a subclass wants done when the operation failed."""

    def _call_all(self, callbacks: deque[Callable[[Self], None]]) -> None:
        for callback in callbacks:
            self._guarded(callback, self)

    def _guarded(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception:  # noqa: BLE001 - it is logged
            logger.exception("%r: %r failed", self, function)

    # What waits for it

    def add_callback(self, callback: Callable[[Self], None]) -> None:
        """Call `callback` with the status when it is done; at once, and here, if it is done."""
        with self._lock:
            if not self._is_done:
                self._callbacks.append(callback)
                return
        try:
            callback(self)
        except Exception:
            logger.exception("%r: %r failed", self, callback)
            raise

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the operation is done.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; None waits for ever.

        Raises
        ------
        WaitTimeoutError
            If it is not done by then; the operation goes on.
        Exception
            What the operation failed with.
        """
        error = self.exception(timeout)
        if error is not None:
            # From where it was reported, however many have raised it since.
            raise error.with_traceback(self._traceback)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait until the operation is done, and return what it failed with, or None.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; None waits for ever.

        Raises
        ------
        WaitTimeoutError
            If it is not done by then; the operation goes on.
        """
        if not self._is_done and not self._wait_event().wait(timeout):
            raise WaitTimeoutError(f"{self!r} was not done after {timeout:g} s of waiting")
        return self._exception

    def _wait_event(self) -> threading.Event:
        with self._lock:
            if self._waiters is None:
                self._waiters = threading.Event()
                if self._is_done:
                    self._waiters.set()
            return self._waiters


def _as_exception(exc: object) -> BaseException:
    error = exc
    if isinstance(exc, type) and issubclass(exc, BaseException):
        try:
            error = exc()
        except Exception as reason:
            text = f"found {exc!r}, which needs arguments; expected an exception"
            raise ValueError(text) from reason
    if not isinstance(error, BaseException):
        raise ValueError(f"found {exc!r}, expected an exception")  # noqa: TRY004 - a row says so
    if isinstance(error, (StatusTimeoutError, WaitTimeoutError)):
        text = f"found {exc!r}, which only a status itself may raise; expected any other exception"
        raise ValueError(text)  # noqa: TRY004 - a row says so
    return error


def failure_of(status: Any) -> BaseException:
    """Return why any kind of status failed."""
    error = status.exception(timeout=0.0)
    return error if isinstance(error, BaseException) else UnknownStatusFailure(f"{status!r} failed")
