"""One command on its way at a device, seen from the client."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.errors import CommandRejected, ProtocolError, Unreachable
from milonga.lrc._irregular import EventJudge
from milonga.lrc._reading import CommandNews
from milonga.tracking import AbortAnswer, parse_result

if TYPE_CHECKING:
    from milonga.lrc._confirming import Confirmation

__all__ = ["Carrier", "Invocation", "OnUpdate", "Outcome"]

_log = logging.getLogger(__name__)

OnUpdate = Callable[..., None]
"""Called with any of ``command_id``, ``status``, ``progress``, ``result`` by keyword.

Who wants signs is also told ``alive=True`` when the device was seen to have the command,
``extend`` with the seconds that it asks for besides, ``looked=True`` after a look that was asked
for, ``lost=True`` before an end of which nobody knows whether it is one, and ``abort_ack`` and
``abort_text`` once the answer to an abort is known, be it after the end or after
`Invocation.close`.

It must accept others too.
"""

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
        """Ask the device to end one command, once its id is known. Returns at once.

        The answer, or that there is none, is told to `Invocation.abort_answered` in any case.
        """

    def abort_grace(self) -> float:
        """Return how many seconds longer the device may take to end what it was asked to end."""

    def look(self, invocation: "Invocation") -> None:
        """Look at one command now, and then call its `Invocation.looked`. Returns at once."""

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
        self.unexplained = 0
        """How many reads found that it has ended, but not its result."""
        self.knows_result = False
        """Whether its result is known, be it that it is held back."""
        self.server_start = ""
        """Since when the device's server ran when the command was sent, as far as is known."""
        # A lock of its own: who holds a device's monitor may ask, and `_telling` may wait for that.
        self._judging = threading.Lock()
        self.events = EventJudge()
        """What was wrong with the events of the command."""
        self._status: TaskStatus | None = None
        self._progress: object = None
        self._result: object = None
        self._extended = 0.0
        self._seconds = 0.0
        self.wants_abort = False
        """Whether the command is to end."""
        self.abort_all = False
        """Whether the device may be told to end all it does if it does not end this command."""
        self.abort_answer: AbortAnswer | None = None
        """What the device answered to that; None while it is not known."""
        self._on_abort: OnUpdate | None = None
        self.signs = False
        """Whether `on_update` is also told of signs, which are no news of the command."""
        self.seconds: float | None = None
        """How long the command may take from now on, if the device is to be told."""
        self._closed = False
        self.patient_until = 0.0
        """Until when a refusal may be due to an abort that the device was sent before."""
        self.confirmation: Confirmation | None = None
        """What has to agree before a success counts, if anything has to."""
        self._on_over: Callable[[], None] | None = None

    def when_over(self, function: Callable[[], None]) -> None:
        """Call `function` once the command is not followed any more; to be set before it is sent.

        From any thread; it must be quick.
        """
        self._on_over = function

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

    def details(self) -> dict[str, Any]:
        """Return what is waited for beside the result, if that is there; ready for JSON."""
        confirmation = self.confirmation
        holds = confirmation is not None and confirmation.holds
        return {"until": confirmation.words} if confirmation is not None and holds else {}

    @property
    def _has_ended_there(self) -> bool:
        """Whether the device has told the end, be it that this is still to be confirmed."""
        held = self.confirmation is not None and self.confirmation.holds
        return held or self.is_done

    def abort(self) -> None:
        """Ask the device to end this command. Returns at once; the answer comes soon."""
        self.wants_abort = True
        if self.confirmation is not None and self.confirmation.holds:
            self.confirmation.abort()
            self.abort_answered(AbortAnswer.ACK, "it had ended, and was waited for no longer")
        elif not self.is_done:
            self.carrier.abort(self)

    def abort_answered(self, answer: AbortAnswer, text: str = "") -> None:
        """Take what the device answered to the abort; the first answer counts. Never raises."""
        with self._telling:
            if self.abort_answer is not None:
                return
            self.abort_answer = answer
            callback, self._on_abort = self._on_update or self._on_abort, None
            self._sign(callback, abort_ack=str(answer), abort_text=text)

    @property
    def abort_grace(self) -> float:
        """How many seconds longer than others the device may take to end the command."""
        return self.carrier.abort_grace()

    def look_again(self) -> None:
        """Look at the device now; news come as always, and after them ``looked=True``."""
        if self.confirmation is not None and self.confirmation.holds:
            self.confirmation.look_last()
        else:
            self.carrier.look(self)

    def looked(self) -> None:
        """Take note that what is known now is all that is to be known."""
        with self._telling:
            self._sign(self._on_update, looked=True)

    @property
    def time_left(self) -> float | None:
        """How many seconds the command may still take, if the device is to be told."""
        if self.seconds is None:
            return None
        return self.seconds - (time.monotonic() - self._began)

    def close(self) -> None:
        """Stop listening: `on_update` is not called any more, except for an abort's answer."""
        self._closed = True
        if self.wants_abort and self.abort_answer is None:
            self._on_abort = self._on_update
        self._on_update = None
        self._let_go()

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
        error = self.error
        if error is not None:
            self.close()
            raise error
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
        """Take note of the id that the device gave, and pass it on."""
        self.command_id = command_id
        self.error = None
        self._accepted.set()
        with self._telling:
            self._call_back({"command_id": command_id})
        if self.wants_abort:
            self.carrier.abort(self)

    def refused(self, status: TaskStatus, code: ResultCode, text: str, error: Exception) -> None:
        """Take note that the device did not take the command."""
        self.error = error
        self.update(status=status, result=(code, text))
        self._accepted.set()

    def send_by(self, send: Callable[[], None]) -> None:
        """Have `send` send the command; if that fails as nobody expected, it is refused."""
        try:
            send()
        except Exception as error:  # noqa: BLE001 - who waits for it must not wait for ever
            _log.exception("%s of %s could not be sent", self.command, self.device)
            reason = f"{type(error).__name__}: {error}"
            text = f"{self.device}: {self.command} could not be sent: {reason}"
            why = ProtocolError(text)
            why.__cause__ = error
            self.refused(TaskStatus.FAILED, ResultCode.FAILED, text, why)

    def unanswered(self, error: Exception) -> None:
        """Take note that the call was not answered, but the device may have the command.

        Who waits for it to be taken is told so; who follows it is told what is found.
        """
        self.error = error
        self._accepted.set()

    def withdrawn(self) -> bool:
        """Tell whether the command is to end before it was sent; it then has ended."""
        if not self.wants_abort:
            return False
        text = f"{self.device}: {self.command} was aborted before it was sent"
        self.refused(TaskStatus.ABORTED, ResultCode.ABORTED, text, CommandRejected(text))
        self.abort_answered(AbortAnswer.ACK, "it was not sent")
        return True

    def shut_out(self) -> None:
        """Take note that the command was not sent, because this process is ending."""
        why = "this process is shutting down"
        text = f"{self.device}: {self.command} was not sent: {why}"
        self.refused(TaskStatus.FAILED, ResultCode.FAILED, text, Unreachable(why))

    def heard(self, news: CommandNews) -> str:
        """Take what an event tells; return what was wrong with it. Never raises."""
        with self._judging:
            kind = self.events.heard(news, over=self._has_ended_there)
        if kind != "doubled":
            self._note_extension(news.extend)
            self.update(news.status, news.progress, news.result)
        return kind

    def found(self, news: CommandNews) -> bool:
        """Take what a look at the device tells; return whether it tells an end no event told."""
        self.missing = 0
        over = news.status is not None and is_final(news.status) and not self._has_ended_there
        if over and news.status is not None:
            with self._judging:
                self.events.missed(news.status)
        self._note_extension(news.extend)
        self.update(news.status, news.progress, news.result)
        self.is_alive()
        return over

    def lost(self, text: str, *, gone: bool = False) -> None:
        """Take note that nobody knows what becomes of the command.

        With `gone` the device was seen not to know it, so that it does not run there any more.
        """
        if not (gone or self.is_done):
            with self._telling:
                self._sign(self._on_update, lost=True)
        self.update(TaskStatus.FAILED, result=(ResultCode.UNKNOWN, text))

    def is_alive(self) -> None:
        """Take note that the device has the command, if only with nothing new."""
        if not self.is_done:
            with self._telling:
                self._sign(self._on_update, alive=True)

    def _note_extension(self, total: float) -> None:
        """Take note of how much more time the device has asked for in all; pass on what is new."""
        with self._telling:
            more, self._extended = total - self._extended, max(total, self._extended)
            if more > 0 and not self.is_done:
                self._sign(self._on_update, extend=more)

    def irregular(self) -> dict[str, object]:
        """Return what was wrong with the events of the command, ready for JSON."""
        with self._judging:
            counts = dict(self.events.counts)
            return counts | {"notes": list(self.events.notes)} if counts else {}

    def update(
        self, status: TaskStatus | None = None, progress: object = None, result: object = None
    ) -> None:
        """Pass on what is new. Never raises."""
        with self._telling:  # keeps the callbacks of several threads in order
            self.knows_result = self.knows_result or result is not None
            if self.confirmation is not None:
                status, result = self.confirmation.passed(status, result)
            news = self._news(status, progress, result)
            if news:
                self._call_back(news)
            if status is not None and "status" in news and is_final(status):
                self._done.set()
        if self._done.is_set():
            self._let_go()

    def _let_go(self) -> None:
        self.carrier.forget(self)
        if self.confirmation is not None:
            self.confirmation.close()
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            on_over()

    def _sign(self, callback: OnUpdate | None, **sign: object) -> None:
        if self.signs:
            self._call(callback, sign)

    def _call_back(self, news: dict[str, object]) -> None:
        self._call(self._on_update, news)

    def _call(self, callback: OnUpdate | None, news: dict[str, object]) -> None:
        if callback is None:
            return
        try:
            callback(**news)
        except Exception:  # noqa: BLE001 - the event thread belongs to all devices
            _log.exception("a callback for %s of %s failed", self.command, self.device)

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
        if progress is not None and progress != self._progress and not self._is_less(progress):
            self._progress = news["progress"] = progress
        if result is not None and result != self._result:
            self._result = news["result"] = result
        return news

    def _is_less(self, progress: object) -> bool:
        known = self._progress
        both = isinstance(progress, int | float) and isinstance(known, int | float)
        return both and progress < known  # type: ignore[operator]

    def _goes_back(self, status: TaskStatus) -> bool:
        return not is_final(status) and self._status is not None and status < self._status
