"""One command at a device without long-running commands: called, and followed to its end."""

import threading
import time
from typing import TYPE_CHECKING, Any

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import Unreachable
from milonga.lrc._invocation import Invocation
from milonga.lrc._lane import Lane
from milonga.lrc._reply import code_and_text, describe, is_not_allowed, is_unreachable
from milonga.lrc._state_wait import StateWait
from milonga.lrc._values import plain_value
from milonga.lrc._wire import to_json

if TYPE_CHECKING:
    from milonga.lrc._link import Link
    from milonga.lrc._scheduler import Timer

__all__ = ["ForeignCommand", "reply_result"]

LONGEST_REPLY = 4000
"""How many characters of a reply are told at the most."""

SEND_WAIT = 3.0
"""Seconds that an abort waits for its command to be sent."""

_FIRST_PAUSE, _LAST_PAUSE = 0.001, 0.02
"""Seconds between looks for a reply: short at first, so that quick commands are quick."""

_REFUSED = frozenset({ResultCode.REJECTED, ResultCode.NOT_ALLOWED})
_UNDER_WAY = frozenset({ResultCode.STARTED, ResultCode.QUEUED})


class ForeignCommand:
    """A synchronous command on its way, and the state that it is to lead to, if any.

    The call has a proxy and a thread that nobody shares, since a device that hangs holds both for
    longer than any timeout says. So the deadline is kept by a timer, not by the call.

    Parameters
    ----------
    link : Link
        The connection to the device.
    invocation : Invocation
        Is told what becomes of it.
    data : tango.DeviceData
        The argument.
    timeout : float
        Seconds that all of it may take, with the time that the call waits for its turn.
    lane : Lane
        Where it waits for its turn.
    wait : StateWait, optional
        What follows when the command has returned.
    """

    def __init__(
        self,
        link: "Link",
        invocation: Invocation,
        data: tango.DeviceData,
        timeout: float,
        lane: Lane,
        wait: StateWait | None = None,
    ) -> None:
        self._link = link
        self._invocation = invocation
        self._data = data
        self._timeout = timeout
        self._end = time.monotonic() + timeout
        self._lane = lane
        self._wait = wait
        self._lock = threading.Lock()
        self._begun = False
        self._sent = threading.Event()
        self._withdrawn = False
        self._has_returned = False
        self._deadline: Timer | None = None

    def begin(self) -> None:
        """Queue the call. Returns at once."""
        self._deadline = self._link.network.call_later(
            self._end - time.monotonic(), self._reach_deadline
        )
        if not self._lane.add(self._run):
            self._withdrawn = True
            text = "too many commands wait for their turn at the device"
            self._finish(TaskStatus.REJECTED, ResultCode.REJECTED, f"was not sent: {text}")

    def withdraw(self) -> bool:
        """Do not make the call if it has not begun; tell whether that is so.

        Otherwise waits until the call is on the wire, so that an abort does not overtake it.
        """
        with self._lock:
            self._withdrawn = not self._begun
        if not self._withdrawn:
            self._sent.wait(SEND_WAIT)
        return self._withdrawn

    def close(self) -> None:
        """Follow it no longer. Returns at once."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._wait is not None:
            self._wait.close()

    def _run(self) -> None:
        if self._withdrawn or self._invocation.is_done:
            return
        if self._wait is not None and (text := self._wait.is_over_before()):
            self._finish(TaskStatus.COMPLETED, ResultCode.OK, f"was not sent: {text}")
            return
        try:
            proxy = tango.DeviceProxy(self._link.trl)
            if self._may_begin():
                self._returned(self._call(proxy))
        except tango.DevFailed as error:
            self._failed(error)
        except Unreachable as error:
            self._finish(TaskStatus.FAILED, ResultCode.UNKNOWN, f"is lost: {error}")

    def _may_begin(self) -> bool:
        with self._lock:
            self._begun = not (self._withdrawn or self._invocation.is_done)
            return self._begun

    def _call(self, proxy: tango.DeviceProxy) -> Any:
        milliseconds = max(1, int((self._end - time.monotonic()) * 1000))
        proxy.set_timeout_millis(milliseconds)
        # Sent and asked for, not called: a thread inside a call cannot be ended, and keeps the
        # process from ending.
        request = proxy.command_inout_asynch(self._invocation.command, self._data)
        self._sent.set()
        self._invocation.update(TaskStatus.IN_PROGRESS)
        pause = _FIRST_PAUSE
        while not self._lane.wait_closed(pause):
            try:
                return proxy.command_inout_reply(request)
            except tango.AsynReplyNotArrived:
                pause = min(2 * pause, _LAST_PAUSE)
        proxy.cancel_asynch_request(request)
        self._link.network.abandon(self._end)
        raise Unreachable("this process is shutting down")

    def _returned(self, reply: Any) -> None:
        status, code, text = reply_result(reply, speaks_ska=self._speaks_ska())
        with self._lock:
            self._has_returned = True
        if self._wait is not None and code is ResultCode.OK:
            self._wait.begin(self._finish)
        else:
            self._finish(status, code, text or "has returned")

    def _speaks_ska(self) -> bool:
        """Tell whether a number and a text that the device returns are code and message."""
        return self._link.lrc.is_offered() or "healthState" in self._link.attributes()

    def _failed(self, error: tango.DevFailed) -> None:
        if time.monotonic() >= self._end:
            self._reach_deadline()
        elif not self._begun:
            text = f"was not sent: {describe(error)}"
            self._finish(TaskStatus.FAILED, ResultCode.FAILED, text)
        elif is_unreachable(error):
            text = f"is lost: {describe(error)}"
            self._finish(TaskStatus.FAILED, ResultCode.UNKNOWN, text)
        elif is_not_allowed(error):
            self._finish(TaskStatus.REJECTED, ResultCode.NOT_ALLOWED, f"refused: {describe(error)}")
        else:
            self._finish(TaskStatus.FAILED, ResultCode.FAILED, f"failed: {describe(error)}")

    def _reach_deadline(self) -> None:
        with self._lock:
            begun, self._withdrawn = self._begun, not self._begun
            returned = self._has_returned
        if returned and self._wait is not None:
            self._wait.reach_deadline()
        elif begun:
            text = f"has not returned within {self._timeout:g} s; whether it goes on is not known"
            self._finish(TaskStatus.FAILED, ResultCode.FAILED, text)
        else:
            text = f"was not sent: the device was busy with others for {self._timeout:g} s"
            self._finish(TaskStatus.FAILED, ResultCode.FAILED, text)

    def _finish(self, status: TaskStatus, code: ResultCode, text: str) -> None:
        message = f"{self._link.name}: {self._invocation.command} {text}"
        self._invocation.update(status, result=(code, message))


def reply_result(reply: Any, *, speaks_ska: bool) -> tuple[TaskStatus, ResultCode, str]:
    """Return status, code and text for what a synchronous command returned.

    Parameters
    ----------
    reply
        What Tango gave.
    speaks_ska : bool
        Whether ``([code], [text])`` means a `ResultCode` and a message.

    Examples
    --------
    >>> reply_result([[3], ["no power"]], speaks_ska=True)[2]
    'answered FAILED: no power'
    >>> reply_result([1, 2], speaks_ska=False)[2]
    'returned [1, 2]'
    """
    value = plain_value(reply)
    if speaks_ska:
        try:
            return _ska_result(*code_and_text(value))
        except (TypeError, ValueError):
            pass  # something else, then
    if value is None:
        return TaskStatus.COMPLETED, ResultCode.OK, ""
    text = f"returned {value if isinstance(value, str) else to_json(value)}"
    text = text if len(text) <= LONGEST_REPLY else f"{text[:LONGEST_REPLY]}…"
    return TaskStatus.COMPLETED, ResultCode.OK, text


def _ska_result(code: ResultCode, text: str) -> tuple[TaskStatus, ResultCode, str]:
    status = TaskStatus.REJECTED if code in _REFUSED else TaskStatus.COMPLETED
    return status, ResultCode.OK if code in _UNDER_WAY else code, f"answered {code.name}: {text}"
