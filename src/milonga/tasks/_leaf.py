"""Leaves: the nodes that have work done, by a child device or by a method."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks._acknowledgement import AbortListener, Acknowledgement
from milonga.tasks._context import (
    ExecutionContext,
    Invocation,
    LeafAction,
    Subdivided,
    TimedCaller,
)
from milonga.tasks._kinds import TaskType, Tolerance
from milonga.tasks._node import BaseTask, Phase
from milonga.tracking import AbortAnswer, PolicyRules, TaskAggregationPolicy

__all__ = ["LeafTask"]

_ON_BAD_ANSWER = {
    AbortAnswer.REFUSED: "refused the abort, and may go on",
    AbortAnswer.NO_ANSWER: "did not answer the abort, and may go on",
    AbortAnswer.UNREACHABLE: "could not be reached by the abort",
}

_PAIR = 2

MAX_SHOWN = 4096
"""Characters of an argument that a snapshot shows."""

_FINAL = frozenset(
    {
        TaskStatus.ABORTED,
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
        TaskStatus.NOT_FOUND,
        TaskStatus.REJECTED,
    }
)
_FINAL_NAMES = frozenset(status.name for status in _FINAL)


_as_reported = partial(TaskAggregationPolicy, rules=PolicyRules.minimal())
"""A leaf's outcome is what its target says; what to make of it is for the nodes above."""


def _is_final(status: object) -> bool:
    if isinstance(status, str):
        return status.upper() in _FINAL_NAMES
    return isinstance(status, int) and status in _FINAL


class LeafTask(BaseTask):
    """A node whose work is done by somebody else, who reports by updates.

    Parameters
    ----------
    name : str
        Name of the task, unique among its siblings.
    target : str
        Who does the work: the device's name, or what an INTERNAL leaf calls its method.
    command_name : str
        What is asked of the target.
    argument : str, optional
        Argument of the command, a JSON text as a rule.
    task_type : TaskType, optional
        Kind of leaf.
    action : callable, optional
        Starts the work; a DEVICE leaf calls its target by the context's `DeviceCaller` if not
        given. See `LeafAction`.
    completed_callback, is_root, logger, timeout, tolerance, progress_callback : optional
        As for `BaseTask`.
    policy_factory, operation, obs_mode : optional
        As for `BaseTask`.

    Raises
    ------
    ValueError
        If the kind is that of a composite, or there is no action for it.
    """

    def __init__(
        self,
        name: str,
        target: str,
        command_name: str,
        argument: str | None = None,
        *,
        task_type: TaskType = TaskType.DEVICE,
        action: LeafAction | None = None,
        completed_callback: Callable[..., None] | None = None,
        is_root: bool = False,
        logger: logging.Logger | None = None,
        timeout: float | None = None,
        max_timeout: float | None = None,
        tolerance: Tolerance = Tolerance.NOTHING,
        progress_callback: Callable[..., None] | None = None,
        policy_factory: Callable[..., Any] | None = None,
        operation: str | None = None,
        obs_mode: Any = None,
    ) -> None:
        if task_type.is_composite:
            raise ValueError(f"leaf {name!r}: found {task_type}, expected a kind of leaf")
        if action is None and task_type is not TaskType.DEVICE:
            raise ValueError(f"leaf {name!r}: {task_type} needs an action, found none")
        super().__init__(
            name,
            task_type,
            completed_callback=completed_callback,
            is_root=is_root,
            logger=logger,
            timeout=timeout,
            max_timeout=max_timeout,
            tolerance=tolerance,
            progress_callback=progress_callback,
            policy_factory=policy_factory or _as_reported,
            operation=operation,
            obs_mode=obs_mode,
        )
        self.target = target
        self.command_name = command_name
        self.argument = argument
        self.late_updates = 0
        self._action = action or self._call_device
        self._invocation: Invocation | None = None
        self._command_id: str | None = None
        self._details: dict[str, Any] = {}
        self._irregular: Callable[[], dict[str, Any]] = dict
        self._asked_to_end = False
        self._final_seen = False
        self._is_lost = False  # nobody knows whether the target still works
        self._time_left: float | None = None
        self._last_news: float | None = None
        self.stalled = False
        """Whether nothing has been heard of the target for longer than it should be."""
        self._too_late: str | None = None  # the text of its end, while there is a last look
        self._acknowledgement = Acknowledgement(self._guard)

    def leaves(self) -> Iterator["LeafTask"]:
        """Yield the leaf itself."""
        yield self

    @property
    def details(self) -> dict[str, Any]:
        """What the work tells of itself beyond its updates, see `Subdivided`."""
        with self._lock:
            invocation, known = self._invocation, self._details
        return known if invocation is None else _details_of(invocation)

    @property
    def command_id(self) -> str | None:
        """The id that the target gave to the command; None while it is not known."""
        with self._lock:
            invocation, known = self._invocation, self._command_id
        return invocation.command_id if invocation is not None else known

    def snapshot(self) -> dict[str, Any]:
        """Return how the leaf stands, with what its work tells of itself.

        A leaf that was asked to end has ``abort`` and ``abort_text``: the target's answer. One of
        which nothing is heard has ``stalled``, and one whose events were late, doubled, out of
        order or missing has ``irregular_events``: how many, and some with their times.
        """
        return super().snapshot() | self.remarks() | self.details

    def remarks(self) -> dict[str, Any]:
        """Return what `snapshot` tells of the leaf beside its outcome; some comes after its end."""
        answer = self.abort_answer
        told: dict[str, Any] = {}
        if answer is not None:
            told = {"abort": str(answer[0]), "abort_text": answer[1]}
        if self.stalled and not self.ended:
            told["stalled"] = True
        irregular = self._irregular()
        if irregular:
            told["irregular_events"] = irregular
        return told

    @property
    def action(self) -> LeafAction:
        """What starts the work."""
        return self._action

    def replace_action(self, action: LeafAction) -> None:
        """Have the work done in another way; call it before `start`."""
        self._action = action

    def _described(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "command": self.command_name,
            "command_id": self.command_id,
            "argument": _shown(self.argument),
        }

    # Run

    def _call_device(self, context: ExecutionContext, on_update: Callable[..., None]) -> Invocation:
        caller, left = context.caller, self._time_left
        if left is not None and left > 0 and isinstance(caller, TimedCaller):
            return caller.invoke_within(
                self.target, self.command_name, self.argument, on_update, left
            )
        return context.caller.invoke(self.target, self.command_name, self.argument, on_update)

    def _run(self, context: ExecutionContext, deadline: float | None) -> None:
        if deadline is not None:
            self._time_left = deadline - context.clock() - context.deadline_margin
        try:
            invocation = self._action(context, self._on_update)
        except Exception as error:
            self.logger.exception("leaf %r could not be started", self.name)
            text = f"could not be started: {type(error).__name__}: {error}"
            self._end(TaskStatus.FAILED, ResultCode.FAILED, text)
            return
        self._adopt(invocation)

    def _adopt(self, invocation: Invocation) -> None:
        """Hold the invocation until the end, unless the end came while it was being made."""
        with self._lock:
            running = self._phase is Phase.RUNNING
            # A child that has ended by itself may by now run another client's command.
            abort = self._asked_to_end and not self._final_seen
            self._irregular = getattr(invocation, "irregular", dict)
            if running:
                self._invocation = invocation
        if abort:
            self._guarded(invocation.abort)
        if not running:
            self._let_go(invocation)

    def _on_update(self, **update: Any) -> None:
        """Take an update of the target; from any thread, never raises, never blocks."""
        answer, text = update.pop("abort_ack", None), str(update.pop("abort_text", ""))
        if answer is not None:
            self._take_answer(AbortAnswer(answer), text, alone=not update)
            if not update:
                return
        update.pop("alive", None)
        self._take_words(update)
        self._is_lost = bool(update.pop("lost", False)) or self._is_lost
        self._note_news()
        seconds = update.pop("extend", None)
        if seconds is not None and self._phase is Phase.RUNNING:
            self.logger.info("%s: %s asks for %g s more", self.name, self.target, seconds)
            self._grant(float(seconds))
        if update.pop("looked", False):
            self._end_too_late()
        if not update:
            return
        with self._lock:
            in_time = self._phase is Phase.RUNNING
            self.late_updates += not in_time
            # Once the target says that it has ended, neither abort nor deadline is for it.
            self._final_seen = self._final_seen or (in_time and _is_final(update.get("status")))
        if not in_time:
            self.logger.debug("late update of leaf %r ignored: %r", self.name, update)
            return
        command_id = update.pop("command_id", None)
        if command_id is not None:
            for observer in self._observers:
                self._guard(observer.node_accepted, self, command_id)
        if not update:
            return
        if "result" in update:
            self._note_cause(update)
            update["result"] = self._named(update["result"])
        self.tracker.update_task(**(update | self._own_keys()))

    def _named(self, result: object) -> object:
        """Put the target before a text, as the tracker does for devices."""
        if self.task_type is TaskType.DEVICE or not isinstance(result, (tuple, list)):
            return result
        *code, text = result or ("",)
        return (*code, f"{self.target}: {text}") if text else result

    def _own_keys(self) -> dict[str, Any]:
        keys: dict[str, Any] = {"task_name": self.name}
        if self.task_type is TaskType.DEVICE:
            keys["device_name"] = self.target
        return keys

    def _take_words(self, update: dict[str, Any]) -> None:
        """Take what is for the observers: the argument as it is sent, and what the work says."""
        argument = update.pop("argument", None)
        if argument is not None:
            self.argument = argument
            self._mention("node_filled", self)
        if update.pop("message", None) is not None:
            self._mention("node_said", self)

    # Deadline

    def _time_out(self, context: ExecutionContext, seconds: float) -> None:
        """End the leaf because its time is up, or that of a node above, after a last look."""
        text = f"timed out after {seconds:.4g} s"
        with self._lock:
            if self._phase not in {Phase.NEW, Phase.RUNNING} or self._too_late is not None:
                return
            begun = self._phase is Phase.RUNNING
            self._too_late = text if begun else f"{text} before it started"
            look = _look_of(self._invocation)
        if look is None or not context.last_look:
            self._end_too_late()
        else:
            self._hold(context.runtime.call_later(context.last_look, self._end_too_late))
            self._guarded(look)

    def _note_news(self) -> None:
        context = self._context
        if context is not None and context.stall_after:
            self._last_news = context.clock()
            if self.stalled:
                self._set_stalled(False)

    def _note_silence(self, context: ExecutionContext) -> None:
        """Look whether the target has been silent for too long."""
        if self.task_type is not TaskType.DEVICE or self._phase is not Phase.RUNNING:
            return
        now = context.clock()
        if self._last_news is None:
            self._last_news = now
        elif not self.stalled and now - self._last_news >= context.stall_after:
            self._set_stalled(True)

    def _set_stalled(self, stalled: bool) -> None:
        self.stalled = stalled
        words = "is stalled: nothing was heard of it" if stalled else "is heard of again"
        self.logger.warning("%s: %s at %s %s", self.name, self.command_name, self.target, words)
        self._mention("node_stalled", self, stalled)

    def _end_too_late(self) -> None:
        text = self._too_late
        if text is not None:
            self._causes = {"TIMED_OUT"}
            if not self._end(TaskStatus.FAILED, ResultCode.FAILED, text):
                self._causes = set()

    def _note_cause(self, update: dict[str, Any]) -> None:
        """Read from what the target says why it has failed."""
        result = update["result"]
        if isinstance(result, (tuple, list)) and len(result) == _PAIR:
            code, text = result
            if code == ResultCode.UNKNOWN:
                self._causes = {"LOST"}
            elif str(text).startswith("timed out"):
                self._causes = {"TIMED_OUT"}

    # Abort

    @property
    def was_asked_to_end(self) -> bool:
        """Whether the target was asked to end the work."""
        return self._asked_to_end

    @property
    def abort_grace(self) -> float:
        """How many seconds longer than others the target may take to end what it was asked to."""
        return float(getattr(self._invocation, "abort_grace", 0.0))

    @property
    def abort_answer(self) -> tuple[AbortAnswer, str] | None:
        """What the target answered when it was asked to end the work; None if it has not yet."""
        return self._acknowledgement.answer

    @property
    def is_unconfirmed(self) -> bool:
        """Whether the leaf has ended, but nobody knows whether the work has."""
        given_up = self.ended and self.has_begun and not self._final_seen
        return given_up or (self.cause == "LOST" and self._is_lost)

    def tell_abort_answer(self, listener: AbortListener) -> None:
        """Call `listener` once with what the target answers; at once if that is known.

        That it takes the abort is told when the leaf has ended: it may not do as it says.
        """
        self._acknowledgement.listen(listener)

    def _take_answer(self, answer: AbortAnswer, text: str, *, alone: bool = False) -> None:
        """Take what the target answered; the first answer counts."""
        if not self._acknowledgement.take(answer, text):
            return
        if alone and answer in _ON_BAD_ANSWER:
            # Nothing more is to be expected, so nobody has to wait for it.
            text_of_end = _ON_BAD_ANSWER[answer] + (f": {text}" if text else "")
            self._end(TaskStatus.ABORTED, ResultCode.ABORTED, text_of_end)
        self._acknowledgement.tell()

    # End

    def _ask_to_end(self) -> None:
        """Ask the target to end the work, or end it here if it has not begun."""
        with self._lock:
            begun = self._phase is not Phase.NEW
            first = self._phase is Phase.RUNNING and not (self._asked_to_end or self._final_seen)
            self._asked_to_end = self._asked_to_end or first
            invocation = self._invocation
            if not begun:
                self._phase = Phase.CLOSED
        if not begun:
            self._conclude(TaskStatus.ABORTED, ResultCode.ABORTED, "aborted before it started")
        elif first and invocation is not None:
            self._guarded(invocation.abort)

    def _end(self, status: TaskStatus, code: ResultCode, text: str, *, doubt: bool = False) -> bool:
        """Give the leaf this outcome, unless it has one; ask a target that works to stop.

        With `doubt`, nobody is to believe that the target stops because it said so.
        """
        with self._lock:
            if self._phase not in {Phase.NEW, Phase.RUNNING} or self._final_seen:
                # With the status seen and the result on its way, the tracker is about to end it.
                return False
            begun = self._phase is Phase.RUNNING
            self._phase = Phase.CLOSED
            ask = begun and not self._asked_to_end
            self._asked_to_end = self._asked_to_end or begun
            invocation = self._invocation
        if ask and invocation is not None:
            self._guarded(invocation.abort)
        if doubt:
            self._acknowledgement.doubt(text)
        self._conclude(status, code, text)
        return True

    def _conclude(self, status: TaskStatus, code: ResultCode, text: str) -> None:
        result = self._named((code, text))
        self.tracker.update_task(status=status, result=result, **self._own_keys())

    def _release(self) -> None:
        with self._lock:
            invocation = self._invocation
            complied = self._asked_to_end and self._final_seen
        if complied:
            self._acknowledgement.take(AbortAnswer.ACK, "it has ended")
        if invocation is not None:
            self._let_go(invocation)
        self._acknowledgement.over()

    def _let_go(self, invocation: Invocation) -> None:
        command_id, details = invocation.command_id, _details_of(invocation)
        with self._lock:
            self._command_id, self._details = command_id, details
            self._invocation = None
        self._guarded(invocation.close)

    def _guarded(self, request: Callable[[], None]) -> None:
        """Call a target so that one that fails does not keep others from being called."""
        try:
            request()
        except Exception:
            self.logger.exception("leaf %r: %s failed", self.name, request)


def _shown(argument: str | None) -> str | None:
    """Return an argument for snapshots, cut if it is long."""
    if argument is None or len(argument) <= MAX_SHOWN:
        return argument
    return f"{argument[:MAX_SHOWN]}… (cut, {len(argument)} characters)"


def _look_of(invocation: Invocation | None) -> Callable[[], None] | None:
    look: Callable[[], None] | None = getattr(invocation, "look_again", None)
    return look


def _details_of(invocation: Invocation) -> dict[str, Any]:
    return invocation.details() if isinstance(invocation, Subdivided) else {}
