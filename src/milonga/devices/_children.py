"""A device's children: how the leaves of its task trees reach other devices."""

import logging
from collections.abc import Callable, Iterable

from milonga.errors import ProtocolError, Unreachable
from milonga.lrc import Invocation, LrcDevice, Scheduler
from milonga.lrc import network as process_network
from milonga.tasks import ChildSpec

__all__ = ["Children"]

_log = logging.getLogger(__name__)


class Children:
    """Links to the child devices, by their resource locators. Safe across threads.

    Parameters
    ----------
    specs : iterable of ChildSpec
        The children.
    scheduler : Scheduler
        Keeps the time for trying to connect again.
    """

    RETRY_PERIOD = 2.0
    """Seconds between tries to connect to a child that does not answer."""

    def __init__(self, specs: Iterable[ChildSpec], scheduler: Scheduler) -> None:
        self.specs = tuple(specs)
        self._scheduler = scheduler
        self._closed = False
        self._devices = {spec.trl: LrcDevice(spec.trl) for spec in self.specs}
        self._connected: set[str] = set()
        for trl in self._devices:
            self._connect_soon(trl)

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> Invocation:
        """Start a command at the child with the resource locator `target`."""
        return self._devices[target].start(command, argument, on_update)

    def statistics(self) -> dict[str, dict[str, int]]:
        """Return the figures of each link, by resource locator."""
        return {trl: device.statistics() for trl, device in self._devices.items()}

    def close(self) -> None:
        """Give the links back."""
        self._closed = True
        for device in self._devices.values():
            device.close()

    def _connect_soon(self, trl: str) -> None:
        if not self._closed:
            process_network().run(lambda: self._connect(trl))

    def _connect(self, trl: str) -> None:
        """Connect ahead of the first command, which then need not wait for it."""
        if self._closed:
            return
        try:
            self._devices[trl].connect()
        except Unreachable as error:
            _log.debug("%s", error)
            self._scheduler.call_later(self.RETRY_PERIOD, lambda: self._connect_soon(trl))
        except ProtocolError as error:
            _log.warning("%s", error)
        else:
            self._connected.add(trl)
