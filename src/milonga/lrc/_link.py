"""The link to one device: how it is connected to, called, listened to and looked at.

Events tell at once; a slow read of the device's tables by command id finds what no event told,
because a Tango subscriber is blind for up to ten seconds around a restart of the device.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import tango

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.errors import CommandRejected, ProtocolError, Unreachable
from milonga.lrc._invocation import Invocation
from milonga.lrc._network import Network
from milonga.lrc._reading import (
    CommandNews,
    read_event,
    read_finished,
    read_legacy_progress,
    read_legacy_result,
    read_legacy_status,
    read_table,
)
from milonga.lrc._reply import describe, parse_reply

__all__ = ["Link"]

_log = logging.getLogger(__name__)

_V2_EVENTS: dict[str, Callable[[Sequence[str]], Iterator[CommandNews]]] = {
    "_lrcEvent": read_event,
}
_V1_EVENTS: dict[str, Callable[[Sequence[str]], Iterator[CommandNews]]] = {
    "longRunningCommandStatus": read_legacy_status,
    "longRunningCommandProgress": read_legacy_progress,
    "longRunningCommandResult": read_legacy_result,
}
# In this order a command that moves on between two reads is still found.
_V2_TABLES = ("lrcQueue", "lrcExecuting", "lrcFinished")


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

    FIRST_LOOK = 0.2
    """Seconds from a call to the first read that looks for it."""

    LOOK_PERIOD = 1.0
    """Seconds between reads while commands are on their way."""

    LOST_AFTER = 10.0
    """Seconds without any answer after which the device's commands are given up."""

    MISSING_LIMIT = 2
    """How many reads in a row must not find a command before it is asked for by id."""

    EARLY_KEPT = 512
    """How many events are kept for commands whose id is not known yet."""

    def __init__(self, trl: str, owner: Network) -> None:
        self.trl = trl
        self.name = _device_name(trl)
        self._network = owner
        self._connecting = threading.Lock()
        self._lock = threading.Lock()
        self._proxy: tango.DeviceProxy | None = None
        self._commands: dict[str, tango.CommandInfo] = {}
        self._protocol = 0
        self._subscriptions: list[int] = []
        self._outstanding: dict[str, Invocation] = {}
        self._sending = 0
        self._early: deque[CommandNews] = deque(maxlen=self.EARLY_KEPT)
        self._looking = False
        self._silent_since: float | None = None
        self._counts = {"events": 0, "event_errors": 0, "looks": 0, "found_by_look": 0, "lost": 0}

    def submit(self, invocation: Invocation) -> None:
        """Send a command. Returns at once; what follows is told to the invocation."""
        if self._network.run(lambda: self._send(invocation)) is None:
            invocation.refused(
                TaskStatus.FAILED,
                ResultCode.FAILED,
                f"{self.name}: {invocation.command} was not sent: this process is shutting down",
                Unreachable("this process is shutting down"),
            )

    def abort(self, invocation: Invocation) -> None:
        """Ask the device to end one command. Returns at once."""
        self._network.run(lambda: self._send_abort(invocation))

    def forget(self, invocation: Invocation) -> None:
        """Stop following a command."""
        if invocation.command_id is not None:
            with self._lock:
                self._outstanding.pop(invocation.command_id, None)

    def disconnect(self) -> None:
        """End the subscriptions. Not to be called from an event callback."""
        with self._connecting:
            proxy, self._proxy = self._proxy, None
            subscriptions, self._subscriptions = self._subscriptions, []
        if proxy is None:
            return
        for subscription in subscriptions:
            try:
                proxy.unsubscribe_event(subscription)
            except tango.DevFailed as error:
                _log.debug("%s: could not unsubscribe: %s", self.name, describe(error))

    def connect(self) -> tango.DeviceProxy:
        """Connect and subscribe, unless that is done; may wait for the network.

        Raises
        ------
        Unreachable
            If the device does not answer.
        ProtocolError
            If it does not offer long-running commands.
        """
        with self._connecting:
            if self._proxy is None:
                try:
                    self._proxy = self._open()
                except tango.DevFailed as error:
                    raise Unreachable(f"{self.trl} cannot be reached: {describe(error)}") from error
            return self._proxy

    def commands(self) -> frozenset[str]:
        """Return the names of the device's commands; empty before the first connection."""
        return frozenset(self._commands)

    def statistics(self) -> dict[str, int]:
        """Return what was received, looked for, found and lost."""
        with self._lock:
            return {
                **self._counts,
                "outstanding": len(self._outstanding),
                "protocol": self._protocol,
            }

    def _open(self) -> tango.DeviceProxy:
        proxy = tango.DeviceProxy(self.trl)
        proxy.set_timeout_millis(int(self.CALL_TIMEOUT * 1000))
        self._commands = {info.cmd_name: info for info in proxy.command_list_query()}
        attributes = set(proxy.get_attribute_list())
        self._protocol = self._choose_protocol(proxy, attributes)
        readers = _V2_EVENTS if self._protocol > 1 else _V1_EVENTS
        subscriptions: list[int] = []
        try:
            for attribute, reader in readers.items():
                subscriptions.append(
                    proxy.subscribe_event(
                        attribute, tango.EventType.CHANGE_EVENT, self._listener(reader)
                    )
                )
        except tango.DevFailed:
            for subscription in subscriptions:
                proxy.unsubscribe_event(subscription)
            raise
        self._subscriptions = subscriptions
        return proxy

    def _choose_protocol(self, proxy: tango.DeviceProxy, attributes: set[str]) -> int:
        if "lrcProtocolVersions" in attributes:
            lowest, highest = (int(version) for version in proxy.lrcProtocolVersions)
            if lowest <= 2 <= highest:  # noqa: PLR2004 - protocol version 2
                return 2
        if set(_V1_EVENTS) <= attributes:
            return 1
        raise ProtocolError(
            f"{self.trl} offers no long-running commands: it has neither lrcProtocolVersions with"
            " version 2 nor the longRunningCommand attributes"
        )

    def _listener(
        self, reader: Callable[[Sequence[str]], Iterator[CommandNews]]
    ) -> Callable[[tango.EventData], None]:
        def listen(event: tango.EventData) -> None:
            try:
                if event.err:
                    self._counts["event_errors"] += 1
                    return
                self._counts["events"] += 1
                for news in reader(event.attr_value.value or ()):
                    self._route(news)
            except Exception:  # noqa: BLE001 - the event thread belongs to all devices
                _log.exception("%s: an event could not be read", self.name)

        return listen

    def _route(self, news: CommandNews) -> bool:
        with self._lock:
            invocation = self._outstanding.get(news.command_id)
            if invocation is None:
                if self._sending:
                    self._early.append(news)
                return False
        invocation.update(news.status, news.progress, news.result)
        return True

    def _send(self, invocation: Invocation) -> None:
        try:
            proxy = self.connect()
            data = self._argument(invocation)
        except (Unreachable, ProtocolError) as error:
            code = ResultCode.FAILED
            invocation.refused(TaskStatus.FAILED, code, f"{self.name}: {error}", error)
            return
        except CommandRejected as error:
            code = ResultCode.REJECTED
            invocation.refused(TaskStatus.REJECTED, code, str(error), error)
            return
        with self._lock:
            self._sending += 1
        try:
            invocation.sent_at = time.monotonic()
            self._take_reply(invocation, parse_reply(self.name, invocation.command, proxy, data))
        except CommandRejected as error:
            invocation.refused(TaskStatus.REJECTED, ResultCode.REJECTED, str(error), error)
        except (Unreachable, ProtocolError) as error:
            invocation.refused(TaskStatus.FAILED, ResultCode.FAILED, str(error), error)
        finally:
            with self._lock:
                self._sending -= 1
                if not self._sending:
                    self._early.clear()

    def _argument(self, invocation: Invocation) -> tango.DeviceData:
        """Put the argument into Tango's form; saves the query that pytango makes at each call."""
        info = self._commands.get(invocation.command)
        if info is None:
            raise CommandRejected(
                f"{self.name} has no command {invocation.command};"
                f" it has {', '.join(sorted(self._commands))}"
            )
        data = tango.DeviceData()
        if info.in_type == tango.CmdArgType.DevString:
            data.insert(info.in_type, invocation.argument or "")
        elif info.in_type != tango.CmdArgType.DevVoid:
            raise CommandRejected(
                f"{self.name}/{invocation.command} takes {info.in_type}; expected a command that"
                " takes nothing or a string"
            )
        elif invocation.argument is not None:
            raise CommandRejected(
                f"{self.name}/{invocation.command} takes no argument, got {invocation.argument!r}"
            )
        return data

    def _take_reply(self, invocation: Invocation, command_id: str) -> None:
        with self._lock:
            self._outstanding[command_id] = invocation
            early = [news for news in self._early if news.command_id == command_id]
        invocation.accepted(command_id)
        for news in early:
            invocation.update(news.status, news.progress, news.result)
        if not invocation.is_done:
            self._look_later(self.FIRST_LOOK)

    def _send_abort(self, invocation: Invocation) -> None:
        proxy = self._proxy
        if proxy is None or invocation.is_done:
            return
        try:
            if "AbortCommand" in self._commands:
                proxy.command_inout("AbortCommand", invocation.command_id)
            else:
                proxy.command_inout("Abort" if "Abort" in self._commands else "AbortCommands")
        except tango.DevFailed as error:
            _log.warning(
                "%s did not take the abort of %s: %s",
                self.name,
                invocation.command_id,
                describe(error),
            )

    def _look_later(self, delay: float) -> None:
        with self._lock:
            if self._looking or not self._outstanding:
                return
            self._looking = True
        self._network.call_later(delay, self._look_soon)

    def _look_soon(self) -> None:
        self._network.run(self._look)

    def _look(self) -> None:
        with self._lock:
            outstanding = dict(self._outstanding)
        if outstanding:
            self._counts["looks"] += 1
            try:
                self._compare(outstanding)
                self._silent_since = None
            except tango.DevFailed as error:
                self._note_silence(error, outstanding)
        with self._lock:
            self._looking = False
        self._look_later(self.LOOK_PERIOD)

    def _compare(self, outstanding: dict[str, Invocation]) -> None:
        proxy = self._proxy
        if proxy is None:
            return
        found = set()
        for news in self._read_tables(proxy, outstanding):
            found.add(news.command_id)
            invocation = outstanding[news.command_id]
            invocation.missing = 0
            if news.status is not None and is_final(news.status) and not invocation.is_done:
                self._counts["found_by_look"] += 1
            invocation.update(news.status, news.progress, news.result)
        for command_id in outstanding.keys() - found:
            invocation = outstanding[command_id]
            invocation.missing += 1
            if invocation.missing >= self.MISSING_LIMIT and not invocation.is_done:
                self._ask_for(proxy, invocation)

    def _read_tables(
        self, proxy: tango.DeviceProxy, wanted: dict[str, Invocation]
    ) -> Iterator[CommandNews]:
        if self._protocol == 1:
            values = [value.value or () for value in proxy.read_attributes(list(_V1_EVENTS))]
            statuses, progresses, result = values
            news = [
                *read_legacy_result(result),
                *read_legacy_progress(progresses),
                *read_legacy_status(statuses),
            ]
            yield from (item for item in news if item.command_id in wanted)
            return
        queue, executing, finished = (
            [entry for entry in value.value or () if any(uid in entry for uid in wanted)]
            for value in proxy.read_attributes(list(_V2_TABLES))
        )
        news = [
            *read_table(queue, TaskStatus.QUEUED),
            *read_table(executing, TaskStatus.IN_PROGRESS),
            *read_finished(finished),
        ]
        yield from (item for item in news if item.command_id in wanted)

    def _ask_for(self, proxy: tango.DeviceProxy, invocation: Invocation) -> None:
        answer = "NOT_FOUND"
        if "CheckLongRunningCommandStatus" in self._commands:
            answer = proxy.command_inout("CheckLongRunningCommandStatus", invocation.command_id)
        status = TaskStatus.__members__.get(answer, TaskStatus.NOT_FOUND)
        if status is TaskStatus.NOT_FOUND:
            self._lose(
                invocation, "the device does not know it any more; was its server restarted?"
            )
        elif is_final(status):
            text = f"{self.name}: ended as {status.name}, but its result is not kept any more"
            invocation.update(status, result=(ResultCode.UNKNOWN, text))

    def _note_silence(self, error: tango.DevFailed, outstanding: dict[str, Invocation]) -> None:
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since >= self.LOST_AFTER:
            for invocation in outstanding.values():
                self._lose(
                    invocation, f"no answer for {now - self._silent_since:.0f} s: {describe(error)}"
                )

    def _lose(self, invocation: Invocation, why: str) -> None:
        self._counts["lost"] += 1
        text = f"{self.name}: {invocation.command} is lost: {why}"
        invocation.update(TaskStatus.FAILED, result=(ResultCode.UNKNOWN, text))


def _device_name(trl: str) -> str:
    """Return the device's name from its resource locator.

    Examples
    --------
    >>> _device_name("tango://127.0.0.1:10000/a/b/c#dbase=no"), _device_name("a/b/c")
    ('a/b/c', 'a/b/c')
    """
    path = trl.partition("#")[0]
    return path.partition("://")[2].partition("/")[2] if "://" in path else path
