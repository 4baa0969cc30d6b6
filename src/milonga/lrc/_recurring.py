"""Something that may wait for the network, done again and again, never twice at a time."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from milonga.lrc._network import Network
    from milonga.lrc._scheduler import Timer

__all__ = ["Recurring"]


class Recurring:
    """A call made on the network's threads, one at a time. Safe across threads.

    Parameters
    ----------
    network : Network
        Lends the threads.
    function : callable
        What to do. Returns the seconds until it is to be done again; None to wait for `wake`.
    in_background : bool, optional
        Whether it only looks how a device is; see `Network.run`.
    """

    def __init__(
        self,
        network: "Network",
        function: Callable[[], float | None],
        *,
        in_background: bool = False,
    ) -> None:
        self._network = network
        self._function = function
        self._in_background = in_background
        self._lock = threading.Lock()
        self._running = False
        self._again = False
        self._stopped = False
        self._timer: Timer | None = None

    def wake(self) -> None:
        """Make the call now; once more if one is under way. Returns at once."""
        with self._lock:
            if self._stopped:
                return
            if self._running:
                self._again = True
                return
            self._running = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._network.run(self._run, in_background=self._in_background) is None:
            with self._lock:
                self._running = False

    def stop(self) -> None:
        """Make no further call. Returns at once."""
        with self._lock:
            self._stopped = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _run(self) -> None:
        delay = None
        try:
            delay = self._function()
        finally:
            with self._lock:
                self._running = False
                again, self._again = self._again, False
                if not again and not self._stopped and delay is not None:
                    self._timer = self._network.call_later(delay, self.wake)
            if again:
                self.wake()
