"""How a tracker tells its listener: in order, once, and outside every lock."""

import logging
from collections.abc import Callable, Mapping
from threading import Event, Lock
from typing import Any

from milonga.tracking._coercion import attempt

__all__ = ["CompletedCallback", "Outbox", "log_safely"]

CompletedCallback = Callable[..., object]


def log_safely(
    logger: logging.Logger, level: int, text: str, *args: object, fault: BaseException | None = None
) -> None:
    """Log, and survive a logger that raises."""
    attempt(lambda _: logger.log(level, text, *args, exc_info=fault), None, None)


class Outbox:
    """Payloads on their way to one callback.

    The thread that finds the outbox idle delivers; others leave their payload and go on. So there
    is never more than one call at a time, the order is that of posting, and progress that has not
    been told is replaced by what is newer. `post_progress`, `post_final` and `replace_callback` are
    called with the tracker's lock held, `deliver` without.

    Parameters
    ----------
    lock : Lock
        The tracker's lock.
    done : Event
        Set when the final payload has been delivered, or there was nobody to deliver it to.
    callback : callable or None
        The listener.
    logger : logging.Logger
        Where a listener that raises is reported.
    """

    __slots__ = (
        "_busy",
        "_callback",
        "_done",
        "_final",
        "_lock",
        "_logger",
        "_progress",
        "closed",
        "coalesced",
        "delivered",
        "error",
        "failures",
    )

    def __init__(
        self, lock: Lock, done: Event, callback: CompletedCallback | None, logger: logging.Logger
    ) -> None:
        self._lock = lock
        self._done = done
        self._callback = callback
        self._logger = logger
        self._progress: Mapping[str, Any] | None = None
        self._final: Mapping[str, Any] | None = None
        self._busy = False
        self.closed = False  # the final payload has been delivered
        self.delivered = 0
        self.coalesced = 0
        self.failures = 0
        self.error: BaseException | None = None

    def post_progress(self, payload: Mapping[str, Any]) -> None:
        """Leave a notification, in the place of one that has not been told yet."""
        self.coalesced += self._progress is not None
        self._progress = payload

    def post_final(self, payload: Mapping[str, Any]) -> None:
        """Leave the last payload; progress that has not been told yet is dropped."""
        self.coalesced += self._progress is not None
        self._progress = None
        self._final = payload

    def replace_callback(self, callback: CompletedCallback | None) -> CompletedCallback | None:
        """Tell somebody else from now on, and return who was told before."""
        before = self._callback
        if not self.closed:
            self._callback = callback
        return before

    def deliver(self) -> None:
        """Make all calls that are due, unless another thread is doing so."""
        while (due := self._take()) is not None:
            callback, payload, is_final = due
            interrupt: KeyboardInterrupt | None = None
            try:
                callback(**payload)
                error: BaseException | None = None
            except BaseException as fault:  # noqa: BLE001 - also SystemExit is the listener's affair
                error = fault
                interrupt = fault if isinstance(fault, KeyboardInterrupt) else None
            self._settle(error, is_final)
            # A listener's owner must be free to die as soon as its last call has been made.
            del callback, payload, due
            if interrupt is not None:
                raise interrupt

    def _take(self) -> tuple[CompletedCallback, Mapping[str, Any], bool] | None:
        nobody = False
        with self._lock:
            if self._busy or self.closed:
                return None
            callback = self._callback
            payload = self._final if self._final is not None else self._progress
            is_final = self._final is not None
            if payload is None:
                return None
            if callback is None:
                self._progress = None
                nobody = is_final
            else:
                self._busy = True
                if is_final:
                    self._callback = self._final = None
                    self.closed = True
                else:
                    self._progress = None
        if nobody:
            self._done.set()  # the payload is kept for a callback that may still be set
        return None if callback is None else (callback, payload, is_final)

    def _settle(self, error: BaseException | None, is_final: bool) -> None:
        with self._lock:
            self._busy = False
            self.delivered += 1
            if error is not None:
                self.failures += 1
                self.error = error
        if error is not None:
            log_safely(self._logger, logging.ERROR, "callback failed", fault=error)
            # The frames in a traceback would keep the listener's objects alive.
            error.__traceback__ = None
        if is_final:
            self._done.set()
