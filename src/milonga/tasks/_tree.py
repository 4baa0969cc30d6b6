"""Composites: the nodes that have subtasks, one after the other or all together."""
# ruff: noqa: SLF001 - the nodes of one tree know each other

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks._context import ExecutionContext
from milonga.tasks._kinds import MAX_DEPTH, MAX_NODES, TaskType, Tolerance
from milonga.tasks._leaf import LeafTask
from milonga.tasks._node import BaseTask, Phase
from milonga.tasks._payload import is_ok, one_line
from milonga.tasks._skipping import without

__all__ = ["Task"]

_BLAME = ("device_name", "devices", "failed_devices", "health_state")


class Task(BaseTask):
    """A node with subtasks; its outcome is that of its subtasks, judged by a policy.

    Parameters
    ----------
    name : str
        Name of the task, unique among its siblings.
    task_type : TaskType, optional
        SEQUENTIAL starts each subtask when the one before has ended; PARALLEL starts all at once.
    skip_subtasks : bool, optional
        Whether a sequence rejects its remaining subtasks after a failure; None does as the node
        above does, and a root without a node above goes on.
    subtasks : sequence of BaseTask
        At least one; names are unique, and none belongs to another node.
    completed_callback, is_root, logger, timeout, max_timeout : optional
        As for `BaseTask`.
    tolerance, progress_callback : optional
        As for `BaseTask`.
    policy_factory, operation, obs_mode : optional
        As for `BaseTask`.

    Raises
    ------
    ValueError
        If a rule above is broken, or the tree is deeper than `MAX_DEPTH` or has more nodes than
        `MAX_NODES`.
    """

    def __init__(
        self,
        name: str,
        task_type: TaskType = TaskType.SEQUENTIAL,
        skip_subtasks: bool | None = None,
        completed_callback: Callable[..., None] | None = None,
        is_root: bool = False,
        logger: logging.Logger | None = None,
        *,
        subtasks: Sequence[BaseTask],
        timeout: float | None = None,
        max_timeout: float | None = None,
        tolerance: Tolerance = Tolerance.NOTHING,
        progress_callback: Callable[..., None] | None = None,
        policy_factory: Callable[..., Any] | None = None,
        operation: str | None = None,
        obs_mode: Any = None,
    ) -> None:
        if not task_type.is_composite:
            raise ValueError(f"task {name!r}: found {task_type}, expected SEQUENTIAL or PARALLEL")
        self._subtasks = _checked(name, subtasks)
        self._skipped: set[str] = set()
        self._extended: dict[str, float] = {}
        if task_type is TaskType.SEQUENTIAL:
            policy_factory = without(self._skipped, policy_factory)
        super().__init__(
            name,
            task_type,
            skip_subtasks,
            completed_callback,
            is_root,
            logger,
            timeout=timeout,
            max_timeout=max_timeout,
            tolerance=tolerance,
            progress_callback=progress_callback,
            policy_factory=policy_factory,
            operation=operation,
            obs_mode=obs_mode,
            total_subtasks=len(self._subtasks),
        )
        self.depth = 1 + max(child.depth for child in self._subtasks)
        self.size = 1 + sum(child.size for child in self._subtasks)
        _check_bounds(self)
        self._waiting = deque(self._subtasks)
        self._current: BaseTask | None = None
        self._first_failure: str | None = None
        for child in self._subtasks:
            child._parent = self

    @property
    def subtasks(self) -> tuple[BaseTask, ...]:
        """The nodes right below."""
        return self._subtasks

    def leaves(self) -> Iterator[LeafTask]:
        """Yield the leaves below, in the order of the tree."""
        for child in self._subtasks:
            yield from child.leaves()

    def _described(self) -> dict[str, Any]:
        return {"target": None, "command": None, "command_id": None, "argument": None}

    # Run; only on the runtime's thread

    def _run(self, context: ExecutionContext, deadline: float | None) -> None:
        if self.task_type is TaskType.SEQUENTIAL:
            self._advance()
            return
        for child in self._subtasks:
            child._begin(context, deadline)

    def _advance(self) -> None:
        """Begin the next step of the sequence, once the present one has ended.

        Every end of a subtask asks for this, also of one that was ended before its turn, so it
        looks for itself whether there is something to do.
        """
        if self._context is None or (self._current is not None and not self._current.ended):
            return
        while self._waiting:
            child = self._waiting.popleft()
            if child.ended:
                continue
            if self._first_failure is not None and self._skips:
                self._skip(child, self._first_failure)
                continue
            self._current = child
            child._begin(self._context, self._deadline_now)
            return

    @property
    def _skips(self) -> bool:
        if self.skip_subtasks is None and self._parent is not None:
            return self._parent._skips
        return bool(self.skip_subtasks)

    def _skip(self, child: BaseTask, failure: str) -> None:
        self._skipped.add(child.name)
        for leaf in child.leaves():
            leaf._end(TaskStatus.REJECTED, ResultCode.REJECTED, f"skipped because {failure}")

    def _needs(self, child: BaseTask, seconds: float) -> float:
        """Return how much longer it takes: what goes on side by side needs the time only once."""
        if self.task_type is TaskType.SEQUENTIAL:
            return seconds
        with self._lock:
            before = max(self._extended.values(), default=0.0)
            self._extended[child.name] = self._extended.get(child.name, 0.0) + seconds
            return max(self._extended.values()) - before

    # End of subtasks; in any thread

    def _take(self, child: BaseTask, payload: dict[str, Any]) -> None:
        """Take the outcome of a subtask."""
        if child.name in self._skipped:
            # It did nothing, so it is not among those to blame.
            payload = {key: value for key, value in payload.items() if key not in _BLAME}
        elif not _good_enough(child, payload):
            with self._lock:
                if self._first_failure is None:
                    self._first_failure = f"{child.name!r} failed: {one_line(payload)}"
        if payload.get("status") is TaskStatus.FAILED:
            with self._lock:
                self._causes.add(payload.get("cause"))
        if isinstance(child, LeafTask):
            # A leaf that failed is all that its tracker knows; how grave that is, is judged here.
            payload = {key: value for key, value in payload.items() if key != "health_state"}
        self.tracker.parent_callback()(**payload)
        context = self._context
        if self.task_type is TaskType.SEQUENTIAL and self._phase is Phase.RUNNING and context:
            context.runtime.call_soon(self._advance)

    def _release(self) -> None:
        """Stop what still runs, which is only there if the tracker failed before its time."""
        for leaf in self.leaves():
            if not leaf.ended:
                text = f"{self.name!r} had ended before"
                leaf._end(TaskStatus.ABORTED, ResultCode.ABORTED, text)


def _good_enough(child: BaseTask, payload: dict[str, Any]) -> bool:
    if is_ok(payload) or child.tolerance is Tolerance.FAILURE:
        return True
    partial = payload.get("health_state") == "DEGRADED"
    return partial and child.tolerance is Tolerance.PARTIAL


def _checked(name: str, subtasks: Sequence[BaseTask]) -> tuple[BaseTask, ...]:
    if not subtasks:
        raise ValueError(f"task {name!r}: found no subtasks, expected at least one")
    seen: set[str] = set()
    for child in subtasks:
        if child.name in seen:
            raise ValueError(f"task {name!r}: found {child.name!r} twice, expected unique names")
        if child.parent is not None:
            raise ValueError(f"task {name!r}: {child.name!r} belongs to {child.parent.name!r}")
        seen.add(child.name)
    return tuple(subtasks)


def _check_bounds(task: Task) -> None:
    if task.depth > MAX_DEPTH:
        raise ValueError(f"task {task.name!r}: {task.depth} levels, expected {MAX_DEPTH} at most")
    if task.size > MAX_NODES:
        raise ValueError(f"task {task.name!r}: {task.size} nodes, expected {MAX_NODES} at most")
