"""One attribute of another device, and those who want to know its value."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import tango

from milonga.lrc._reply import describe
from milonga.lrc._values import plain_value

__all__ = ["Sighting", "Watch", "WatchedAttribute"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is known of an attribute of another device at one moment.

    Parameters
    ----------
    device, attribute : str
        Names.
    value : object
        Plain value; states and enumerations by name. None if it is not known.
    connected : bool
        Whether the device answers.
    reason : str
        Why the value is not known; empty if it is.
    """

    device: str
    attribute: str
    value: object = None
    connected: bool = True
    reason: str = ""


class Watch:
    """Somebody's wish to know an attribute's value, until it is closed."""

    def __init__(
        self,
        watched: "WatchedAttribute",
        callback: Callable[[Sighting], None],
        period: float,
    ) -> None:
        self._watched = watched
        self.period = period
        self._callback: Callable[[Sighting], None] | None = callback

    @property
    def sighting(self) -> Sighting | None:
        """What is known now; None if nothing has been heard yet."""
        return self._watched.latest

    def close(self) -> None:
        """Be told nothing more; idempotent, returns at once."""
        self._callback = None
        self._watched.remove(self)

    def tell(self, sighting: Sighting) -> None:
        """Pass on what is new. Never raises."""
        callback = self._callback
        if callback is not None:
            try:
                callback(sighting)
            except Exception:  # noqa: BLE001 - the event thread belongs to all devices
                _log.exception("a callback for %s/%s failed", sighting.device, sighting.attribute)


class WatchedAttribute:
    """An attribute, its last value, and its watchers. Safe across threads.

    Watchers are called in order, one at a time, and never under the lock.
    """

    QUEUE_LIMIT = 10_000
    """How many news may wait for watchers that are slow; the oldest go first."""

    def __init__(self, device: str, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._watches: list[Watch] = []
        self._news: deque[tuple[Watch, Sighting]] = deque(maxlen=self.QUEUE_LIMIT)
        self._telling = False
        self._blank = Sighting(device, name)
        self._latest: Sighting | None = None
        self._when = 0.0
        self._labels: tuple[str, ...] = ()
        self.is_attached = False
        self.is_polled = False

    @property
    def latest(self) -> Sighting | None:
        """What is known now."""
        return self._latest

    @property
    def is_needed(self) -> bool:
        """Whether anybody watches."""
        return bool(self._watches)

    @property
    def period(self) -> float:
        """Seconds between reads that the most eager watcher wants."""
        return min((watch.period for watch in list(self._watches)), default=60.0)

    def add(self, callback: Callable[[Sighting], None], period: float) -> Watch:
        """Add a watcher; what is known already is queued for it, to be told by `tell`."""
        watch = Watch(self, callback, period)
        with self._lock:
            self._watches.append(watch)
            if self._latest is not None:
                self._news.append((watch, self._latest))
        return watch

    def remove(self, watch: Watch) -> None:
        """Remove a watcher."""
        with self._lock:
            if watch in self._watches:
                self._watches.remove(watch)

    def attaching(self, labels: tuple[str, ...]) -> None:
        """Take note that events may come, and what an enumeration's values are called."""
        self._labels = labels
        self.is_attached, self.is_polled = True, False

    def sends_no_events(self) -> None:
        """Take note that the value must be read."""
        self.is_polled = True

    def detached(self) -> None:
        """Take note that the subscription has ended."""
        self.is_attached = False

    def missing(self) -> None:
        """Take note that the device has no such attribute."""
        self.is_attached = False
        self._note(replace(self._blank, reason=f"the device has no attribute {self.name}"), 0.0)

    def lost(self, reason: str) -> None:
        """Take note that the device does not answer."""
        self._note(replace(self._blank, connected=False, reason=reason), None)

    def take(self, value: Any) -> None:
        """Take a `tango.DeviceAttribute`, of an event or a read, unless a newer one is known."""
        when = value.time.totime()
        if value.has_failed:
            reason = describe(tango.DevFailed(*value.get_err_stack()))
            sighting = replace(self._blank, reason=f"{self.name} cannot be read: {reason}")
        elif value.is_empty or value.quality is tango.AttrQuality.ATTR_INVALID:
            sighting = replace(self._blank, reason=f"{self.name} has no valid value")
        else:
            sighting = replace(self._blank, value=plain_value(value.value, self._labels))
        self._note(sighting, when)

    def tell(self) -> None:
        """Tell the watchers what waits for them, unless another thread is doing so."""
        while True:
            with self._lock:
                if self._telling or not self._news:
                    return
                self._telling = True
                watch, sighting = self._news.popleft()
            try:
                watch.tell(sighting)
            finally:
                with self._lock:
                    self._telling = False

    def _note(self, sighting: Sighting, when: float | None) -> None:
        with self._lock:
            if when is not None and when < self._when:
                return
            # The clock of a server that comes back may be another one.
            self._when = 0.0 if when is None else when
            if sighting == self._latest:
                return
            self._latest = sighting
            self._news.extend((watch, sighting) for watch in self._watches)
        self.tell()
