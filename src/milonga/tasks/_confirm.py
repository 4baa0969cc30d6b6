"""CONFIRM leaves: steps that wait for a person (IN-09)."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import JsonValue

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ArgumentError
from milonga.tasks._context import Invocation
from milonga.tasks._step_input import check_answer

__all__ = ["CONFIRM_TIMEOUT", "OPERATOR", "PendingStep", "StepAsker", "StepRequest"]

CONFIRM_TIMEOUT = 600.0
"""Seconds that a step waits for a person, if the map does not say."""

OPERATOR = "operator"
"""Who does the work of such a step."""


@dataclass(frozen=True)
class StepRequest:
    """What a person is asked.

    Parameters
    ----------
    path : tuple of str
        Names of the nodes on the way down to the step, without the root's.
    prompt : str
        The question.
    schema : mapping or None
        JSON schema of the answer; None if a yes or no is all that is asked.
    timeout : float
        Seconds to wait.
    """

    path: tuple[str, ...]
    prompt: str
    schema: Mapping[str, Any] | None
    timeout: float


StepAsker = Callable[[StepRequest, Callable[..., None]], Invocation]
"""Shows a step, and reports by the function that takes updates.

The answer is the keyword ``answer`` of the last update.
"""


class PendingStep:
    """A step that waits, as the invocation of its leaf. Safe across threads.

    Parameters
    ----------
    request : StepRequest
        What is asked.
    on_update : callable
        Takes the updates of the leaf.
    gone : callable, optional
        Called once, with this object, when it waits no more, before the leaf hears of it.
    now : callable, optional
        Aware time of day.
    """

    command_id: str | None = None

    def __init__(
        self,
        request: StepRequest,
        on_update: Callable[..., None],
        gone: Callable[["PendingStep"], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.request = request
        self.since = now()
        self.answer: JsonValue = None
        self.by = ""
        self._on_update = on_update
        self._gone = gone
        self._lock = threading.Lock()
        self._waits = True

    @property
    def until(self) -> datetime:
        """When the step times out."""
        return self.since + timedelta(seconds=self.request.timeout)

    def clear(self, answer: JsonValue = None, *, by: str = "") -> bool:
        """Go on with an answer; return False if the step does not wait any more.

        Raises
        ------
        ArgumentError
            If this is no answer to what was asked; the step goes on waiting.
        """
        if self.request.schema is not None:
            check_answer(self.request.schema, {} if answer is None else answer)
        elif answer not in (None, {}):
            raise ArgumentError(
                f"answer: found {answer!r:.80}, expected none, as the step asks for no input"
            )
        if not self._leave(answer, by):
            return False
        text = f"confirmed by {by}" if by else "confirmed"
        update = {"status": TaskStatus.COMPLETED, "result": (ResultCode.OK, text)}
        self._on_update(**update, answer=answer)
        return True

    def refuse(self, text: str = "", *, by: str = "") -> bool:
        """End the step as rejected; return False if it does not wait any more."""
        if not self._leave(by=by):
            return False
        whom = f" by {by}" if by else ""
        words = f"refused{whom}: {text}" if text else f"refused{whom}"
        self._on_update(status=TaskStatus.REJECTED, result=(ResultCode.REJECTED, words))
        return True

    def abort(self) -> None:
        """End the step, as the command is aborted."""
        if self._leave():
            text = "aborted while it waited for a person"
            self._on_update(status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, text))

    def close(self) -> None:
        """Wait no more; the leaf has its end."""
        self._leave()

    def details(self) -> dict[str, Any]:
        """Return what the snapshot of the leaf shows of the step."""
        return {"step": self.as_json()}

    def as_json(self) -> dict[str, Any]:
        """Return what is asked, ready for JSON."""
        with self._lock:
            waits = self._waits
        return {
            "step": "/".join(self.request.path),
            "prompt": self.request.prompt,
            "input": dict(self.request.schema) if self.request.schema is not None else None,
            "since": self.since.isoformat(timespec="milliseconds"),
            "until": self.until.isoformat(timespec="milliseconds"),
            "waits": waits,
            "answer": self.answer,
            "by": self.by,
        }

    def _leave(self, answer: JsonValue = None, by: str = "") -> bool:
        with self._lock:
            waited, self._waits = self._waits, False
            if waited:
                self.answer, self.by = answer, by
        if waited:
            self._gone(self)
        return waited
