"""Commands of devices that offer no long-running commands, made to look as if they did.

Each gets an id of ours, is followed to its end, can be aborted as far as the device lets it, and
is given up when the device does not answer any more.
"""

import threading
import time
from typing import TYPE_CHECKING

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import CommandRejected, ProtocolError, Unreachable
from milonga.lrc._arguments import to_device_data
from milonga.lrc._expectation import Expectation
from milonga.lrc._foreign_command import ForeignCommand
from milonga.lrc._invocation import Invocation
from milonga.lrc._lane import Lane
from milonga.lrc._reply import describe
from milonga.lrc._state_wait import StateWait
from milonga.lrc._wire import new_command_id

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = ["ForeignCalls"]

_ENDERS = ("Abort", "Stop")


class ForeignCalls:
    """The commands of this process at one device that knows no protocol. Safe across threads.

    Parameters
    ----------
    link : Link
        The connection to the device.
    """

    LOST_AFTER = 10.0
    """Seconds without any answer after which the device's commands are given up."""

    CHECK_PERIOD = 1.0
    """Seconds between checks for that."""

    def __init__(self, link: "Link") -> None:
        self._link = link
        self.name = link.name
        self.lane = Lane(f"milonga-plain {link.name}")
        self._lock = threading.Lock()
        self._outstanding: dict[Invocation, ForeignCommand] = {}
        self._last_heard = 0.0
        self._reason = ""
        self._checking = False
        self._lost = 0

    def send(
        self,
        invocation: Invocation,
        timeout: float,
        expectation: Expectation | None = None,
        *,
        skip_when_reached: bool = False,
        period: float = 0.5,
    ) -> None:
        """Send a command; may wait for the network. What follows is told to the invocation."""
        command = invocation.command
        try:
            self._link.connect()
            data = to_device_data(
                self.name,
                command,
                self._link.command(command),
                invocation.argument,
                self._link.commands(),
            )
        except Unreachable as error:
            text = f"{self.name}: {error}"
            invocation.refused(TaskStatus.FAILED, ResultCode.FAILED, text, error)
            return
        except CommandRejected as error:
            invocation.refused(TaskStatus.REJECTED, ResultCode.REJECTED, str(error), error)
            return
        wait = None
        if expectation is not None:
            if not self._has(expectation.attribute):
                text = f"{self.name} has no attribute {expectation.attribute}"
                why = ProtocolError(f"{text}, which is to tell when {command} is over")
                invocation.refused(TaskStatus.REJECTED, ResultCode.REJECTED, str(why), why)
                return
            timeout = expectation.timeout
            wait = StateWait(self._link, expectation, period, skip=skip_when_reached)
        self._begin(invocation, ForeignCommand(self._link, invocation, data, timeout, wait))

    def abort(self, invocation: Invocation) -> None:
        """Ask the device to end a command. Returns at once."""
        self._link.network.run(lambda: self._abort(invocation))

    def forget(self, invocation: Invocation) -> None:
        """Stop following a command."""
        with self._lock:
            work = self._outstanding.pop(invocation, None)
        if work is not None:
            self._link.watches.release()
            work.close()

    def heard(self) -> None:
        """Take note that the device has answered."""
        self._last_heard = time.monotonic()
        self._reason = ""

    def silent(self, reason: str) -> None:
        """Take note why the device does not answer."""
        self._reason = reason

    def statistics(self) -> dict[str, int]:
        """Return how many commands are on their way, wait for their turn, and were lost."""
        with self._lock:
            figures = {"foreign_outstanding": len(self._outstanding), "foreign_lost": self._lost}
        return figures | self.lane.statistics()

    def _begin(self, invocation: Invocation, work: ForeignCommand) -> None:
        invocation.sent_at = time.monotonic()
        with self._lock:
            self._outstanding[invocation] = work
        self._link.watches.keep()
        invocation.accepted(new_command_id(invocation.command))
        if invocation.is_closed:
            self.forget(invocation)
        work.begin()
        self._check_later()

    def _check_later(self) -> None:
        with self._lock:
            if self._checking or not self._outstanding:
                return
            self._checking = True
        self._link.network.call_later(self.CHECK_PERIOD, self._check)

    def _check(self) -> None:
        """Give up the commands of a device that does not answer.

        Not left to what asks the device, because a call to one that hangs takes nine seconds.
        """
        with self._lock:
            self._checking = False
            outstanding = list(self._outstanding)
        now = time.monotonic()
        if self._reason or self._link.watches.asks_since() > self.LOST_AFTER / 2:
            for invocation in outstanding:
                silence = now - max(self._last_heard, invocation.sent_at)
                if silence >= self.LOST_AFTER:
                    self._lose(invocation, f"no answer for {silence:.0f} s")
        self._check_later()

    def _lose(self, invocation: Invocation, why: str) -> None:
        self._lost += 1
        text = f"{self.name}: {invocation.command} is lost: {why}"
        text = f"{text}: {self._reason}" if self._reason else text
        invocation.update(TaskStatus.FAILED, result=(ResultCode.UNKNOWN, text))

    def _abort(self, invocation: Invocation) -> None:
        with self._lock:
            work = self._outstanding.get(invocation)
        if work is None or invocation.is_done:
            return
        if work.withdraw():
            text = f"{self.name}: {invocation.command} was aborted before it was sent"
            invocation.update(TaskStatus.ABORTED, result=(ResultCode.ABORTED, text))
            return
        status, code, text = self._send_abort(invocation.command)
        invocation.update(status, result=(code, f"{self.name}: {invocation.command} {text}"))

    def _send_abort(self, command: str) -> tuple[TaskStatus, ResultCode, str]:
        """Send the command that ends what the device does; return what came of it."""
        failed = (TaskStatus.FAILED, ResultCode.FAILED)
        ender = next((name for name in _ENDERS if self._is_ender(name)), None)
        if ender is None or command in _ENDERS:
            why = "it ends others" if ender else "the device has neither Abort nor Stop"
            return (*failed, f"cannot be aborted: {why}; it is not followed any more")
        try:
            self._link.connect().command_inout(ender)
        except (tango.DevFailed, Unreachable) as error:
            why = describe(error) if isinstance(error, tango.DevFailed) else str(error)
            return (*failed, f"could not be aborted: the device did not take {ender}: {why}")
        return TaskStatus.ABORTED, ResultCode.ABORTED, f"was aborted: the device took {ender}"

    def _has(self, attribute: str) -> bool:
        return attribute.casefold() in {name.casefold() for name in self._link.attributes()}

    def _is_ender(self, name: str) -> bool:
        info = self._link.command(name)
        return info is not None and info.in_type == tango.CmdArgType.DevVoid
