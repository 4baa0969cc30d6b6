"""One command on its way at a device, seen from the client."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.errors import Unreachable
from milonga.tracking import parse_result

__all__ = ["Carrier", "Invocation", "OnUpdate", "Outcome"]

_log = logging.getLogger(__name__)

OnUpdate = Callable[..., None]
"""Called with any of ``status``, ``progress``, ``result`` by keyword; must accept others too."""

_RESULT_OF_STATUS = {
    TaskStatus.COMPLETED: ResultCode.OK,
    TaskStatus.ABORTED: ResultCode.ABORTED,
    TaskStatus.REJECTED: ResultCode.REJECTED,
    TaskStatus.FAILED: ResultCode.FAILED,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command.

    `result` is what the device sent; `result_code` and `message` are read from it. `seconds` is
    the time from the call to the end as this client saw it.
    """

    command_id: str | None
    command: str
    device: str
    status: TaskStatus
    result_code: ResultCode
    message: str
    result: object
    seconds: float

    @property
    def is_ok(self) -> bool:
        """Whether the command ran to its end and succeeded."""
        return self.status is TaskStatus.COMPLETED and self.result_code is ResultCode.OK


class Carrier(Protocol):
    """What a command is sent and followed by, according to the kind of device."""

    name: str
    """The device's name."""

    def abort(self, invocation: "Invocation") -> None:
        """Ask the device to end one command. Returns at once."""

    def forget(self, invocation: "Invocation") -> None:
        """Stop following a command."""


class Invocation:
    """A command on its way at a device. Safe across threads.

    `on_update` is called from the threads of the link, one call at a time, in order, and not at
    all after the final status.
    """

    def __init__(
        self, carrier: Carrier, command: str, argument: str | None, on_update: OnUpdate | None
    ) -> None:
        self.carrier = carrier
        self.command = command
        self.argument = argument
        self._on_update = on_update
        self._telling = threading.RLock()
        self._began = time.monotonic()
        self._accepted = threading.Event()
        self._done = threading.Event()
        self.command_id: str | None = None
        self.sent_at = self._began
        self.error: Exception | None = None
        """Why the command was not accepted, if it was not."""
        self.missing = 0
        """How many reads in a row did not find the command at the device."""
        self._status: TaskStatus | None = None
        self._progress: object = None
        self._result: object = None
        self._seconds = 0.0
        self._wants_abort = False
        self._closed = False

    @property
    def device(self) -> str:
        """The device's name."""
        return self.carrier.name

    @property
    def is_done(self) -> bool:
        """Whether the command has ended."""
        return self._done.is_set()

    @property
    def is_closed(self) -> bool:
        """Whether nobody listens any more."""
        return self._closed

    def abort(self) -> None:
        """Ask the device to end this command. Returns at once; the answer comes as its end."""
        self._wants_abort = True
        if self.command_id is not None and not self.is_done:
            self.carrier.abort(self)

    def close(self) -> None:
        """Stop listening: `on_update` is not called any more."""
        self._closed = True
        self._on_update = None
        self.carrier.forget(self)

    def wait_accepted(self, timeout: float | None = None) -> bool:
        """Wait until the device has answered the call; tell whether it has in time."""
        return self._accepted.wait(timeout)

    def taken(self, timeout: float) -> Self:
        """Wait until the device has taken the command, and return this.

        Parameters
        ----------
        timeout : float
            Seconds to wait; after them nobody listens any more.

        Raises
        ------
        CommandRejected, Unreachable, ProtocolError
            Why the device has not.
        """
        if not self.wait_accepted(timeout):
            self.close()
            raise Unreachable(f"{self.device}/{self.command}: no answer")
        if self.error is not None:
            raise self.error
        return self

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Wait until the command has ended.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; for ever if not given.

        Returns
        -------
        Outcome or None
            What became of it; None if it has not ended in time.
        """
        return self.outcome() if self._done.wait(timeout) else None

    def outcome(self) -> Outcome | None:
        """Return what became of the command; None if it has not ended."""
        status = self._status
        if not self.is_done or status is None:
            return None
        code, message = parse_result(self._result, status)
        return Outcome(
            command_id=self.command_id,
            command=self.command,
            device=self.device,
            status=status,
            result_code=_RESULT_OF_STATUS[status] if code is None else code,
            message=message,
            result=self._result,
            seconds=self._seconds,
        )

    def accepted(self, command_id: str) -> None:
        """Take note of the id that the device gave."""
        self.command_id = command_id
        self._accepted.set()
        if self._wants_abort:
            self.carrier.abort(self)

    def refused(self, status: TaskStatus, code: ResultCode, text: str, error: Exception) -> None:
        """Take note that the device did not take the command."""
        self.error = error
        self.update(status=status, result=(code, text))
        self._accepted.set()

    def shut_out(self) -> None:
        """Take note that the command was not sent, because this process is ending."""
        why = "this process is shutting down"
        text = f"{self.device}: {self.command} was not sent: {why}"
        self.refused(TaskStatus.FAILED, ResultCode.FAILED, text, Unreachable(why))

    def update(
        self, status: TaskStatus | None = None, progress: object = None, result: object = None
    ) -> None:
        """Pass on what is new. Never raises."""
        with self._telling:  # keeps the callbacks of several threads in order
            news = self._news(status, progress, result)
            callback = self._on_update
            if news and callback is not None:
                try:
                    callback(**news)
                except Exception:  # noqa: BLE001 - the event thread belongs to all devices
                    _log.exception("a callback for %s of %s failed", self.command, self.device)
            if status is not None and "status" in news and is_final(status):
                self._done.set()
        if self._done.is_set():
            self.carrier.forget(self)

    def _news(
        self, status: TaskStatus | None, progress: object, result: object
    ) -> dict[str, object]:
        if self.is_done:
            return {}
        news: dict[str, object] = {}
        if status is not None and status is not self._status and not self._goes_back(status):
            self._status = news["status"] = status
            if is_final(status):
                self._seconds = time.monotonic() - self._began
        if progress is not None and progress != self._progress:
            self._progress = news["progress"] = progress
        if result is not None and result != self._result:
            self._result = news["result"] = result
        return news

    def _goes_back(self, status: TaskStatus) -> bool:
        return not is_final(status) and self._status is not None and status < self._status
