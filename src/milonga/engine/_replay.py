"""The messages that a plan repeats when it is resumed, and no more of them than a limit."""

from collections import deque
from collections.abc import Callable, Iterable

from bluesky.utils import Msg

__all__ = ["ReplayCache"]


class ReplayCache(deque[Msg]):
    """Messages since the last checkpoint.

    A plan that makes no checkpoint would fill the memory, and take as long to resume as it has
    run. When there are too many, the owner is asked to make a checkpoint.

    Parameters
    ----------
    messages : iterable
        The first messages.
    limit : int
        How many to keep.
    full : callable
        Makes a checkpoint; returns whether that was possible.
    """

    def __init__(
        self, messages: Iterable[Msg] = (), limit: int = 10_000, full: Callable[[], bool] = bool
    ) -> None:
        super().__init__(messages)
        self._limit = limit
        self._full = full

    def append(self, message: Msg) -> None:
        """Add a message, which is about to be worked on."""
        if len(self) >= self._limit and self._full():
            self.clear()
        super().append(message)
