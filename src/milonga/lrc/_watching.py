"""Watching a device: its attributes, and whether it is there at all.

An event says at once that something has changed; a read in the background finds what no event
told, serves attributes that send none, and notices that the device went away or came back.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import tango

from milonga.errors import Unreachable
from milonga.lrc._recurring import Recurring
from milonga.lrc._reply import describe, is_unreachable
from milonga.lrc._subscriptions import Subscriptions
from milonga.lrc._watched import Sighting, Watch, WatchedAttribute

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = ["Watches"]

_log = logging.getLogger(__name__)


class Watches:
    """What this process watches of one device. Safe across threads.

    Parameters
    ----------
    link : Link
        The connection to the device.
    """

    BEAT = 2.0
    """Seconds between looks at a device that sends events."""

    FIRST_RETRY = 1.2
    """Seconds from a vain connection to the next; Tango refuses to try again within one."""

    LAST_RETRY = 5.0
    """Seconds between vain connections at the most; each is half as long again as the last."""

    def __init__(self, link: "Link") -> None:
        self._link = link
        self._lock = threading.Lock()
        self._watched: dict[str, WatchedAttribute] = {}
        self._subscriptions = Subscriptions()
        self._keepers = 0
        self._connected: bool | None = None
        self._reason = "not connected yet"
        self._retry = self.FIRST_RETRY
        self._asked_at: float | None = None
        self._odd = ""
        self._counts = {"watch_events": 0, "watch_reads": 0, "reconnections": 0}
        self._tending = Recurring(link.network, self._tend, in_background=True)

    @property
    def is_connected(self) -> bool:
        """Whether the device answered when it was last asked."""
        return self._connected is True

    @property
    def reason(self) -> str:
        """Why it is not connected; empty if it is."""
        return self._reason

    def watch(
        self, attribute: str, callback: Callable[[Sighting], None], period: float = 0.5
    ) -> Watch:
        """Follow an attribute; see `ChildDevice.watch`."""
        with self._lock:
            watched = self._watched.setdefault(
                attribute.casefold(), WatchedAttribute(self._link.name, attribute)
            )
        watch = watched.add(callback, period)
        self._link.network.run(watched.tell)
        self._tending.wake()
        return watch

    def known(self, attribute: str) -> object:
        """Return the value that an attribute had when it was heard of last; None if none was."""
        watched = self._watched.get(attribute.casefold())
        sighting = None if watched is None else watched.latest
        return None if sighting is None else sighting.value

    def keep(self) -> None:
        """Stay connected, whatever happens, until `release`."""
        with self._lock:
            self._keepers += 1
        self._tending.wake()

    def release(self) -> None:
        """Undo one `keep`."""
        with self._lock:
            self._keepers -= 1

    def look_soon(self) -> None:
        """Look at the device now. Returns at once."""
        self._tending.wake()

    def asks_since(self) -> float:
        """Return for how many seconds the look that is under way has lasted; 0 if there is none."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def unsubscribe(self) -> None:
        """End the subscriptions. To be called under the link's lock."""
        self._subscriptions.end()
        for watched in list(self._watched.values()):
            watched.detached()

    def close(self) -> None:
        """Look no more. Returns at once."""
        self._tending.stop()

    def statistics(self) -> dict[str, int]:
        """Return how much was heard and read, and what is watched."""
        return {
            **self._counts,
            "watched": sum(1 for watched in list(self._watched.values()) if watched.is_needed),
            "watch_subscriptions": len(self._subscriptions),
            "connected": int(self.is_connected),
        }

    def _tend(self) -> float | None:
        """Look at the device once; return the seconds until the next look."""
        needed = [watched for watched in list(self._watched.values()) if watched.is_needed]
        if not needed and self._keepers <= 0:
            return None
        self._asked_at = time.monotonic()
        try:
            proxy = self._reach()
            self._link.lrc.resume()
            self._attach(proxy, needed)
            self._read(proxy, [watched for watched in needed if watched.is_attached])
        except (tango.DevFailed, Unreachable) as error:
            return self._is_away(
                describe(error) if isinstance(error, tango.DevFailed) else str(error)
            )
        except Exception as error:  # noqa: BLE001 - a watch that stops is blind for ever
            return self._is_odd(error)
        finally:
            self._asked_at = None
        periods = [watched.period for watched in needed if watched.is_polled]
        return min(self.BEAT, *periods) if periods else self.BEAT

    def _reach(self) -> tango.DeviceProxy:
        known = self._link.proxy()
        if known is None or self._connected is not False:
            return self._link.connect()
        known.ping()
        self._counts["reconnections"] += 1
        return self._link.reconnect()

    def _attach(self, proxy: tango.DeviceProxy, needed: list[WatchedAttribute]) -> None:
        """Subscribe to what is not subscribed to yet, as far as it sends events."""
        known = {name.casefold() for name in self._link.attributes()}
        for watched in needed:
            if watched.is_attached:
                continue
            if watched.name.casefold() not in known:
                watched.missing()
                continue
            self._subscribe(proxy, watched)

    def _subscribe(self, proxy: tango.DeviceProxy, watched: WatchedAttribute) -> None:
        watched.attaching(self._link.labels(watched.name))
        with self._link.connecting():
            self._link.check_open()
            try:
                self._subscriptions.add(proxy, watched.name, self._listener(watched))
            except tango.DevFailed as error:
                if is_unreachable(error):
                    watched.detached()
                    raise
                watched.sends_no_events()

    def _listener(self, watched: WatchedAttribute) -> Callable[[tango.EventData], None]:
        def listen(event: tango.EventData) -> None:
            try:
                if event.err:
                    self._tending.wake()
                    return
                self._counts["watch_events"] += 1
                if self._connected is not False:
                    watched.take(event.attr_value)
            except Exception:  # noqa: BLE001 - the event thread belongs to all devices
                _log.exception("%s: an event could not be read", self._link.name)

        return listen

    def _read(self, proxy: tango.DeviceProxy, attached: list[WatchedAttribute]) -> None:
        values = []
        if attached:
            values = self._values(proxy, [watched.name for watched in attached])
        else:
            proxy.ping()
        self._is_here()
        for watched, value in zip(attached, values, strict=False):
            watched.take(value)

    def _values(self, proxy: tango.DeviceProxy, names: list[str]) -> list[tango.DeviceAttribute]:
        self._counts["watch_reads"] += 1
        try:
            return list(proxy.read_attributes(names))
        except tango.DevFailed:
            # A device that works on a synchronous command answers no read, but a ping.
            proxy.ping()
            return []

    def _is_odd(self, error: Exception) -> float:
        """Take note of an answer that cannot be understood; it may be another one next time."""
        text = f"{type(error).__name__}: {error}"
        if text != self._odd:
            self._odd = text
            _log.error("%s: it cannot be watched: %s", self._link.name, text, exc_info=error)
        return self._is_away(text)

    def _is_here(self) -> None:
        self._odd = ""
        if self._connected is not True:
            self._connected, self._reason = True, ""
        self._retry = self.FIRST_RETRY
        self._link.foreign.heard()

    def _is_away(self, reason: str) -> float:
        is_news = self._connected is not False
        if is_news:
            self._connected, self._reason = False, reason
        for watched in list(self._watched.values()):
            if is_news or watched.latest is None:  # somebody may watch since it went away
                watched.lost(self._reason)
        self._link.foreign.silent(reason)
        delay, self._retry = self._retry, min(self._retry * 1.5, self.LAST_RETRY)
        return delay
