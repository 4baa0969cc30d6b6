"""The steps of a device's commands that wait for people: shown, answered, written down (IN-09)."""

import json
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from milonga.control_model import ResultCode
from milonga.devices._tree_job import Ticket
from milonga.errors import ArgumentError, CommandRejected
from milonga.lrc import Reply
from milonga.records import Situation, node_uid
from milonga.tasks import PendingStep, StepAsker, StepRequest

__all__ = ["ClearWish", "StepDesk", "StepRecorder"]

_LISTED = 5


class StepRecorder(Protocol):
    """Takes what becomes of steps; a `Recorder`."""

    def change(
        self,
        uid: str,
        *,
        situation: Situation | None = None,
        again: bool = False,
        deadline_at: datetime | None = None,
        data: Any = None,
    ) -> None:
        """Note how a task stands."""

    def add_step(self, uid: str, step_id: str, href: str, ui_href: str = "") -> None:
        """Note that a task waits."""

    def clear_step(self, uid: str) -> None:
        """Note that it waits no more."""

    def log(self, uid: str, text: str, level: str = "INFO") -> None:
        """Append to the log of a task."""


class ClearWish(BaseModel):
    """What ClearStep takes.

    Parameters
    ----------
    task : str
        Id of the command.
    step : str, optional
        Name of the step, or its path; needed if several steps of the command wait.
    answer : mapping, optional
        The input that was asked for.
    ok : bool, optional
        False refuses the step.
    text : str, optional
        Why, for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Annotated[str, Field(strict=True, min_length=1)]
    step: Annotated[str, Field(strict=True, min_length=1)] | None = None
    answer: dict[str, JsonValue] | None = None
    ok: Annotated[bool, Field(strict=True)] = True
    text: Annotated[str, Field(strict=True, max_length=1000)] = ""

    @classmethod
    def from_json(cls, text: str) -> "ClearWish":
        """Read the argument of ClearStep.

        Raises
        ------
        ArgumentError
            Naming each field that is wrong, what was found there and what was expected.
        """
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'argument'}: found"
                f" {str(each['input'])[:60]!r}; expected: {each['msg']}"
                for each in error.errors(include_url=False)
            )
            raise ArgumentError(f"ClearStep: {problems}") from error


class StepDesk:
    """The steps of one device that wait. Safe across threads.

    Parameters
    ----------
    device : str
        The device's name.
    changed : callable
        Called with the text that shows the steps, whenever there is another one.
    recorder : StepRecorder, optional
        Writes down what becomes of them.
    """

    def __init__(
        self,
        device: str,
        changed: Callable[[str], None],
        recorder: StepRecorder | None = None,
    ) -> None:
        self._href = f"{device}/ClearStep"
        self._changed = changed
        self._recorder = recorder
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[str, PendingStep]] = {}

    def asker(self, ticket: Ticket) -> StepAsker:
        """Return what shows the steps of a command."""

        def ask(request: StepRequest, on_update: Callable[..., None]) -> PendingStep:
            return self._open(ticket.command_id, request, on_update)

        return ask

    def text(self) -> str:
        """Return the steps that wait, the oldest first: a JSON array."""
        with self._lock:
            waiting = list(self._waiting.items())
        shown = [
            {"task": command_id, "node": uid} | _shown(step) for uid, (command_id, step) in waiting
        ]
        return json.dumps(shown)

    def clear(self, wish: ClearWish, by: str = "") -> Reply:
        """Answer a step, or refuse it.

        Raises
        ------
        CommandRejected
            If no such step waits.
        ArgumentError
            If that is no answer to what was asked; the step goes on waiting.
        """
        uid, step = self._find(wish)
        name = "/".join(step.request.path)
        try:
            done = step.clear(wish.answer, by=by) if wish.ok else step.refuse(wish.text, by=by)
        except ArgumentError as error:
            raise ArgumentError(f"ClearStep: step {name!r} still waits: {error}") from error
        if not done:
            raise CommandRejected(f"ClearStep: step {name!r} does not wait any more")
        word = "confirmed" if wish.ok else "refused"
        if self._recorder is not None:
            given = wish.text if wish.answer is None else f"{json.dumps(wish.answer)} {wish.text}"
            self._recorder.log(uid, f"{word} by {by or 'somebody'}: {given}".strip().rstrip(":"))
        return ResultCode.OK, f"step {name} {word}"

    def _find(self, wish: ClearWish) -> tuple[str, PendingStep]:
        with self._lock:
            waiting = list(self._waiting.items())
        of_task = [
            (uid, step) for uid, (command_id, step) in waiting if wish.task in {command_id, uid}
        ]
        if not of_task:
            known = ", ".join(dict.fromkeys(command for _, (command, _) in waiting)) or "none"
            raise CommandRejected(
                f"ClearStep: task: found {wish.task!r}, expected one that waits for a person:"
                f" {known}"
            )
        fitting = [one for one in of_task if wish.step is None or _is_named(one[1], wish.step)]
        if len(fitting) == 1:
            return fitting[0]
        names = ", ".join("/".join(step.request.path) for _, step in of_task[:_LISTED])
        found = "no name" if wish.step is None else repr(wish.step)
        raise CommandRejected(f"ClearStep: step: found {found}, expected one of {names}")

    # From the threads of commands

    def _open(
        self, command_id: str, request: StepRequest, on_update: Callable[..., None]
    ) -> PendingStep:
        uid = node_uid(command_id, *request.path)
        step = PendingStep(request, on_update, partial(self._close, uid, command_id))
        with self._lock:
            self._waiting[uid] = command_id, step
        recorder = self._recorder
        if recorder is not None:
            recorder.change(
                uid, situation=Situation.PAUSED, deadline_at=step.until, data=step.as_json()
            )
            recorder.change(command_id, situation=Situation.PAUSED)
            recorder.add_step(uid, request.path[-1], self._href)
        self._changed(self.text())
        return step

    def _close(self, uid: str, command_id: str, step: PendingStep) -> None:
        with self._lock:
            self._waiting.pop(uid, None)
            more = any(command == command_id for command, _ in self._waiting.values())
        recorder = self._recorder
        if recorder is not None:
            recorder.clear_step(uid)
            recorder.change(uid, data=step.as_json())
            if not more:
                recorder.change(command_id, situation=Situation.RUNNING, again=True)
        self._changed(self.text())


def _shown(step: PendingStep) -> dict[str, Any]:
    told = step.as_json()
    return {key: told[key] for key in ("step", "prompt", "input", "since", "until")}


def _is_named(step: PendingStep, name: str) -> bool:
    return name in {step.request.path[-1], "/".join(step.request.path)}
