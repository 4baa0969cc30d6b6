"""Events that get lost on their way, come twice, late, or in the wrong order."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

from milonga.testing._faults import EventFaults

__all__ = ["UnreliableEvents"]

Send = Callable[[], None]

HELD = 0.2
"""Seconds after which an event that was to come later is sent although none followed it."""


class UnreliableEvents:
    """Sends events as badly as it is told, and counts what it did. Safe across threads.

    Parameters
    ----------
    call_later : callable
        ``call_later(delay, function)`` with a delay in seconds.
    faults : EventFaults
        What is to happen.

    Examples
    --------
    >>> events = UnreliableEvents(lambda delay, function: None, EventFaults(double=1.0))
    >>> events.send(lambda: print("news"))
    news
    news
    >>> events.counts["doubled"], events.counts["sent"]
    (1, 2)
    """

    def __init__(
        self, call_later: Callable[[float, Send], object], faults: EventFaults | None = None
    ) -> None:
        self._call_later = call_later
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._held: list[Send] = []
        self._faults = EventFaults()
        self._random = random.Random(0)  # noqa: S311 - no secret
        self.change(faults or EventFaults())

    def change(self, faults: EventFaults) -> None:
        """Do otherwise from now on, beginning with the seed; what was counted is forgotten."""
        with self._lock:
            self._faults = faults
            self._random = random.Random(faults.seed)  # noqa: S311 - no secret
            self._counts.clear()

    @property
    def counts(self) -> dict[str, int]:
        """How many events there were (``pushed``), what happened to them, and how many ``sent``."""
        names = ("pushed", "dropped", "doubled", "delayed", "reordered", "sent")
        with self._lock:
            return {name: self._counts[name] for name in names}

    def send(self, send: Send) -> None:
        """Send an event, or do with it what the faults say."""
        with self._lock:
            self._counts["pushed"] += 1
            fate = self._fate()
            self._counts[fate] += bool(fate)
            held, self._held = self._held, []
            if fate == "reordered":
                self._held.append(send)
            delay = self._random.uniform(0.1, 1.0) * self._faults.delay_seconds
        if fate == "delayed":
            self._call_later(delay, partial(self._send, send))
        elif fate == "reordered":
            self._call_later(HELD, self._release)
        elif fate != "dropped":
            for _ in range(2 if fate == "doubled" else 1):
                self._send(send)
        for earlier in held:
            self._send(earlier)

    def _fate(self) -> str:
        drawn, faults = self._random.random(), self._faults
        shares = {
            "dropped": faults.drop,
            "doubled": faults.double,
            "delayed": faults.delay,
            "reordered": faults.reorder,
        }
        for fate, share in shares.items():
            if drawn < share:
                return fate
            drawn -= share
        return ""

    def _release(self) -> None:
        with self._lock:
            held, self._held = self._held, []
        for send in held:
            self._send(send)

    def _send(self, send: Send) -> None:
        with self._lock:
            self._counts["sent"] += 1
        send()
