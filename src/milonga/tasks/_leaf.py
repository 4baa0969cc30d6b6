"""Leaves: the nodes that have work done, by a child device or by a method."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks._context import ExecutionContext, Invocation, LeafAction, Subdivided
from milonga.tasks._kinds import TaskType, Tolerance
from milonga.tasks._node import BaseTask, Phase
from milonga.tracking import PolicyRules, TaskAggregationPolicy

__all__ = ["LeafTask"]

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
        self._asked_to_end = False
        self._final_seen = False

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
        """Return how the leaf stands, with what its work tells of itself."""
        return super().snapshot() | self.details

    def _described(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "command": self.command_name,
            "command_id": self.command_id,
        }

    # Run

    def _call_device(self, context: ExecutionContext, on_update: Callable[..., None]) -> Invocation:
        return context.caller.invoke(self.target, self.command_name, self.argument, on_update)

    def _run(self, context: ExecutionContext, deadline: float | None) -> None:  # noqa: ARG002
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
            if running:
                self._invocation = invocation
        if abort:
            self._guarded(invocation.abort)
        if not running:
            self._let_go(invocation)

    def _on_update(self, **update: Any) -> None:
        """Take an update of the target; from any thread, never raises, never blocks."""
        with self._lock:
            in_time = self._phase is Phase.RUNNING
            self.late_updates += not in_time
            # Once the target says that it has ended, neither abort nor deadline is for it.
            self._final_seen = self._final_seen or (in_time and _is_final(update.get("status")))
        if not in_time:
            self.logger.debug("late update of leaf %r ignored: %r", self.name, update)
            return
        if "result" in update:
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

    def _end(self, status: TaskStatus, code: ResultCode, text: str, if_new: str = "") -> None:
        """Give the leaf this outcome, unless it has one; ask a target that works to stop."""
        with self._lock:
            if self._phase not in {Phase.NEW, Phase.RUNNING} or self._final_seen:
                # With the status seen and the result on its way, the tracker is about to end it.
                return
            begun = self._phase is Phase.RUNNING
            self._phase = Phase.CLOSED
            ask = begun and not self._asked_to_end
            self._asked_to_end = self._asked_to_end or begun
            invocation = self._invocation
        if ask and invocation is not None:
            self._guarded(invocation.abort)
        self._conclude(status, code, text if begun else text + if_new)

    def _conclude(self, status: TaskStatus, code: ResultCode, text: str) -> None:
        result = self._named((code, text))
        self.tracker.update_task(status=status, result=result, **self._own_keys())

    def _release(self) -> None:
        with self._lock:
            invocation = self._invocation
        if invocation is not None:
            self._let_go(invocation)

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


def _details_of(invocation: Invocation) -> dict[str, Any]:
    return invocation.details() if isinstance(invocation, Subdivided) else {}
