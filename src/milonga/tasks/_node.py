"""What leaves and composites of a task tree have in common."""
# ruff: noqa: SLF001 - the nodes of one tree know each other

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks._context import Cancellable, ExecutionContext, utc_now
from milonga.tasks._kinds import TaskType, Tolerance
from milonga.tasks._payload import is_completion
from milonga.tracking import TaskTracker

if TYPE_CHECKING:
    from datetime import datetime

    from milonga.tasks._leaf import LeafTask
    from milonga.tasks._tree import Task

__all__ = ["BaseTask", "Phase", "check_timeout"]

_logger = logging.getLogger("milonga.tasks")


class Phase(Enum):
    """How far a node is in its own life; the outcome is the tracker's."""

    NEW = "new"
    RUNNING = "running"
    CLOSED = "closed"  # ended by its tree; the tracker is being told
    ENDED = "ended"


def check_timeout(timeout: float | None) -> None:
    """Raise ValueError unless `timeout` is None or a positive, finite number of seconds."""
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise ValueError(f"timeout: found {timeout!r}, expected positive, finite seconds or None")


class BaseTask(ABC):
    """A node of a task tree, with its tracker.

    Outcomes only climb: a node's tracker tells the tracker of the node above. Nothing here
    blocks, and no node occupies a thread while it waits. `start`, `abort` and `snapshot` may be
    called from any thread; callbacks run in the thread that brought the last update, and no lock
    is held then.

    Parameters
    ----------
    name : str
        Name of the task, unique among its siblings.
    task_type : TaskType, optional
        How the node gets its work done.
    skip_subtasks : bool, optional
        Whether a sequence rejects its remaining steps after a failure; None asks the node above.
    completed_callback : callable, optional
        Called once, with the keywords of the completion payload.
    is_root : bool, optional
        Whether the message of the outcome gets a headline.
    logger : logging.Logger, optional
        Where the node and its tracker log.
    timeout : float, optional
        Seconds that the node may take from its start.
    tolerance : Tolerance, optional
        Which unhappy outcome of this node lets a sequence with `skip_subtasks` go on.
    progress_callback : callable, optional
        Called with the keywords of progress notifications, none of which comes after completion.
    policy_factory : callable, optional
        Makes the policy that judges the subtasks; see `milonga.tracking.TaskTracker`.
    operation, obs_mode : optional
        Context of the policy.

    Raises
    ------
    ValueError
        If the name is empty or `timeout` is not positive and finite.
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
        timeout: float | None = None,
        tolerance: Tolerance = Tolerance.NOTHING,
        progress_callback: Callable[..., None] | None = None,
        policy_factory: Callable[..., Any] | None = None,
        operation: str | None = None,
        obs_mode: Any = None,
        total_subtasks: int = 1,
    ) -> None:
        if not name:
            raise ValueError("name of a task: found an empty text, expected a name")
        check_timeout(timeout)
        self.name = name
        self.task_type = task_type
        self.skip_subtasks = skip_subtasks
        self.timeout = timeout
        self.tolerance = tolerance
        self.depth = 1
        self.size = 1
        self.logger = logger or _logger
        self._completed_callback = completed_callback
        self._progress_callback = progress_callback
        self._parent: Task | None = None
        self._context: ExecutionContext | None = None
        self._lock = Lock()
        self._phase = Phase.NEW
        self._abort_requested = False
        self._timers: list[Cancellable] = []
        self._started: datetime | None = None
        self._finished: datetime | None = None
        self.tracker = TaskTracker(
            name,
            total_subtasks,
            completed_callback=self._told_by_tracker,
            logger=logger,
            operation=operation,
            obs_mode=obs_mode,
            is_root=is_root,
            policy_factory=policy_factory,
            notify_progress=True,
            call_later=self._call_later,
        )

    # What every node can be asked

    @property
    def ended(self) -> bool:
        """Whether the node has its final outcome."""
        return self._phase is Phase.ENDED

    @property
    def parent(self) -> "Task | None":
        """The composite that this node belongs to."""
        return self._parent

    @property
    def subtasks(self) -> "tuple[BaseTask, ...]":
        """The nodes right below."""
        return ()

    @abstractmethod
    def leaves(self) -> "Iterator[LeafTask]":
        """Yield the leaves below, or the leaf itself, in the order of the tree."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the outcome; return whether it is there."""
        return bool(self.tracker.wait_for_task_completion(timeout=timeout))

    def snapshot(self) -> dict[str, Any]:
        """Return how the node and all below it stand, ready for JSON.

        Returns
        -------
        dict
            `name`, `type`, `target`, `command`, `command_id`, `status`, `result_code`, `message`,
            `progress`, `started`, `finished` and `children`. Times are ISO 8601 texts in UTC.
        """
        outcome = self.tracker.outcome
        with self._lock:
            started, finished = self._started, self._finished
        return {
            "name": self.name,
            "type": self.task_type.value,
            **self._described(),
            "status": outcome.status.name,
            "result_code": outcome.result_code.name,
            "message": outcome.message,
            "progress": self.tracker.progress,
            "started": started.isoformat() if started else None,
            "finished": finished.isoformat() if finished else None,
            "children": [child.snapshot() for child in self.subtasks],
        }

    def statistics(self) -> dict[str, int]:
        """Count the leaves by phase, and the updates that came too late to matter."""
        counts = {phase.value: 0 for phase in Phase} | {"late_updates": 0}
        for leaf in self.leaves():
            counts[leaf._phase.value] += 1
            counts["late_updates"] += leaf.late_updates
        return counts

    # Start

    def start(self, context: ExecutionContext) -> None:
        """Start the tree on the runtime's thread; return at once.

        Parameters
        ----------
        context : ExecutionContext
            What the tree works with.

        Raises
        ------
        RuntimeError
            If the task was started before.
        """
        with self._lock:
            if self._context is not None:
                raise RuntimeError(f"task {self.name!r} was started before, and a task runs once")
            self._context = context
        context.runtime.call_soon(partial(self._begin, context, None))

    def _begin(self, context: ExecutionContext, deadline: float | None) -> None:
        """Begin to run; on the runtime's thread. Does nothing if the node has been ended."""
        with self._lock:
            if self._phase is not Phase.NEW:
                return
            self._phase = Phase.RUNNING
            self._context = context
            self._started = context.now()
        if self._parent is not None:
            self._parent.tracker.update_task(task_name=self.name, status=TaskStatus.IN_PROGRESS)
        self._run(context, self._arm(context, deadline))

    @abstractmethod
    def _run(self, context: ExecutionContext, deadline: float | None) -> None:
        """Do the work; `deadline` is on the context's clock."""

    @abstractmethod
    def _described(self) -> dict[str, Any]:
        """Return `target`, `command` and `command_id` for the snapshot."""

    # Deadlines

    def _arm(self, context: ExecutionContext, deadline: float | None) -> float | None:
        """Start the clock of a node that has a timeout, and return the deadline for those below."""
        if self.timeout is None:
            return deadline
        seconds = self.timeout
        if deadline is not None:
            left = deadline - context.clock() - context.deadline_margin
            seconds = max(0.0, min(seconds, left))
        expire = partial(self._expire, seconds)
        self._hold(context.runtime.call_later(seconds, expire))
        return context.clock() + seconds

    def _expire(self, seconds: float) -> None:
        for leaf in self.leaves():
            text = f"timed out after {seconds:.4g} s"
            leaf._end(TaskStatus.FAILED, ResultCode.FAILED, text, if_new=" before it started")

    def _hold(self, timer: Cancellable) -> None:
        """Keep a timer until the node ends."""
        with self._lock:
            over = self._phase is Phase.ENDED
            if not over:
                self._timers.append(timer)
        if over:
            timer.cancel()

    def _call_later(self, delay: float, function: Callable[[], None]) -> Cancellable:
        """Give the tracker the runtime's clock, which it has no use for before the start."""
        if self._context is None:
            raise RuntimeError(f"task {self.name!r} has not been started")
        return self._context.runtime.call_later(delay, function)

    # Abort

    def abort(self) -> None:
        """Ask all that runs below to end, and end all that has not begun; return at once.

        Idempotent, from any thread, also before `start`. The node ends when its leaves have
        ended. Leaves that do not confirm within the context's `abort_timeout` are counted as
        aborted.
        """
        with self._lock:
            if self._abort_requested or self._phase is Phase.ENDED:
                return
            self._abort_requested = True
        for leaf in self.leaves():
            leaf._ask_to_end()
        # Read after the walk: a leaf that had begun has set the context of the nodes above it.
        context = self._context
        if context is not None and not self.ended:
            give_up = partial(self._give_up, context.abort_timeout)
            self._hold(context.runtime.call_later(context.abort_timeout, give_up))

    def _give_up(self, seconds: float) -> None:
        text = f"did not confirm the abort within {seconds:.4g} s"
        for leaf in self.leaves():
            leaf._end(TaskStatus.ABORTED, ResultCode.ABORTED, text)

    # End

    def _told_by_tracker(self, **payload: Any) -> None:
        if is_completion(payload):
            self._complete(payload)
        else:
            if self._parent is not None:
                self._parent.tracker.update_task(**payload)
            self._tell(self._progress_callback, payload)

    def _complete(self, payload: dict[str, Any]) -> None:
        """Let go of everything, then tell: first the owner of this node, then the node above."""
        now = self._context.now if self._context is not None else utc_now
        finished = now()
        with self._lock:
            self._phase = Phase.ENDED
            self._finished = finished
            timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()
        self._release()
        self._tell(self._completed_callback, payload)
        self._completed_callback = self._progress_callback = None
        if self._parent is not None:
            self._parent._take(self, payload)

    @abstractmethod
    def _release(self) -> None:
        """Let go of what the node held while it ran."""

    def _tell(self, callback: Callable[..., None] | None, payload: dict[str, Any]) -> None:
        if callback is None:
            return
        try:
            callback(**payload)
        except Exception:
            self.logger.exception("callback of task %r failed; its outcome stands", self.name)
