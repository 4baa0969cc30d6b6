"""A client that knows nothing but Tango and the protocol, to judge Milonga from outside."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import tango

FINAL = frozenset({3, 5, 6, 7})
QUEUED, STARTED, REJECTED = 2, 1, 5

PATIENCE = 30.0
"""Seconds to wait for what has to come; only a broken device takes so long."""


class PlainClient:
    """Calls commands of one device and follows them by ``_lrcEvent``.

    Parameters
    ----------
    trl : str
        The device.
    """

    def __init__(self, trl: str) -> None:
        self.proxy = tango.DeviceProxy(trl)
        self.news: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._changed = threading.Condition()
        self._subscription = self.proxy.subscribe_event(
            "_lrcEvent", tango.EventType.CHANGE_EVENT, self._heard
        )
        self._await_first_event()

    def call(self, command: str, argument: str | None = None) -> tuple[int, str]:
        """Call a command; return code and text of the reply."""
        (code,), (text,) = self.proxy.command_inout(command, argument)
        return int(code), str(text)

    def run(self, command: str, argument: str | None = None) -> dict[str, Any]:
        """Call a command, wait for its end, return its last news."""
        code, text = self.call(command, argument)
        assert code in {QUEUED, STARTED}, f"{command} was answered {code}: {text}"
        return self.end(text)

    def end(self, uid: str) -> dict[str, Any]:
        """Wait for the end of a command; return its last news."""
        self.wait(lambda: self.ended(uid) > 0, f"{uid} does not end: {self.news[uid]}")
        return self.news[uid][-1]

    def started(self, uid: str) -> None:
        """Wait for the start of a command."""
        self.wait(
            lambda: any(news.get("status") == 2 for news in self.news[uid]), f"{uid} does not start"
        )

    def ended(self, uid: str) -> int:
        """Return how often the end of a command was told."""
        return sum(news.get("status") in FINAL for news in self.news[uid])

    def wait(self, condition: Callable[[], bool], complaint: str) -> None:
        """Wait until news make `condition` true."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), complaint

    def wait_for_state(self, states: str) -> None:
        """Wait until the device is in one of the operational states that are named."""
        look_until(lambda: self.proxy.state().name in states.split(), f"not in {states}")

    def wait_for_idle(self) -> None:
        """Wait until no command runs."""
        look_until(lambda: not self.proxy.lrcQueue + self.proxy.lrcExecuting, "not idle")

    def finished(self, uid: str) -> dict[str, Any]:
        """Return the entry of a command in lrcFinished."""
        entries = [json.loads(text) for text in self.proxy.lrcFinished]
        (entry,) = [entry for entry in entries if entry["uid"] == uid]
        return entry

    def close(self) -> None:
        """End the subscription."""
        self.proxy.unsubscribe_event(self._subscription)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _heard(self, event: tango.EventData) -> None:
        if event.err or not event.attr_value.value:
            return
        uid, text = event.attr_value.value
        with self._changed:
            self.news[uid].append(json.loads(text))
            self._changed.notify_all()

    def _await_first_event(self) -> None:
        """Abort nothing until that is heard: a publisher learns late of a new subscriber."""
        limit = time.monotonic() + PATIENCE
        while True:
            _, uid = self.call("Abort")
            with self._changed:
                if self._changed.wait_for(lambda uid=uid: self.ended(uid) > 0, 0.5):
                    return
            assert time.monotonic() < limit, "no event comes"


class Recorder:
    """Notes the values of attributes in the order of their events, the first ones too.

    Entered, it is certain to hear what comes from then on.

    Parameters
    ----------
    proxy : tango.DeviceProxy
        The device.
    names : str
        The attributes.
    """

    def __init__(self, proxy: tango.DeviceProxy, *names: str) -> None:
        self.events: list[tuple[str, object]] = []
        self._names = {name.lower(): name for name in names}
        self._proxy = proxy
        self._ids: list[int] = []
        self._changed = threading.Condition()

    @property
    def values(self) -> list[object]:
        """The values alone."""
        return [value for _, value in self.events]

    def wait_for(self, *values: object) -> None:
        """Wait until just these values have come."""
        self.wait_until(lambda _events: self.values == list(values), f"expected {list(values)}")

    def wait_until(
        self, is_enough: Callable[[list[tuple[str, object]]], bool], expected: str = ""
    ) -> None:
        """Wait until `is_enough` says so of the events."""
        with self._changed:
            came = self._changed.wait_for(lambda: is_enough(self.events), PATIENCE)
        assert came, f"found {self.events}; {expected}"

    def __enter__(self) -> Self:
        self._ids = [self._subscribe(name, self._heard) for name in self._names.values()]
        self._await_connection("simulationMode" if "testmode" in self._names else "testMode")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for subscription in self._ids:
            self._proxy.unsubscribe_event(subscription)

    def _subscribe(self, name: str, heard: Callable[[tango.EventData], None]) -> int:
        return int(self._proxy.subscribe_event(name, tango.EventType.CHANGE_EVENT, heard))

    def _heard(self, event: tango.EventData) -> None:
        if event.err:
            return
        name = event.attr_value.name.rpartition("/")[2].lower()
        with self._changed:
            self.events.append((self._names[name], plain(event.attr_value.value)))
            self._changed.notify_all()

    def _await_connection(self, mode: str) -> None:
        """Change a mode until that is heard: what was subscribed to before is then heard too.

        A publisher learns late, but in order, of what is subscribed to (cppTango 524).
        """
        heard = threading.Event()

        def listen(event: tango.EventData) -> None:
            if not event.err and event.attr_value.value == 1:
                heard.set()

        subscription = self._subscribe(mode, listen)
        limit = time.monotonic() + PATIENCE
        while not heard.wait(0.1):
            assert time.monotonic() < limit, "no event comes"
            self._proxy.write_attribute(mode, 1)
            self._proxy.write_attribute(mode, 0)
        self._proxy.unsubscribe_event(subscription)


def look_until(condition: Callable[[], bool], complaint: str) -> None:
    """Look again and again until `condition` is true: for what no event tells."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, complaint
        time.sleep(0.02)


def plain(value: Any) -> object:
    """Put a value of Tango into Python's simplest form: names of states, tuples, numbers."""
    if isinstance(value, tango.DevState):
        return value.name
    if isinstance(value, str | float) or value is None:
        return value
    if hasattr(value, "__len__"):
        return tuple(plain(item) for item in value)
    return int(value)
