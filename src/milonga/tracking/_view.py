"""What can be read of a tracker, from any thread and at any time."""

from typing import Any

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking._coercion import ObsModes
from milonga.tracking._ledger import SubtaskKey
from milonga.tracking._outbox import Outbox
from milonga.tracking._outcome import AggregationOutcome, AggregationPolicy, running_outcome
from milonga.tracking._seed_names import SeedNames
from milonga.tracking._statistics import TrackerStatistics
from milonga.tracking._subtask import SubtaskResult, joined_health
from milonga.tracking._update_log import UpdateLog

__all__ = ["TrackerView"]


class TrackerView(SeedNames):
    """The part of a tracker that changes nothing. What it returns are copies."""

    _outbox: Outbox
    _log: UpdateLog
    _operation: ObsModes | None
    _obs_mode: ObsModes | None

    @property
    def subtasks(self) -> dict[SubtaskKey, SubtaskResult]:
        """A copy of what is known about each subtask.

        Of a task that is over and had more than a thousand subtasks, only unhappy ones are kept.
        """
        with self._lock:
            return dict(self._ledger.subtasks)

    @property
    def subtask_progress(self) -> dict[Any, int]:
        """A copy of the progress of each subtask, in per cent; empty once the task is over."""
        with self._lock:
            return self._ledger.progress.values

    @property
    def progress(self) -> int:
        """Progress of the task, in per cent; 100 only once it is over."""
        with self._lock:
            return 100 if self._outcome is not None else self._ledger.progress.value

    @property
    def completed_subtasks(self) -> int:
        """How many subtasks are over, however they ended."""
        with self._lock:
            return self._ledger.finals

    @property
    def total_subtasks(self) -> int:
        """How many subtasks were declared."""
        return self._ledger.total

    @property
    def policy(self) -> AggregationPolicy:
        """The policy for the present context."""
        return self._judge.policy

    @property
    def operation(self) -> ObsModes | None:
        """The operation that the task is part of, if known."""
        return self._operation

    @property
    def obs_mode(self) -> ObsModes | None:
        """The observing mode or modes, if known."""
        return self._obs_mode

    @property
    def callback_error(self) -> BaseException | None:
        """What the callback raised last."""
        return self._outbox.error

    @property
    def outcome(self) -> AggregationOutcome:
        """How the task stands; final only once the task is over."""
        with self._lock:
            if self._outcome is not None:
                return self._outcome
            health = joined_health(self._ledger.health, self._judge.interim_health)
            return running_outcome(self._ledger.has_begun, health)

    @property
    def overall_status(self) -> TaskStatus:
        """Status of the task."""
        return self.outcome.status

    @property
    def overall_result(self) -> ResultCode:
        """Result code of the task."""
        return self.outcome.result_code

    @property
    def overall_resultcode(self) -> tuple[ResultCode, str]:
        """Result code and message of the task."""
        outcome = self.outcome
        return outcome.result_code, outcome.message

    @property
    def overall_health(self) -> HealthState | None:
        """Health that follows from the subtasks, None if they say nothing about it."""
        return self.outcome.health_state

    def get_status(self) -> TaskStatus:
        """Return the status of the task."""
        return self.outcome.status

    def get_result(self) -> ResultCode:
        """Return the result code of the task."""
        return self.outcome.result_code

    def statistics(self) -> TrackerStatistics:
        """Return counters for people who look inside a running program."""
        with self._lock:
            return TrackerStatistics(
                self._log.updates,
                self._log.late,
                self._log.duplicate,
                self._log.ignored,
                self._log.unknown,
                self._ledger.seen,
                self._ledger.finals,
                self._ledger.results_missing,
                self._outbox.delivered,
                self._outbox.failures,
                self._outbox.coalesced,
            )
