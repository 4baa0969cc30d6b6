"""Looking for commands at a device: a slow read of its tables by command id.

It finds what no event told, and what is not there any more: a Tango subscriber is blind for up to
ten seconds around a restart of the device.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import tango

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.lrc._invocation import Invocation
from milonga.lrc._reading import (
    CommandNews,
    read_finished,
    read_legacy,
    read_table,
)
from milonga.lrc._reply import describe, is_unreachable, timed_out

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = ["DEAD_AFTER", "LEGACY_TABLES", "Looks"]

_log = logging.getLogger(__name__)

FIRST_LOOK = 0.2
"""Seconds from a call to the first read that looks for it."""

LOOK_PERIOD = 1.0
"""Seconds between reads while commands are on their way."""

LOST_AFTER = 10.0
"""Seconds without any answer after which the device's commands are given up."""

DEAD_AFTER = 7.0
"""The same, if nobody listens where the device's server was: it has ended."""

LOST_KEPT = 256
"""Of how many commands of a device is remembered that they were lost, to count each once."""

MISSING_LIMIT = 2
"""How many reads in a row must not find a command before it is asked for by id."""

Followed = Mapping[str, tuple[Invocation, ...]]
"""Who follows the commands of these ids."""

LEGACY_TABLES = (
    "longRunningCommandStatus",
    "longRunningCommandProgress",
    "longRunningCommandResult",
)
_TABLES = ("lrcQueue", "lrcExecuting", "lrcFinished")
_STARTED = "startedAt"
# In this order a command that moves on between two reads is still found.


class Looks:
    """The looks at one device. Safe across threads.

    Parameters
    ----------
    link : Link
        The connection to the device.
    outstanding : callable
        Returns the commands to look for, by id.
    protocol : callable
        Returns the version of the protocol that the device speaks.
    """

    def __init__(
        self,
        link: "Link",
        outstanding: Callable[[], Followed],
        protocol: Callable[[], int],
    ) -> None:
        self._link = link
        self.name = link.name
        self._outstanding = outstanding
        self._protocol = protocol
        self._lock = threading.Lock()
        self._looking = False
        self._silent_since: float | None = None
        self._hung = False
        self._lost: deque[str | None] = deque(maxlen=LOST_KEPT)
        self._counts = dict.fromkeys(("looks", "found_by_look", "lost", "restarts"), 0)

    def statistics(self) -> dict[str, int]:
        """Return how often was looked, and what was found and lost by it."""
        return {**self._counts, "events_missing": self._counts["found_by_look"]}

    def later(self, delay: float = FIRST_LOOK) -> None:
        """Look in a moment, unless a look is due already or there is nothing to look for."""
        needed = bool(self._outstanding())
        with self._lock:
            if not needed:  # what was silent then says nothing of the next command
                self._silent_since, self._hung = None, False
            if self._looking or not needed:
                return
            self._looking = True
        self._link.network.call_later(delay, self._soon)

    def _soon(self) -> None:
        self._link.network.run(self._look, in_background=True)

    def _look(self) -> None:
        try:
            outstanding = self._outstanding()
            if outstanding:
                self._look_for(outstanding)
        except Exception:  # noqa: BLE001 - the next look must come, whatever the device answers
            _log.exception("%s: a look at its commands failed in an unexpected way", self.name)
        finally:
            with self._lock:
                self._looking = False
            self.later(LOOK_PERIOD)

    def _look_for(self, outstanding: Followed) -> None:
        self._counts["looks"] += 1
        began = time.monotonic()
        try:
            self._compare(outstanding)
            self._silent_since, self._hung = None, False
        except tango.DevFailed as error:
            self._note_silence(error, outstanding, began)

    def at(self, invocation: Invocation) -> None:
        """Look at one command for the last time, now; may wait for the network.

        It is lost if nobody listens where the device's server was, or the device does not know it.
        """
        command_id = invocation.command_id
        try:
            if command_id is not None:
                self._compare({command_id: (invocation,)}, patience=1)
        except tango.DevFailed as error:
            _log.info("%s: last look at %s: %s", self.name, command_id, describe(error))
            if is_unreachable(error) and not timed_out(error):
                self._lose(invocation, f"no answer{_from_server(invocation)}: {describe(error)}")
        except Exception:  # noqa: BLE001 - who waits for the look must not wait for ever
            _log.exception("%s: the last look at %s failed", self.name, command_id)
        invocation.looked()

    def _compare(self, outstanding: Followed, patience: int = MISSING_LIMIT) -> None:
        """Read what the device tells; lose what it does not know after `patience` reads."""
        proxy = self._link.proxy()
        if proxy is None:
            return
        found = set()
        for news in self._read_tables(proxy, outstanding):
            found.add(news.command_id)
            # Tango connects anew by itself, so that a restart before the call may not be known yet.
            for invocation in outstanding[news.command_id]:
                invocation.server_start = self._link.start_known
                if news.result_gone and not invocation.knows_result:
                    self._tell_without_result(invocation, patience)
                elif invocation.found(news):
                    self._counts["found_by_look"] += 1
        missing = outstanding.keys() - found
        for invocation in (one for command_id in missing for one in outstanding[command_id]):
            invocation.missing += 1
            if invocation.is_done:
                continue
            if invocation.missing < patience:
                continue
            restart = self._restart_since(invocation)
            if restart:
                self._counts["restarts"] += 1
                self._lose(invocation, restart, gone=True)
            else:
                self._ask_for(proxy, invocation)

    def _tell_without_result(self, invocation: Invocation, patience: int) -> None:
        """End a command that is COMPLETED, which it may have well or badly.

        Not at once, as the event with its result may be on its way.
        """
        invocation.unexplained += 1
        invocation.is_alive()
        if invocation.unexplained >= patience:
            self._end_unknown(invocation, TaskStatus.COMPLETED)

    def _end_unknown(self, invocation: Invocation, status: TaskStatus) -> None:
        text = f"{self.name}: ended as {status.name}, but its result is not kept any more"
        invocation.update(status, result=(ResultCode.UNKNOWN, text))

    def _restart_since(self, invocation: Invocation) -> str:
        """Return how the device's server was restarted since a command was sent, if it was."""
        began = invocation.server_start
        now = self._link.read_start() if began else ""
        if not now or now == began:
            return ""
        return (
            f"its server was started anew at {now} and does not know it any more; before, it had"
            f" been started at {began}"
        )

    def _read_tables(self, proxy: tango.DeviceProxy, wanted: Followed) -> Iterator[CommandNews]:
        if self._protocol() == 1:
            values = [value.value or () for value in proxy.read_attributes(list(LEGACY_TABLES))]
            yield from (item for item in read_legacy(*values) if item.command_id in wanted)
            return
        said_since = [_STARTED] if _STARTED in self._link.attributes() else []
        *tables, since = (*proxy.read_attributes([*_TABLES, *said_since]), None)[: len(_TABLES) + 1]
        queue, executing, finished = (
            [entry for entry in value.value or () if any(uid in entry for uid in wanted)]
            for value in tables
        )
        if since is not None:
            self._link.start_known = str(since.value)
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
            why = "the device does not know it any more; was its server restarted?"
            self._lose(invocation, why, gone=True)
        elif is_final(status):
            self._end_unknown(invocation, status)

    def _note_silence(self, error: tango.DevFailed, outstanding: Followed, began: float) -> None:
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = began
        if timed_out(error):  # it is there, and hangs
            self._hung = True
        patience = LOST_AFTER if self._hung else DEAD_AFTER
        silence = now - self._silent_since
        if silence >= patience:
            for invocation in (one for several in outstanding.values() for one in several):
                server = _from_server(invocation)
                self._lose(invocation, f"no answer for {silence:.0f} s{server}: {describe(error)}")

    def _lose(self, invocation: Invocation, why: str, *, gone: bool = False) -> None:
        if invocation.command_id not in self._lost:  # it may be followed again after it was lost
            self._lost.append(invocation.command_id)
            self._counts["lost"] += 1
        text = f"{self.name}: {invocation.command} is lost: {why}"
        invocation.lost(text, gone=gone)


def _from_server(invocation: Invocation) -> str:
    since = invocation.server_start
    return f" from its server, started at {since}" if since else ""
