"""A child's command as a status that plans wait for."""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from milonga.control_model import FINAL_STATUSES, ResultCode, TaskStatus
from milonga.engine._scheduler import scheduler
from milonga.engine._status import Status
from milonga.errors import InvalidState, InvocationFailed

__all__ = ["ChildCall", "ChildCaller", "ChildInvocation", "InvocationStatus"]

_ENDED = FINAL_STATUSES | {TaskStatus.NOT_FOUND}

RESULT_GRACE = 0.5
"""Seconds for which a final status waits for its result."""


class ChildInvocation(Protocol):
    """A command on its way at a child."""

    @property
    def command_id(self) -> str | None:
        """The child's id of the command."""

    def abort(self) -> None:
        """Ask the child to end the command; return at once."""

    def close(self) -> None:
        """Stop listening; return at once."""


class ChildCaller(Protocol):
    """The way to children, given to an engine by who owns it."""

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> ChildInvocation:
        """Start a command; return at once, and report by `on_update`, from any thread."""


class InvocationStatus(Status):
    """Done when a child's command has ended, and failed unless it ended with `ResultCode.OK`.

    Parameters
    ----------
    child, command : str
        What is done where.
    timeout : float, optional
        Seconds after which it is done, and failed, although the child goes on.
    when_over : callable, optional
        Called, from any thread, when the child has said how the command ended; maybe repeatedly.

    Attributes
    ----------
    outcome : tuple
        The result code and the message of the child; None while there is none.
    """

    def __init__(
        self,
        child: str,
        command: str,
        *,
        timeout: float | None = None,
        when_over: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(name=f"{child}.{command}", timeout=timeout)
        self._when_over = when_over
        self.child = child
        self.command = command
        self.outcome: tuple[ResultCode, str] | None = None
        self._seen = threading.Lock()
        self._final: TaskStatus | None = None
        self._error: object = None

    @property
    def has_ended(self) -> bool:
        """Whether the child has said that the command is over; the status may be done before."""
        return self._final is not None

    def on_update(
        self,
        *,
        status: Any = None,
        progress: int | None = None,
        result: Any = None,
        error: object = None,
        **_more: object,
    ) -> None:
        """Take what the child says; from any thread, never raises."""
        if progress is not None:
            self.report_progress(name=self.name, fraction=progress / 100)
        with self._seen:
            self._error = error or self._error
            if result is not None and self.outcome is None:
                self.outcome = _as_outcome(result)
            if status is not None and status in _ENDED:
                self._final = self._final or TaskStatus(status)
            final, complete = self._final, self.outcome is not None
        if final is not None:
            if complete:
                self._judge()
            else:
                scheduler.call_later(RESULT_GRACE, self._judge)

    def _judge(self) -> None:
        final = self._final
        if self.outcome is None:
            code = ResultCode.OK if final is TaskStatus.COMPLETED else ResultCode.UNKNOWN
            self.outcome = (code, "no result came with the status")
        code, message = self.outcome
        well = final is TaskStatus.COMPLETED and code is ResultCode.OK
        try:
            if well:
                self.set_finished()
            else:
                ended = final.name if final is not None else "nothing"
                text = f"{self.child}: {self.command} ended {ended}, {code.name}: {message}"
                more = f" ({self._error})" if self._error else ""
                self.set_exception(InvocationFailed(text + more))
        except InvalidState:
            pass  # it had been judged, or was too late
        self._when_over()


class ChildCall:
    """A command at a child, for the plan that has given it; for the event loop's thread.

    Parameters
    ----------
    status : InvocationStatus
        What the plan waits for.
    invocation : ChildInvocation
        The command on its way.
    """

    def __init__(self, status: InvocationStatus, invocation: ChildInvocation) -> None:
        self._status = status
        self._invocation = invocation
        self._abandoned = False

    def abandon(self) -> None:
        """Abort the command, once, unless it is over: nobody waits for it any more."""
        if not (self._status.has_ended or self._abandoned):
            self._abandoned = True
            self._invocation.abort()

    def let_go(self) -> None:
        """Abandon the command, and hear no more of it."""
        self.abandon()
        self._invocation.close()


def _as_outcome(result: Any) -> tuple[ResultCode, str]:
    if isinstance(result, (tuple, list)) and result:
        code, *texts = result
        try:
            return ResultCode(int(code)), " ".join(map(str, texts))
        except (TypeError, ValueError):
            pass
    return ResultCode.UNKNOWN, str(result)
