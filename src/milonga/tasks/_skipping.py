"""Judging a sequence by the steps that it came to (TR-06)."""

from collections.abc import Callable, Collection
from typing import Any

from milonga.tracking import AggregationOutcome, SubtaskResult, TaskAggregationPolicy

__all__ = ["without"]

PolicyFactory = Callable[..., Any]


class _WithoutSkipped:
    """Leaves out the steps that were skipped, lest their rejection outweigh what caused it."""

    def __init__(self, judge: Any, skipped: Collection[str]) -> None:
        self._judge = judge
        self._skipped = skipped

    def aggregate(self, subtasks: list[SubtaskResult], /) -> AggregationOutcome:
        """Return the outcome of the steps that were not skipped."""
        counted = [subtask for subtask in subtasks if subtask.name not in self._skipped]
        outcome: AggregationOutcome = self._judge.aggregate(counted)
        return outcome


def without(skipped: Collection[str], factory: PolicyFactory | None) -> PolicyFactory:
    """Return a factory of policies that do not see the subtasks whose names are in `skipped`.

    Parameters
    ----------
    skipped : collection of str
        Names; may grow until the task has ended, and never holds all subtasks.
    factory : callable or None
        Makes the policy that judges the others; that of `milonga.tracking` if None.

    Returns
    -------
    callable
        A `policy_factory` for `milonga.tracking.TaskTracker`.
    """
    make = factory or TaskAggregationPolicy

    def skipping(*context: Any) -> _WithoutSkipped:
        return _WithoutSkipped(make(*context), skipped)

    return skipping
