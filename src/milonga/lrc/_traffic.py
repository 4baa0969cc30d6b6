"""The long-running commands on the link to one device: called, listened to and looked for.

Events tell at once; a slow read of the device's tables by command id finds what no event told,
because a Tango subscriber is blind for up to ten seconds around a restart of the device.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import tango

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.errors import CommandRejected, ProtocolError, Unreachable
from milonga.lrc._arguments import to_device_data
from milonga.lrc._invocation import Invocation
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
from milonga.lrc._subscriptions import Subscriptions

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = ["LrcTraffic"]

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


_REPLY_TYPES = frozenset(
    {tango.CmdArgType.DevVarLongStringArray, tango.CmdArgType.DevVarStringArray}
)


class LrcTraffic:
    """The long-running commands of this process at one device. Safe across threads.

    Parameters
    ----------
    link : Link
        The connection to the device.
    """

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

    def __init__(self, link: "Link") -> None:
        self._link = link
        self.name = link.name
        self._lock = threading.Lock()
        self._protocol = 0
        self._subscriptions = Subscriptions()
        self._wanted = False
        self._outstanding: dict[str, Invocation] = {}
        self._sending = 0
        self._early: deque[CommandNews] = deque(maxlen=self.EARLY_KEPT)
        self._looking = False
        self._silent_since: float | None = None
        self._counts = {"events": 0, "event_errors": 0, "looks": 0, "found_by_look": 0, "lost": 0}

    def submit(self, invocation: Invocation) -> None:
        """Send a command. Returns at once; what follows is told to the invocation."""
        if self._link.network.run(lambda: self.send(invocation)) is None:
            invocation.shut_out()

    def send(self, invocation: Invocation) -> None:
        """Send a command; may wait for the network. What follows is told to the invocation."""
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

    def abort(self, invocation: Invocation) -> None:
        """Ask the device to end one command. Returns at once."""
        self._link.network.run(lambda: self._send_abort(invocation))

    def forget(self, invocation: Invocation) -> None:
        """Stop following a command."""
        if invocation.command_id is not None:
            with self._lock:
                self._outstanding.pop(invocation.command_id, None)

    def connect(self) -> tango.DeviceProxy:
        """Connect and subscribe, unless that is done; may wait for the network.

        Raises
        ------
        Unreachable
            If the device does not answer.
        ProtocolError
            If it does not offer long-running commands.
        """
        known = self._link.proxy()
        if known is not None and self._subscriptions:
            return known
        self._wanted = True
        with self._link.connecting():
            proxy = self._link.connect()
            if not self._subscriptions:
                try:
                    self._subscribe(proxy)
                except tango.DevFailed as error:
                    self._subscriptions.end()
                    raise Unreachable(
                        f"{self._link.trl} cannot be reached: {describe(error)}"
                    ) from error
                except Unreachable:
                    self._subscriptions.end()
                    raise
            return proxy

    def want(self) -> None:
        """Ask for the subscriptions to be made as soon as the device is reached."""
        self._wanted = True

    def resume(self) -> None:
        """Subscribe, on a connection that is new, if that is wanted and the device offers it.

        Raises
        ------
        Unreachable
            If the device does not answer.
        """
        if self._wanted and not self._subscriptions and self.is_offered():
            self.connect()

    def unsubscribe(self) -> None:
        """End the subscriptions. To be called under the link's lock."""
        self._subscriptions.end()

    def is_offered(self) -> bool:
        """Tell whether the device offers long-running commands, as far as is known."""
        attributes = self._link.attributes()
        return "lrcProtocolVersions" in attributes or set(_V1_EVENTS) <= attributes

    def carries(self, command: str) -> bool:
        """Tell whether the device offers the protocol for a command, as its reply's type says."""
        info = self._link.command(command)
        return self.is_offered() and (info is None or info.out_type in _REPLY_TYPES)

    def statistics(self) -> dict[str, int]:
        """Return what was received, looked for, found and lost."""
        with self._lock:
            return {
                **self._counts,
                "outstanding": len(self._outstanding),
                "protocol": self._protocol,
            }

    def _subscribe(self, proxy: tango.DeviceProxy) -> None:
        self._protocol = self._choose_protocol(proxy, self._link.attributes())
        readers = _V2_EVENTS if self._protocol > 1 else _V1_EVENTS
        for attribute, reader in readers.items():
            self._link.check_open()
            self._subscriptions.add(proxy, attribute, self._listener(reader))

    def _choose_protocol(self, proxy: tango.DeviceProxy, attributes: frozenset[str]) -> int:
        if "lrcProtocolVersions" in attributes:
            lowest, highest = (int(version) for version in proxy.lrcProtocolVersions)
            if lowest <= 2 <= highest:  # noqa: PLR2004 - protocol version 2
                return 2
        if set(_V1_EVENTS) <= attributes:
            return 1
        raise ProtocolError(
            f"{self._link.trl} offers no long-running commands: it has neither lrcProtocolVersions"
            " with version 2 nor the longRunningCommand attributes"
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

    def _argument(self, invocation: Invocation) -> tango.DeviceData:
        return to_device_data(
            self.name,
            invocation.command,
            self._link.command(invocation.command),
            invocation.argument,
            self._link.commands(),
        )

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
        proxy = self._link.proxy()
        if proxy is None or invocation.is_done:
            return
        known = self._link.commands()
        try:
            if "AbortCommand" in known:
                proxy.command_inout("AbortCommand", invocation.command_id)
            else:
                proxy.command_inout("Abort" if "Abort" in known else "AbortCommands")
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
        self._link.network.call_later(delay, self._look_soon)

    def _look_soon(self) -> None:
        self._link.network.run(self._look)

    def _look(self) -> None:
        with self._lock:
            outstanding = dict(self._outstanding)
        if outstanding:
            self._counts["looks"] += 1
            began = time.monotonic()
            try:
                self._compare(outstanding)
                self._silent_since = None
            except tango.DevFailed as error:
                self._note_silence(error, outstanding, began)
        with self._lock:
            self._looking = False
        self._look_later(self.LOOK_PERIOD)

    def _compare(self, outstanding: dict[str, Invocation]) -> None:
        proxy = self._link.proxy()
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
        if "CheckLongRunningCommandStatus" in self._link.commands():
            answer = proxy.command_inout("CheckLongRunningCommandStatus", invocation.command_id)
        status = TaskStatus.__members__.get(answer, TaskStatus.NOT_FOUND)
        if status is TaskStatus.NOT_FOUND:
            self._lose(
                invocation, "the device does not know it any more; was its server restarted?"
            )
        elif is_final(status):
            text = f"{self.name}: ended as {status.name}, but its result is not kept any more"
            invocation.update(status, result=(ResultCode.UNKNOWN, text))

    def _note_silence(
        self, error: tango.DevFailed, outstanding: dict[str, Invocation], began: float
    ) -> None:
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = began
        if now - self._silent_since >= self.LOST_AFTER:
            for invocation in outstanding.values():
                self._lose(
                    invocation, f"no answer for {now - self._silent_since:.0f} s: {describe(error)}"
                )

    def _lose(self, invocation: Invocation, why: str) -> None:
        self._counts["lost"] += 1
        text = f"{self.name}: {invocation.command} is lost: {why}"
        invocation.update(TaskStatus.FAILED, result=(ResultCode.UNKNOWN, text))
