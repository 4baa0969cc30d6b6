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
from milonga.lrc._reply import answer_of
from milonga.lrc._state_wait import StateWait
from milonga.lrc._wire import new_command_id
from milonga.tracking import AbortAnswer

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

    ABORT_PATIENCE = 2.5
    """Seconds that a device has to answer the wish to end a command."""

    LOOK_WAIT = 0.3
    """Seconds that a last look takes at the most."""

    CHECK_PERIOD = 1.0
    """Seconds between checks for that."""

    def __init__(self, link: "Link") -> None:
        self._link = link
        self.name = link.name
        self.lane = Lane(f"milonga-plain {link.name}")
        self.urgent_lane = Lane(f"milonga-urgent {link.name}")
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
        urgent: bool = False,
    ) -> None:
        """Send a command; may wait for the network. What follows is told to the invocation."""
        if invocation.withdrawn():
            return
        command = invocation.command
        try:
            self._link.connect()
            data = to_device_data(
                self.name,
                command,
                self._link.command(command),
                invocation.argument,
                self._link.described_commands(),
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
        lane = self.urgent_lane if urgent else self.lane
        self._begin(invocation, ForeignCommand(self._link, invocation, data, timeout, lane, wait))

    def abort(self, invocation: Invocation) -> None:
        """Ask the device to end a command, once it is being sent. Returns at once."""
        self._link.answer_due(invocation, self.ABORT_PATIENCE)
        with self._lock:  # now, as who gives it up stops following it right after asking
            work = self._outstanding.get(invocation)
        if invocation.command_id is not None:
            self._link.network.run_abort(lambda: self._abort(invocation, work))

    def look(self, invocation: Invocation) -> None:
        """Look at what is watched now; a command that has returned nothing is not looked at."""
        self._link.watches.look_soon()
        self._link.network.call_later(self.LOOK_WAIT, invocation.looked)

    def abort_grace(self) -> float:
        """Return how many seconds longer the device may take to end what it was asked to end."""
        return 0.0

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
        with self._lock:
            outstanding = list(self._outstanding)
        for invocation in outstanding:
            invocation.is_alive()

    def silent(self, reason: str) -> None:
        """Take note why the device does not answer."""
        self._reason = reason

    def outstanding(self) -> list[Invocation]:
        """Return the commands that are on their way."""
        with self._lock:
            return list(self._outstanding)

    def close(self) -> None:
        """Make no further call. Returns at once."""
        self.lane.close()
        self.urgent_lane.close()

    def join(self, timeout: float) -> bool:
        """Wait for the calls under way, as long at the most; tell whether they have ended."""
        end = time.monotonic() + timeout
        lanes = (self.lane, self.urgent_lane)
        return all(lane.join(max(0.0, end - time.monotonic())) for lane in lanes)

    def statistics(self) -> dict[str, int]:
        """Return how many commands are on their way, wait for their turn, and were lost."""
        with self._lock:
            figures = {"foreign_outstanding": len(self._outstanding), "foreign_lost": self._lost}
        return figures | self.lane.statistics()

    def _begin(self, invocation: Invocation, work: ForeignCommand) -> None:
        invocation.sent_at = time.monotonic()
        self._link.watches.keep()
        with self._lock:
            self._outstanding[invocation] = work
        invocation.accepted(new_command_id(invocation.command))
        if invocation.is_closed:
            self.forget(invocation)
            if invocation.wants_abort:
                return
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

    def _abort(self, invocation: Invocation, work: ForeignCommand | None) -> None:
        if work is None or invocation.is_done:
            invocation.abort_answered(AbortAnswer.ACK, "it had ended")
            return
        if work.withdraw():
            text = f"{self.name}: {invocation.command} was aborted before it was sent"
            invocation.update(TaskStatus.ABORTED, result=(ResultCode.ABORTED, text))
            invocation.abort_answered(AbortAnswer.ACK, "it was not sent")
            return
        answer, text = self._send_abort(invocation.command)
        worked = answer is AbortAnswer.ACK
        status = TaskStatus.ABORTED if worked else TaskStatus.FAILED
        code = ResultCode.ABORTED if worked else ResultCode.FAILED
        # the end first: it says more than that the abort was refused
        invocation.update(status, result=(code, f"{self.name}: {invocation.command} {text}"))
        invocation.abort_answered(answer, text)

    def _send_abort(self, command: str) -> tuple[AbortAnswer, str]:
        """Send the command that ends what the device does; return what came of it."""
        ender = next((name for name in _ENDERS if self._is_ender(name)), None)
        if ender is None or command in _ENDERS:
            why = "it ends others" if ender else "the device has neither Abort nor Stop"
            text = f"cannot be aborted: {why}; it is not followed any more"
            return AbortAnswer.REFUSED, text
        try:
            self._link.connect().command_inout(ender)
        except tango.DevFailed as error:
            answer, why = answer_of(error)
        except Unreachable as error:
            answer, why = AbortAnswer.UNREACHABLE, str(error)
        else:
            return AbortAnswer.ACK, f"was aborted: the device took {ender}"
        return answer, f"could not be aborted: the device did not take {ender}: {why}"

    def _has(self, attribute: str) -> bool:
        return attribute.casefold() in {name.casefold() for name in self._link.attributes()}

    def _is_ender(self, name: str) -> bool:
        info = self._link.command(name)
        return info is not None and info.in_type == tango.CmdArgType.DevVoid
