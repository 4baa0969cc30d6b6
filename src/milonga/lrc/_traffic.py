"""The long-running commands on the link to one device: called, listened to and looked for.

Events tell at once; a slow read of the device's tables by command id finds what no event told,
because a Tango subscriber is blind for up to ten seconds around a restart of the device.
"""

import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import CommandRejected, ProtocolError, Unreachable
from milonga.lrc._abort_ladder import AbortLadder
from milonga.lrc._arguments import to_device_data
from milonga.lrc._invocation import Invocation
from milonga.lrc._irregular import KINDS
from milonga.lrc._looking import Looks
from milonga.lrc._reading import (
    CommandNews,
    read_event,
    read_legacy_progress,
    read_legacy_result,
    read_legacy_status,
)
from milonga.lrc._reply import (
    describe,
    parse_reply,
    timed_out,
    was_not_sent,
)
from milonga.lrc._requests import QUICK, SUBMIT, hands_time_on, timed_request
from milonga.lrc._resuming import Resumption
from milonga.lrc._subscriptions import Subscriptions
from milonga.lrc._traces import Trace

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

    ABORT_GRACE = 1.0
    """Seconds longer that a device may take to end a command which has children of its own."""

    RETRY = 0.1
    """Seconds between two tries of a command that an abort may have refused."""

    EARLY_KEPT = 512
    """How many events are kept for commands whose id is not known yet."""

    RECENT_SECONDS = 30.0
    """Seconds for which the events of a command that is not followed any more are counted."""

    RECENT_KEPT = 512
    """How many such commands are kept at most; each has the whole tree that it was part of."""

    def __init__(self, link: "Link") -> None:
        self._link = link
        self.name = link.name
        self._lock = threading.Lock()
        self._protocol = 0
        self._subscriptions = Subscriptions()
        self._wanted = False
        # Several where the device gives the same id again, as to a call that joins another.
        self._outstanding: dict[str, tuple[Invocation, ...]] = {}
        self._closed = False
        self._sending = 0
        self._early: deque[CommandNews] = deque(maxlen=self.EARLY_KEPT)
        self._looks = Looks(link, self._followed, lambda: self._protocol)
        self._recent: OrderedDict[str, tuple[float, Invocation]] = OrderedDict()
        self._counts = dict.fromkeys(
            ("events", "event_errors", *(f"events_{kind}" for kind in KINDS)), 0
        )

    def submit(self, invocation: Invocation) -> None:
        """Send a command. Returns at once; what follows is told to the invocation."""
        send = partial(self.send, invocation)
        if self._link.network.run(lambda: invocation.send_by(send)) is None:
            invocation.shut_out()

    def send(self, invocation: Invocation) -> None:
        """Send a command; may wait for the network. What follows is told to the invocation."""
        if invocation.withdrawn():
            return
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
            invocation.server_start = self._link.start_known
            self._take_reply(invocation, self._call_patiently(invocation, proxy, data))
        except CommandRejected as error:
            invocation.refused(TaskStatus.REJECTED, ResultCode.REJECTED, str(error), error)
        except (Unreachable, ProtocolError) as error:
            if isinstance(error.__cause__, tango.DevFailed) and timed_out(error.__cause__):
                self._search(invocation, error)
            else:
                invocation.refused(TaskStatus.FAILED, ResultCode.FAILED, str(error), error)
        finally:
            with self._lock:
                self._sending -= 1
                if not self._sending:
                    self._early.clear()

    def _call_patiently(
        self, invocation: Invocation, proxy: tango.DeviceProxy, data: tango.DeviceData
    ) -> str:
        """Call the command; again, if what refuses it may be an abort that is about to be over."""
        while True:
            try:
                return self._call(invocation, proxy, data)
            except CommandRejected:
                if time.monotonic() >= invocation.patient_until:
                    raise
            time.sleep(self.RETRY)

    def _call(
        self, invocation: Invocation, proxy: tango.DeviceProxy, data: tango.DeviceData
    ) -> str:
        """Call the command; a second time if it was not sent because the first connection failed.

        Tango does not try a connection again within a second after it has failed, although the
        device may be there by then.
        """
        by = SUBMIT if hands_time_on(self._link, invocation) else ""
        began = time.monotonic()
        try:
            return parse_reply(self.name, invocation.command, proxy, data, by)
        except Unreachable as error:
            cause = error.__cause__
            quick = time.monotonic() - began < QUICK
            if not (quick and isinstance(cause, tango.DevFailed) and was_not_sent(cause)):
                raise
        try:
            anew = tango.DeviceProxy(self._link.trl)
        except tango.DevFailed as error:
            raise Unreachable(f"{self.name}/{invocation.command}: {describe(error)}") from error
        anew.set_timeout_millis(round(self._link.CALL_TIMEOUT * 1000))
        return parse_reply(self.name, invocation.command, anew, data, by)

    def _search(self, invocation: Invocation, error: Exception) -> None:
        """Look at the device for a command whose call it has not answered in time."""
        sent = timedelta(seconds=time.monotonic() - invocation.sent_at)
        trace = Trace(invocation.command, datetime.now(UTC) - sent, os.getpid())
        why = f"it did not answer the call within {self._link.CALL_TIMEOUT:g} s"
        invocation.unanswered(error)
        Resumption(self._link, invocation, None, trace, self._is_nobodys, why).begin()

    def _is_nobodys(self, command_id: str) -> bool:
        with self._lock:
            return command_id not in self._outstanding and command_id not in self._recent

    def abort(self, invocation: Invocation) -> None:
        """Ask the device to end one command, once its id is known. Returns at once."""
        AbortLadder(self._link, invocation).climb()

    def look(self, invocation: Invocation) -> None:
        """Look at one command now. Returns at once."""
        if self._link.network.run_abort(lambda: self._looks.at(invocation)) is None:
            invocation.looked()

    def abort_grace(self) -> float:
        """Return how many seconds longer the device may take to end what it was asked to end."""
        return self.ABORT_GRACE if "CommandTree" in self._link.commands() else 0.0

    def resume_following(self, invocation: Invocation, command_id: str) -> None:
        """Follow a command that was sent before by another process."""
        self._take_reply(invocation, command_id)

    def forget(self, invocation: Invocation) -> None:
        """Stop following a command."""
        command_id = invocation.command_id
        if command_id is None:
            return
        with self._lock:
            followers = self._outstanding.get(command_id, ())
            if invocation not in followers:
                return
            others = tuple(other for other in followers if other is not invocation)
            if others:
                self._outstanding[command_id] = others
            else:  # its late events are still to be counted
                del self._outstanding[command_id]
                self._remember(command_id, invocation)

    def _remember(self, command_id: str, invocation: Invocation) -> None:
        """Keep a command for a while after its end. To be called under the lock."""
        now = time.monotonic()
        self._recent[command_id] = now, invocation
        while True:
            oldest, (since, _) = next(iter(self._recent.items()))
            if len(self._recent) <= self.RECENT_KEPT and now - since <= self.RECENT_SECONDS:
                return
            del self._recent[oldest]

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

    def outstanding(self) -> list[Invocation]:
        """Return the commands that are on their way."""
        with self._lock:
            return [one for followers in self._outstanding.values() for one in followers]

    def close(self) -> None:
        """Follow no command any more; those on their way are told so soon. Returns at once."""
        with self._lock:
            self._closed = True
            followers = [one for several in self._outstanding.values() for one in several]
            self._outstanding.clear()
        if not followers:
            return

        def tell() -> None:
            for invocation in followers:
                self._lose_sight(invocation)

        # On another thread, as the caller may hold a lock that who is told waits for; a process
        # that is ending calls nobody any more.
        self._link.network.run(tell)

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
            with suppress(ProtocolError):  # commands that are sent will tell; watches go on
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
                **self._looks.statistics(),
                "outstanding": sum(map(len, self._outstanding.values())),
                "recent": len(self._recent),
                "protocol": self._protocol,
            }

    def _subscribe(self, proxy: tango.DeviceProxy) -> None:
        self._protocol = self._choose_protocol(proxy, self._link.attributes())
        readers = _V2_EVENTS if self._protocol > 1 else _V1_EVENTS
        for attribute, reader in readers.items():
            self._link.check_open()
            self._subscriptions.add(proxy, attribute, self._listener(reader))

    def _choose_protocol(self, proxy: tango.DeviceProxy, attributes: frozenset[str]) -> int:
        if "lrcProtocolVersions" in attributes and _include_2(proxy.lrcProtocolVersions):
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

    def _route(self, news: CommandNews) -> None:
        with self._lock:
            followers = self._outstanding.get(news.command_id)
            if followers is None and news.command_id in self._recent:
                followers = (self._recent[news.command_id][1],)
            if followers is None:
                if self._sending:
                    self._early.append(news)
                return
        for invocation in followers:
            self._hear(invocation, news)

    def _hear(self, invocation: Invocation, news: CommandNews) -> None:
        if self._protocol == 1:  # whose events repeat what is known of all commands
            invocation.update(news.status, news.progress, news.result)
            return
        kind = invocation.heard(news)
        if kind:
            self._counts[f"events_{kind}"] += 1

    def _argument(self, invocation: Invocation) -> tango.DeviceData:
        if hands_time_on(self._link, invocation):
            return to_device_data(
                self.name,
                SUBMIT,
                self._link.command(SUBMIT),
                timed_request(invocation.command, invocation.argument, invocation.time_left or 0.0),
                self._link.described_commands(),
            )
        return to_device_data(
            self.name,
            invocation.command,
            self._link.command(invocation.command),
            invocation.argument,
            self._link.described_commands(),
        )

    def _take_reply(self, invocation: Invocation, command_id: str) -> None:
        invocation.command_id = command_id  # first: its end may be told right after the next lines
        with self._lock:
            is_followed = not self._closed
            if is_followed:
                others = self._outstanding.get(command_id, ())
                self._outstanding[command_id] = (*others, invocation)
            early = [news for news in self._early if news.command_id == command_id]
        invocation.accepted(command_id)
        for news in early:
            self._hear(invocation, news)
        if not is_followed:
            self._lose_sight(invocation)
        elif invocation.is_closed:
            self.forget(invocation)
        elif not invocation.is_done:
            self._looks.later()

    def _lose_sight(self, invocation: Invocation) -> None:
        why = "the link to the device was closed"
        invocation.lost(f"{self.name}: {invocation.command} is lost: {why}")

    def _followed(self) -> dict[str, tuple[Invocation, ...]]:
        with self._lock:
            return dict(self._outstanding)


def _include_2(versions: object) -> bool:
    """Tell whether the lowest and the highest version that a device says it speaks include 2."""
    try:
        lowest, highest = map(int, versions)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return False  # somebody else's device, which may say anything
    return bool(lowest <= 2 <= highest)  # noqa: PLR2004 - protocol version 2
