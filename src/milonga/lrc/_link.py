"""The connection of this process to one device: the proxy, and what is served over it.

There is one link per device and process. On it ride the long-running commands (`lrc`), commands
of devices that have none (`foreign`), and the attributes that somebody watches (`watches`).
"""

import logging
import math
import threading
from collections.abc import Mapping

import tango

from milonga.errors import Unreachable
from milonga.lrc._foreign import ForeignCalls
from milonga.lrc._invocation import Invocation
from milonga.lrc._network import Network
from milonga.lrc._reply import describe
from milonga.lrc._traffic import LrcTraffic
from milonga.lrc._watching import Watches
from milonga.tracking import AbortAnswer

__all__ = ["Link"]

_log = logging.getLogger(__name__)


class Link:
    """The connection of this process to one device. Safe across threads.

    Parameters
    ----------
    trl : str
        The device's Tango resource locator.
    owner : Network
        Lends the threads.
    """

    CALL_TIMEOUT = 3.0
    """Seconds that the device has to answer a call."""

    CLOSE_WAIT = 5.0
    """Seconds that the end of the link waits for a connection that is being made."""

    def __init__(self, trl: str, owner: Network) -> None:
        self.trl = trl
        self.name = _device_name(trl)
        self.network = owner
        self._connecting = threading.RLock()
        self._proxy: tango.DeviceProxy | None = None
        self._fresh: tango.DeviceProxy | None = None
        self._commands: dict[str, tango.CommandInfo] = {}
        self._attributes: frozenset[str] = frozenset()
        self._labels: dict[str, tuple[str, ...]] = {}
        self._closed = False
        self.start_known = ""
        """Since when the device's server runs, as it was at the last connection; may be unknown."""
        self.lrc = LrcTraffic(self)
        self.foreign = ForeignCalls(self)
        self.watches = Watches(self)

    def connect(self) -> tango.DeviceProxy:
        """Connect, unless that is done; may wait for the network.

        Raises
        ------
        Unreachable
            If the device does not answer, or the link has been closed.
        """
        proxy = self._proxy
        if proxy is not None:
            return proxy
        with self._connecting:
            self.check_open()
            if self._proxy is None:
                try:
                    self._proxy = self._open()
                except tango.DevFailed as error:
                    raise Unreachable(f"{self.trl} cannot be reached: {describe(error)}") from error
            return self._proxy

    def reconnect(self) -> tango.DeviceProxy:
        """Connect anew to a device whose server was away; it may be another one now.

        Raises
        ------
        Unreachable
            As `connect` does.
        """
        with self._connecting:
            self.check_open()
            try:
                proxy = self._open()  # first, so that what follows commands never lacks a proxy
            except tango.DevFailed as error:
                raise Unreachable(f"{self.trl} cannot be reached: {describe(error)}") from error
            self._end_subscriptions()
            self._proxy, self._fresh = proxy, None
            return proxy

    def connecting(self) -> threading.RLock:
        """Return the lock under which connections and subscriptions are made and ended."""
        return self._connecting

    def check_open(self) -> None:
        """Raise Unreachable if the link has been closed: nothing may be subscribed any more."""
        if self._closed:
            raise Unreachable(f"{self.trl} cannot be reached: the link to it has been closed")

    def proxy(self) -> tango.DeviceProxy | None:
        """Return the proxy; None before the first connection."""
        return self._proxy

    def answer_due(self, invocation: Invocation, seconds: float, asked: str = "") -> None:
        """Tell a command that an abort was not answered, unless it is answered within `seconds`."""
        text = f"no answer{asked} within {seconds:g} s"
        self.network.call_later(
            seconds, lambda: invocation.abort_answered(AbortAnswer.NO_ANSWER, text)
        )

    def fresh_proxy(self) -> tango.DeviceProxy:
        """Return a proxy whose reads come from the device, never from Tango's polling buffer."""
        with self._connecting:
            self.check_open()
            if self._fresh is None:
                fresh = tango.DeviceProxy(self.trl)
                fresh.set_timeout_millis(int(self.CALL_TIMEOUT * 1000))
                fresh.set_source(tango.DevSource.DEV)
                self._fresh = fresh
            return self._fresh

    def command(self, name: str) -> tango.CommandInfo | None:
        """Return what is known of a command; None if the device has none of that name."""
        return self._commands.get(name)

    def commands(self) -> frozenset[str]:
        """Return the names of the device's commands; empty before the first connection."""
        return frozenset(self._commands)

    def described_commands(self) -> Mapping[str, tango.CommandInfo]:
        """Return what is known of all commands, by name; empty before the first connection."""
        return self._commands

    def attributes(self) -> frozenset[str]:
        """Return the names of the device's attributes; empty before the first connection."""
        return self._attributes

    def labels(self, attribute: str) -> tuple[str, ...]:
        """Return what the values of an enumerated attribute are called; asks the device once.

        Raises
        ------
        tango.DevFailed
            If the device does not answer, or has no such attribute.
        Unreachable
            If it cannot be reached.
        """
        key = attribute.casefold()
        if key not in self._labels:
            config = self.connect().get_attribute_config(attribute)
            is_enum = config.data_type == tango.CmdArgType.DevEnum
            self._labels[key] = tuple(config.enum_labels) if is_enum else ()
        return self._labels[key]

    def prepare_close(self) -> None:
        """Let nothing new be connected, subscribed or followed. Returns at once."""
        self._closed = True
        self.lrc.close()
        self.watches.close()
        self.foreign.close()

    def close(self, timeout: float = CLOSE_WAIT) -> None:
        """End the subscriptions, for good. Not to be called from an event callback.

        Parameters
        ----------
        timeout : float
            Seconds to wait for a connection that is being made. One to a device that hangs may
            take nine; it subscribes to nothing any more when it comes.
        """
        self.prepare_close()
        if not self.foreign.join(max(0.0, timeout)):
            self.network.abandon(math.inf)
        if self._connecting.acquire(timeout=max(0.0, timeout)):
            try:
                self._end_subscriptions()
                self._proxy = self._fresh = None
            finally:
                self._connecting.release()

    def statistics(self) -> dict[str, int]:
        """Return what was received, looked for, found and lost."""
        return self.lrc.statistics() | self.foreign.statistics() | self.watches.statistics()

    def _open(self) -> tango.DeviceProxy:
        proxy = tango.DeviceProxy(self.trl)
        proxy.set_timeout_millis(int(self.CALL_TIMEOUT * 1000))
        self._commands = {info.cmd_name: info for info in proxy.command_list_query()}
        self._attributes = frozenset(proxy.get_attribute_list())
        self._labels.clear()
        self.start_known = self._start_of(proxy)
        return proxy

    def read_start(self) -> str:
        """Return since when the device's server runs now; empty if that cannot be known."""
        proxy = self._proxy
        return self._start_of(proxy) if proxy is not None else ""

    def _start_of(self, proxy: tango.DeviceProxy) -> str:
        """Ask the device, or else the Tango database, which knows the last start of each server."""
        try:
            if "startedAt" in self._attributes:
                return str(proxy.read_attribute("startedAt").value)
            if proxy.is_dbase_used():
                database = proxy.get_device_db()
                return str(database.get_device_info(self.name).started_date)
        except (tango.DevFailed, AttributeError):
            _log.debug("%s: the start of its server is not known", self.name)
        return ""

    def _end_subscriptions(self) -> None:
        self.lrc.unsubscribe()
        self.watches.unsubscribe()


def _device_name(trl: str) -> str:
    """Return the device's name from its resource locator.

    Examples
    --------
    >>> _device_name("tango://127.0.0.1:10000/a/b/c#dbase=no"), _device_name("a/b/c")
    ('a/b/c', 'a/b/c')
    """
    path = trl.partition("#")[0]
    return path.partition("://")[2].partition("/")[2] if "://" in path else path
