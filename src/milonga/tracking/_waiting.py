"""Waiting for one of two events without burning the processor."""

import time
from threading import Event
from typing import Protocol

__all__ = ["SettableEvent", "wait_for_either"]

_LOOK_EVERY = 0.009  # seconds; ten milliseconds are promised for the foreign event


class SettableEvent(Protocol):
    """The part of `threading.Event` that ends a wait."""

    def is_set(self) -> bool:
        """Tell whether the wait is over."""
        ...


def wait_for_either(
    done: Event, other: SettableEvent | None = None, timeout: float | None = None
) -> bool:
    """Return True as soon as `done` is set; False if `other` is set, or `timeout` seconds pass.

    `done` wakes the waiter at once. A foreign event cannot, so it is looked at every 9 ms.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while not done.is_set():
        if other is not None and other.is_set():
            return done.is_set()
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        if other is not None:
            left = _LOOK_EVERY if left is None else min(left, _LOOK_EVERY)
        done.wait(left)
    return True
