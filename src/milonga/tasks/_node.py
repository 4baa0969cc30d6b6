"""What leaves and composites of a task tree have in common."""
# ruff: noqa: SLF001 - the nodes of one tree know each other

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks._clock import DeadlineClock, check_timeout
from milonga.tasks._context import Cancellable, ExecutionContext, utc_now
from milonga.tasks._kinds import TaskType, Tolerance
from milonga.tasks._observer import TreeObserver
from milonga.tasks._payload import is_completion, is_partial
from milonga.tracking import TaskTracker

if TYPE_CHECKING:
    from datetime import datetime

    from milonga.tasks._leaf import LeafTask
    from milonga.tasks._tree import Task

__all__ = ["BaseTask", "Phase", "check_timeout"]

_logger = logging.getLogger("milonga.tasks")

OUTCOMES_TOLD = 1024
"""Of how many leaves the completion payload of a tree has the outcomes."""

_TICK = 0.001
"""Seconds by which a timer may be early."""


class Phase(Enum):
    """How far a node is in its own life; the outcome is the tracker's."""

    NEW = "new"
    RUNNING = "running"
    CLOSED = "closed"  # ended by its tree; the tracker is being told
    ENDED = "ended"


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
    max_timeout : float, optional
        Seconds that it may take if what works below asks for more; `timeout` if not given.
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
        max_timeout: float | None = None,
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
        check_timeout(max_timeout)
        self.name = name
        self.task_type = task_type
        self.skip_subtasks = skip_subtasks
        self.timeout = timeout
        self.max_timeout = max_timeout
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
        self._stall_timer: Cancellable | None = None
        self._clock: DeadlineClock | None = None
        self._causes: set[str | None] = set()
        self.cause: str | None = None
        """Why the node has failed, where status and code do not say: "TIMED_OUT", or "LOST"."""
        self._started: datetime | None = None
        self._finished: datetime | None = None
        self._observers: tuple[TreeObserver, ...] = ()
        self.on_extended: Callable[[float], None] | None = None
        """Called with the seconds that a root has been given besides."""
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
    def has_begun(self) -> bool:
        """Whether the node has begun to run."""
        return self._started is not None

    @property
    def parent(self) -> "Task | None":
        """The composite that this node belongs to."""
        return self._parent

    @property
    def subtasks(self) -> "tuple[BaseTask, ...]":
        """The nodes right below."""
        return ()

    @property
    def path(self) -> tuple[str, ...]:
        """The names on the way down from the root, without the root's; empty for the root."""
        return () if self._parent is None else (*self._parent.path, self.name)

    def walk(self) -> "Iterator[BaseTask]":
        """Yield the node and all below it, those above first, in the order of the tree."""
        yield self
        for child in self.subtasks:
            yield from child.walk()

    def observe(self, observer: TreeObserver) -> None:
        """Tell `observer` what becomes of the node and all below it; call it before `start`."""
        for node in self.walk():
            node._observers = (*node._observers, observer)

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
            `name`, `type`, `target`, `command`, `command_id`, `argument`, `status`, `result_code`,
            `message`, `cause`, `partial`, `progress`, `started`, `finished` and `children`. Times
            are ISO 8601 texts in UTC. A long `argument` is cut, and says so. `partial` is whether
            enough has succeeded, though not all: the words on the wire do not tell that from a
            failure.
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
            "cause": self.cause,
            "partial": is_partial(outcome),
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
        if context.stall_after:
            self._look_for_stalls(context)

    def _look_for_stalls(self, context: ExecutionContext) -> None:
        """Look now and then which leaves have not been heard of."""
        for leaf in self.leaves():
            leaf._note_silence(context)
        delay = context.stall_after / 3
        timer = context.runtime.call_later(delay, partial(self._look_for_stalls, context))
        with self._lock:
            over, self._stall_timer = self._phase is Phase.ENDED, timer
        if over:
            timer.cancel()

    def _begin(self, context: ExecutionContext, deadline: float | None) -> None:
        """Begin to run; on the runtime's thread. Does nothing if the node has been ended."""
        with self._lock:
            if self._phase is not Phase.NEW:
                return
            self._phase = Phase.RUNNING
            self._context = context
            self._started = context.now()
        below = self._arm(context, deadline)
        for observer in self._observers:
            self._guard(observer.node_started, self)
        if self._parent is not None:
            self._parent.tracker.update_task(task_name=self.name, status=TaskStatus.IN_PROGRESS)
        self._run(context, below)

    @abstractmethod
    def _run(self, context: ExecutionContext, deadline: float | None) -> None:
        """Do the work; `deadline` is on the context's clock."""

    @abstractmethod
    def _described(self) -> dict[str, Any]:
        """Return `target`, `command`, `command_id` and `argument` for the snapshot."""

    # Deadlines

    def _arm(self, context: ExecutionContext, deadline: float | None) -> float | None:
        """Start the clock of a node that has a timeout, and return the deadline for those below."""
        if self.timeout is None:
            return deadline
        seconds = self.timeout
        if deadline is not None:
            left = deadline - context.clock() - context.deadline_margin
            seconds = max(0.0, min(seconds, left))
        longest = max(self.timeout, self.max_timeout or 0.0)
        self._clock = DeadlineClock(context.clock(), seconds, longest)
        self._wait_for_deadline(context, seconds)
        return self._clock.deadline

    def _wait_for_deadline(self, context: ExecutionContext, seconds: float) -> None:
        self._hold(context.runtime.call_later(seconds, partial(self._look_at_clock, context)))

    def _look_at_clock(self, context: ExecutionContext) -> None:
        clock = self._clock
        if clock is None:
            return
        left = clock.deadline - context.clock()
        if left > _TICK:  # it was given more time
            self._wait_for_deadline(context, left)
            return
        for leaf in self.leaves():
            leaf._time_out(context, clock.seconds)

    def _grant(self, seconds: float) -> None:
        """Give the node more time, and the nodes above it, each up to its own limit.

        A node above gets what this one was given, and who called a root is asked for as much.
        """
        clock, context = self._clock, self._context
        if clock is not None and context is not None:
            with self._lock:
                seconds = clock.extend(context.clock(), seconds)
            if seconds > 0:
                self._mention("node_extended", self)
        if not seconds > 0:
            return
        if self._parent is not None:
            self._parent._grant(self._parent._needs(self, seconds))
        elif self.on_extended is not None:
            self._guard(self.on_extended, seconds)

    def _needs(self, child: "BaseTask", seconds: float) -> float:  # noqa: ARG002 - composites look
        """Return how many seconds more the node needs if a node below needs so many."""
        return seconds

    @property
    def time_left(self) -> float | None:
        """Seconds until the deadline that holds for the node now; None if there is none."""
        deadline, context = self._deadline_now, self._context
        if deadline is None or context is None:
            return None
        return deadline - context.clock()

    @property
    def _deadline_now(self) -> float | None:
        """The deadline that holds for what begins below, on the context's clock."""
        clocks = [node._clock for node in self._ancestry()]
        return min((clock.deadline for clock in clocks if clock is not None), default=None)

    def _ancestry(self) -> "Iterator[BaseTask]":
        node: BaseTask | None = self
        while node is not None:
            yield node
            node = node._parent

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
            self._give_up_later(context, context.abort_timeout, 0.0)

    def _give_up_later(self, context: ExecutionContext, delay: float, waited: float) -> None:
        give_up = partial(self._give_up, context, delay + waited)
        self._hold(context.runtime.call_later(delay, give_up))

    def _give_up(self, context: ExecutionContext, waited: float) -> None:
        """End the leaves that do not confirm the abort, but for those that may take longer."""
        text = f"did not confirm the abort within {waited:.4g} s"
        last = context.abort_timeout
        for leaf in self.leaves():
            patience = context.abort_timeout + leaf.abort_grace
            if patience > waited:
                last = max(last, 0.0 if leaf.ended else patience)
            else:
                leaf._end(TaskStatus.ABORTED, ResultCode.ABORTED, text, doubt=True)
        if last > waited:
            self._give_up_later(context, last - waited, waited)

    # End

    def _told_by_tracker(self, **payload: Any) -> None:
        if is_completion(payload):
            self._complete(payload)
        else:
            for observer in self._observers:
                self._guard(observer.node_progressed, self, payload["progress"])
            if self._parent is not None:
                self._parent.tracker.update_task(**payload)
            self._tell(self._progress_callback, payload)

    def _mention(self, event: str, *what: object) -> None:
        """Tell those observers that care for it."""
        for observer in self._observers:
            tell = getattr(observer, event, None)
            if tell is not None:
                self._guard(tell, *what)

    def _complete(self, payload: dict[str, Any]) -> None:
        """Let go of everything, then tell: observers, the owner of this node, the node above."""
        now = self._context.now if self._context is not None else utc_now
        finished = now()
        self.cause = self._cause_of(payload)
        if self.cause is not None:
            payload["cause"] = self.cause
        self._add_outcomes(payload)
        with self._lock:
            self._phase = Phase.ENDED
            self._finished = finished
            timers, self._timers = self._timers, []
            if self._stall_timer is not None:
                timers.append(self._stall_timer)
        for timer in timers:
            timer.cancel()
        self._release()
        for observer in self._observers:
            self._guard(observer.node_ended, self, payload)
        self._tell(self._completed_callback, payload)
        self._completed_callback = self._progress_callback = None
        if self._parent is not None:
            self._parent._take(self, payload)

    def _add_outcomes(self, payload: dict[str, Any]) -> None:
        """Add what became of each leaf, as data, to the payload of a tree."""
        if self._parent is None and self.subtasks:
            leaves = islice(self.leaves(), OUTCOMES_TOLD)
            payload["outcomes"] = [leaf.outcome_data() for leaf in leaves]

    def outcome_data(self) -> dict[str, Any]:
        """Return what became of the node, without those below it, ready for JSON."""
        outcome = self.tracker.outcome
        return {
            "name": self.name,
            "path": list(self.path),
            "target": self._described()["target"],
            "status": outcome.status.name,
            "result_code": outcome.result_code.name,
            "message": outcome.message,
            "cause": self.cause,
        }

    def _cause_of(self, payload: dict[str, Any]) -> str | None:
        """Return why the node has failed, if all that failed below did so for the same reason."""
        if payload.get("status") is not TaskStatus.FAILED or len(self._causes) != 1:
            return None
        return next(iter(self._causes))

    @abstractmethod
    def _release(self) -> None:
        """Let go of what the node held while it ran."""

    def _tell(self, callback: Callable[..., None] | None, payload: dict[str, Any]) -> None:
        if callback is not None:
            self._guard(callback, **payload)

    def _guard(self, callback: Callable[..., None], *args: Any, **payload: Any) -> None:
        """Call somebody else's code."""
        try:
            callback(*args, **payload)
        except Exception:
            self.logger.exception("callback of task %r failed; its outcome stands", self.name)
