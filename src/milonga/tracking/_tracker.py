"""The tracker: many updates from many threads in, one outcome out.

The lock guards the ledger and the phase for a few lines at a time. Values are read before it is
taken; policies, callbacks, timers and loggers are called after it is released.
"""

import logging
import time
from collections.abc import Callable, Mapping
from enum import Enum
from threading import Event, Lock, get_ident
from typing import Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.tracking._coercion import ObsModes, attempt, read_context
from milonga.tracking._judge import Judge
from milonga.tracking._ledger import Ledger
from milonga.tracking._outbox import CompletedCallback, Outbox, log_safely
from milonga.tracking._outcome import AggregationOutcome, PolicyFactory, failed_outcome
from milonga.tracking._payload import completion_payload, progress_payload
from milonga.tracking._report import Report, read_report
from milonga.tracking._timer import CallLater, Cancellable, call_later
from milonga.tracking._update_log import Note, UpdateLog
from milonga.tracking._view import TrackerView
from milonga.tracking._waiting import SettableEvent, wait_for_either

__all__ = ["TaskTracker"]

_logger = logging.getLogger(__name__)


class _Phase(Enum):
    OPEN = "open"
    CLOSING = "closing"  # one thread is judging; nothing changes any more
    CLOSED = "closed"


_OPEN = _Phase.OPEN


class TaskTracker(TrackerView):
    """Follows the subtasks of one task, and tells once what became of it.

    Any thread may call any method. `update_task` never raises and never waits for anything but the
    tracker's own lock, unless it is the update that brings a notification: then it calls
    `completed_callback` before it returns, with no lock held.

    Parameters
    ----------
    task_name : str
        Name of the task.
    total_subtasks : int
        How many subtasks there will be. With 0 or less the task is completed at once.
    completed_callback : callable, optional
        Called with keywords only, once, when the task is over; with `notify_progress` also before,
        with `task_name`, `progress` and `status`. Calls never overlap.
    logger : logging.Logger, optional
        Where to log; the module's logger by default.
    operation, obs_mode : str or sequence of str, optional
        Context for the policy. Updates may bring it too.
    is_root : bool, optional
        Whether the message of the outcome begins with a header.
    policy_factory : callable, optional
        Called with ``(task_name, operation, obs_mode, is_root)``; returns an object with
        ``aggregate(list[SubtaskResult]) -> AggregationOutcome``. It is asked when the task is over
        and when the context changes, not at each update. `TaskAggregationPolicy` by default.
    notify_progress : bool, optional
        Whether to tell progress.
    progress_step : int, optional
        Progress is told in multiples of this, in per cent.
    result_grace : float, optional
        Seconds to wait for results after the last final status came without one; 0 does not wait.
    weights : mapping of str to float, optional
        Seconds that each subtask is expected to take, for the progress.
    call_later : callable, optional
        ``call_later(delay, function)`` returns an object with ``cancel()``. By default a timer
        thread that all trackers share, and that lives only while one of them needs it.
    clock : callable, optional
        Monotonic time in seconds, for the times of subtasks.

    Raises
    ------
    ValueError
        If `progress_step`, `result_grace` or a weight is out of its range.

    Examples
    --------
    >>> tracker = TaskTracker("On", 2, completed_callback=lambda **told: print(told["counts"]))
    >>> tracker.update_task(task_name="a", status="COMPLETED", result=(0, "on"))
    >>> tracker.update_task(task_name="b", status="COMPLETED", result=(3, "no power"))
    {'ok': 1, 'failed': 1, 'rejected': 0, 'aborted': 0, 'total': 2}
    """

    def __init__(
        self,
        task_name: str,
        total_subtasks: int,
        completed_callback: CompletedCallback | None = None,
        logger: logging.Logger | None = None,
        operation: object = None,
        obs_mode: object = None,
        is_root: bool = False,
        *,
        policy_factory: PolicyFactory | None = None,
        notify_progress: bool = False,
        progress_step: int = 10,
        result_grace: float = 0.5,
        weights: Mapping[str, float] | None = None,
        call_later: CallLater | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not result_grace >= 0:
            raise ValueError(f"result_grace: found {result_grace!r}, expected seconds, 0 or more")
        self.task_name = task_name
        self.is_root = bool(is_root)
        self.logger = _logger if logger is None else logger
        self._lock = Lock()
        self._done = Event()
        self._ledger = Ledger(total_subtasks, weights, progress_step)
        self._outbox = Outbox(self._lock, self._done, completed_callback, self.logger)
        self._judge = Judge(task_name, self.is_root, policy_factory, self.logger)
        self._phase = _OPEN
        self._closer = 0  # the thread that closes
        self._outcome: AggregationOutcome | None = None
        self._operation = read_context(operation)
        self._obs_mode = read_context(obs_mode)
        self._context_version = 0
        self._notify_progress = notify_progress
        self._grace = result_grace
        self._grace_running = False
        self._timer: Cancellable | None = None
        self._call_later = call_later
        self._clock = clock
        self._log = UpdateLog()
        self._judge.prepare(0, self._operation, self._obs_mode)
        if total_subtasks <= 0:
            self._begin_to_close()
            self._close(
                AggregationOutcome(
                    TaskStatus.COMPLETED,
                    ResultCode.OK,
                    f"Task {task_name} completed" if self.is_root else "completed",
                )
            )

    # Waiting

    def wait_for_task_completion(
        self, timeout_event: SettableEvent | None = None, timeout: float | None = None
    ) -> bool:
        """Wait until the task is over and its callback has returned.

        Parameters
        ----------
        timeout_event : threading.Event, optional
            Ends the wait when it is set, within 10 ms.
        timeout : float, optional
            Longest wait, in seconds.

        Returns
        -------
        bool
            Whether the task is over; it wins if both happen at once.
        """
        return wait_for_either(self._done, timeout_event, timeout)

    def signal_task_completion(self) -> None:
        """Wake all that wait. The outcome, and who is told of it, stay as they are."""
        self._done.set()

    # Set up

    def parent_callback(self) -> Callable[..., None]:
        """Return what a child's tracker takes as its `completed_callback`."""
        return self.update_task

    def set_completed_callback(self, callback: CompletedCallback | None) -> None:
        """Tell `callback` from now on; at once, if the task is over and nobody was told."""
        with self._lock:
            before = self._outbox.replace_callback(callback)
        del before  # outside the lock: it may be the last reference to somebody's object
        self._outbox.deliver()

    def set_context(self, operation: object = None, obs_mode: object = None) -> None:
        """Set what the policy may go by; None, and anything empty, keeps what is known."""
        wanted = (read_context(operation), read_context(obs_mode))
        with self._lock:
            changed = self._phase is _OPEN and self._change_context(*wanted)
        if changed:
            self._renew_policy()

    def _change_context(self, operation: ObsModes | None, obs_mode: ObsModes | None) -> bool:
        """Take over what is known and new; with the lock held. Return whether anything was."""
        wanted = (operation or self._operation, obs_mode or self._obs_mode)
        if wanted == (self._operation, self._obs_mode):
            return False
        self._operation, self._obs_mode = wanted
        self._context_version += 1
        return True

    def _renew_policy(self) -> None:
        """Make the policy for a new context, and judge by it what there is (CX-04)."""
        with self._lock:
            context = (self._context_version, self._operation, self._obs_mode)
            subtasks = list(self._ledger.subtasks.values())
        self._judge.renew(*context, subtasks)

    # Updates

    def update_task(
        self,
        *,
        task_name: object,
        status: object = None,
        progress: object = None,
        result: object = None,
        error: object = None,
        **kwargs: object,
    ) -> None:
        """Take what is new about one subtask. Never raises, whatever the values are.

        Parameters
        ----------
        task_name : str
            Name of the subtask.
        status : TaskStatus, int or str, optional
            How far it is. It never goes back, and a final one stays.
        progress : int, optional
            In per cent.
        result : optional
            ``(code, text)``, or any form that `parse_result` understands. If it comes after the
            final status, it is still taken, once.
        error : tuple of tango.DevError, optional
            Kept for the completion payload.
        **kwargs : optional
            `device_name`, `devices`, `failed_devices`, `health_state`, `operation`, `obs_mode` and
            `source`; others are tolerated.
        """
        try:
            report = read_report(task_name, status, progress, result, error, kwargs)
            if report is None:
                self._refuse_nameless()
            else:
                self._take(report)
        except BaseException as fault:
            # A person's interrupt is no fault of this task, unless it hit the end of it.
            if not isinstance(fault, KeyboardInterrupt) or self._closer == get_ident():
                self._give_up(fault)
            if isinstance(fault, KeyboardInterrupt):
                raise

    def _refuse_nameless(self) -> None:
        with self._lock:
            self._log.unknown += 1
        log_safely(self.logger, logging.WARNING, "%s: update without task_name", self.task_name)

    def _take(self, report: Report) -> None:
        now = self._clock()
        notes: list[Note] = []  # what to log once the lock is released
        renew = deliver = arm = close = False
        with self._lock:
            if self._phase is not _OPEN:
                self._log.count_late(report, self._ledger, notes)
            else:
                key = self._ledger.key_of(report)
                if report.has_more and self._ledger.accepts(key, report):
                    renew = self._change_context(report.operation, report.obs_mode)
                entry = self._ledger.apply(key, report, now)
                self._log.count(entry, key, report, self._ledger, notes)
                if self._ledger.is_done:
                    close, arm = self._next_end()
                if self._notify_progress and not close:
                    deliver = self._post_progress()
        for level, text, args in notes:
            log_safely(self.logger, level, text, self.task_name, *args)
        if close:
            self._judge_and_close()
            return
        if renew:
            self._renew_policy()
        if arm:
            self._arm_grace()
        if deliver:
            self._outbox.deliver()

    def _post_progress(self) -> bool:
        value = self._ledger.progress.next_notification()
        if value is None:
            return False
        self._outbox.post_progress(self._build_progress_payload(value))
        return True

    # The end

    def _next_end(self) -> tuple[bool, bool]:
        """Decide, all being final, whether to close now or to wait for results first."""
        if self._ledger.results_missing and self._grace > 0:
            arm = not self._grace_running
            self._grace_running = True
            return False, arm
        self._begin_to_close()
        return True, False

    def _arm_grace(self) -> None:
        """Give results that are on their way a moment."""
        timer: Cancellable | None = None
        if self._call_later is not None:
            try:
                timer = self._call_later(self._grace, self._end_grace)
            except Exception as fault:  # noqa: BLE001 - another timer will do
                text = "%s: call_later failed"
                log_safely(self.logger, logging.WARNING, text, self.task_name, fault=fault)
        if timer is None:
            timer = call_later(self._grace, self._end_grace)
        with self._lock:
            needed = self._phase is _OPEN and self._grace_running
            if needed:
                self._timer = timer
        if not needed:
            timer.cancel()

    def _end_grace(self) -> None:
        with self._lock:
            self._grace_running = False
            close = self._phase is _OPEN and self._ledger.is_done
            if close:
                self._begin_to_close()
        if close:
            self._judge_and_close()

    def _judge_and_close(self) -> None:
        """Find the outcome and close; only in the thread that set the phase to CLOSING."""
        try:
            context = (self._context_version, self._operation, self._obs_mode)
            outcome = self._judge.final_outcome(*context, list(self._ledger.subtasks.values()))
        except BaseException as fault:
            self._give_up(fault)
            if isinstance(fault, KeyboardInterrupt):
                raise
        else:
            self._close(outcome)

    def _begin_to_close(self) -> None:
        """Let nothing change any more; with the lock held."""
        self._phase = _Phase.CLOSING
        self._closer = get_ident()

    def _close(self, outcome: AggregationOutcome) -> None:
        """Make the outcome known, and tell it; only in the thread that set the phase to CLOSING."""
        bare = {"task_name": self.task_name, "status": outcome.status, "progress": 100}
        bare["result"] = (outcome.result_code, outcome.message)
        payload = attempt(lambda _: self._build_completion_payload(outcome), None, bare)
        with self._lock:
            self._outcome = outcome
            self._phase = _Phase.CLOSED
            self._closer = 0
            self._ledger.compact()
            self._outbox.post_final(payload)
            timer, self._timer = self._timer, None
            unneeded = self._call_later, self._judge.release()
            self._call_later = None
        del unneeded  # outside the lock: these may be last references to somebody's objects
        if timer is not None:
            attempt(lambda _: timer.cancel(), None, None)
        self._outbox.deliver()

    def _give_up(self, fault: BaseException) -> None:
        """End the task as FAILED because its own tracking broke down (TH-03)."""
        log_safely(self.logger, logging.ERROR, "%s: tracking failed", self.task_name, fault=fault)
        with self._lock:
            if self._phase is _OPEN:
                self._begin_to_close()
            mine = self._phase is _Phase.CLOSING and self._closer == get_ident()
        if mine:
            self._close(failed_outcome(self.task_name, fault))

    def _build_progress_payload(self, progress: int) -> dict[str, Any]:
        return progress_payload(self.task_name, progress)

    def _build_completion_payload(
        self, outcome: AggregationOutcome | None = None
    ) -> dict[str, Any]:
        ledger = self._ledger
        return completion_payload(
            self.task_name,
            self.outcome if outcome is None else outcome,
            counts=ledger.counts,
            devices=ledger.devices(),
            errors=ledger.errors,
            operation=self._operation,
            obs_mode=self._obs_mode,
        )
