"""The event subscriptions that are made and ended together."""

import logging
from collections.abc import Callable

import tango

from milonga.lrc._reply import describe
from milonga.lrc._starting import wait_until_started

__all__ = ["Subscriptions"]

_log = logging.getLogger(__name__)


class Subscriptions:
    """Subscriptions to change events of one device. To be used under the link's lock."""

    def __init__(self) -> None:
        self._ids: list[tuple[tango.DeviceProxy, int]] = []

    def add(
        self,
        proxy: tango.DeviceProxy,
        attribute: str,
        listen: Callable[[tango.EventData], None],
    ) -> None:
        """Subscribe to one attribute; the first time, wait for a server that is starting.

        Raises
        ------
        tango.DevFailed
            If the attribute sends no events, or the device does not answer.
        """
        if not self._ids:
            wait_until_started(proxy)
        event_type = tango.EventType.CHANGE_EVENT
        self._ids.append((proxy, proxy.subscribe_event(attribute, event_type, listen)))

    def end(self) -> None:
        """Unsubscribe from everything. Not to be called from an event callback."""
        ids, self._ids = self._ids, []
        for proxy, subscription in ids:
            try:
                proxy.unsubscribe_event(subscription)
            except tango.DevFailed as error:
                _log.debug("could not unsubscribe: %s", describe(error))

    def __len__(self) -> int:
        return len(self._ids)
