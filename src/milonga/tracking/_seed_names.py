"""The private names that code written for the SKA's TaskTracker may call (TT-23)."""

from threading import Lock
from typing import Any

from milonga.tracking._coercion import ObsModes, read_context
from milonga.tracking._judge import Judge
from milonga.tracking._ledger import Ledger
from milonga.tracking._outcome import AggregationOutcome
from milonga.tracking._report import Report, read_report

__all__ = ["SeedNames"]


class SeedNames:
    """Thin aliases, for people who bring unit tests of their own; not for new code."""

    _lock: Lock
    _ledger: Ledger
    _judge: Judge
    _outcome: AggregationOutcome | None

    @property
    def _is_done(self) -> bool:
        with self._lock:
            return self._is_done_locked()

    def _is_done_locked(self) -> bool:
        """Whether all is over; call it with the lock held."""
        return self._outcome is not None or self._ledger.is_done

    def _is_task_already_completed(self, task_name: str) -> bool:
        """Whether this subtask is over."""
        with self._lock:
            known = self._ledger.subtasks.get(task_name)
            return known is not None and known.is_final

    @staticmethod
    def _extract_context(kwargs: dict[str, Any]) -> tuple[ObsModes | None, ObsModes | None]:
        """Return operation and observing mode from the keywords of an update."""
        return read_context(kwargs.get("operation")), read_context(kwargs.get("obs_mode"))

    def _upsert_subtask(self, task_name: str, **fields: Any) -> None:
        """Enter an update in the books, and nothing else."""
        status, progress, result, error = (
            fields.pop(name, None) for name in ("status", "progress", "result", "error")
        )
        report = read_report(task_name, status, progress, result, error, fields)
        if report is not None:
            self._enter(report)

    def _record_subtask_progress(self, task_name: str, progress: object) -> None:
        self._upsert_subtask(task_name, progress=progress)

    def _enter(self, report: Report) -> None:
        with self._lock:
            if self._outcome is None:
                self._ledger.apply(self._ledger.key_of(report), report, 0.0)

    def _recompute_completion(self) -> int:
        """Return how many subtasks are over."""
        with self._lock:
            return self._ledger.finals

    def _recompute_progress(self) -> int:
        """Return the progress of the task."""
        with self._lock:
            return 100 if self._outcome is not None else self._ledger.progress.value

    def _aggregate(self) -> AggregationOutcome:
        """Return what the policy says of the subtasks as they are."""
        with self._lock:
            subtasks = list(self._ledger.subtasks.values())
        return self._judge.policy.aggregate(subtasks)

    def _chain_message(self) -> str:
        """Return the message of the outcome, empty as long as there is none."""
        with self._lock:
            return "" if self._outcome is None else self._outcome.message

    def _collect_devices_for_completion(self) -> tuple[list[str], list[str]]:
        """Return the devices that took part, and those that failed."""
        with self._lock:
            return self._ledger.devices()
