"""Analyses as records of tasks, and back; and from what tracks a task (LU-08)."""

from typing import Any, Protocol

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.records._analysis import DescribedAnalysis, TaskResult, is_over
from milonga.records._clock import utc_now
from milonga.records._codec import (
    Attachments,
    description_from_json,
    description_to_json,
)
from milonga.records._task_model import ProcessingTask
from milonga.records._tracked import plain
from milonga.records._types import dump_json
from milonga.records._words import situation_of, situation_of_analysis

__all__ = ["Tracker", "analysis_from_record", "analysis_to_record", "result_from_tracker"]


class Tracker(Protocol):
    """What is asked of a task tracker."""

    @property
    def task_name(self) -> str:
        """Name of the task."""

    @property
    def overall_result(self) -> Any:
        """What the task gave."""

    @property
    def overall_resultcode(self) -> tuple[Any, str]:
        """The result's code and text."""

    @property
    def overall_health(self) -> Any:
        """The health that follows."""

    def get_status(self) -> TaskStatus:
        """Return how the task stands."""


def analysis_to_record(
    description: DescribedAnalysis, files: Attachments | None = None
) -> ProcessingTask:
    """Return a record of an analysis, with the whole description in its data."""
    result = description.task_result
    words = situation_of_analysis(result.task_status).words
    task = ProcessingTask(
        result.task_name,
        dump_json(description.parameters() or {}),
        data={"analysis": description_to_json(description, files)},
        kind="analysis",
        phase=words.phase.value,
    )
    task.message = result.summary if isinstance(result.summary, str) else ""
    if is_over(result.task_status):
        task.finished_at = max(utc_now(), task.started_at)
        task.task_status = words.status.value
        task.cause = words.cause.value if words.cause else None
        task.result_code = words.result_code.name
        task.health_state = words.health.name if words.health else None
    return task


def analysis_from_record(
    task: ProcessingTask, files: Attachments | None = None
) -> DescribedAnalysis:
    """Return the analysis that a record was made from.

    Raises
    ------
    ValueError
        If the record is not one of an analysis.
    """
    data = task.data.get("analysis") if isinstance(task.data, dict) else None
    if data is None:
        raise ValueError(f"task {task.uid}: found no analysis in its data")
    return description_from_json(plain(data), files)


def result_from_tracker(tracker: Tracker) -> TaskResult:
    """Return what a tracker knows of its task, as the result of an analysis."""
    code, text = tracker.overall_resultcode
    health = tracker.overall_health
    shown = HealthState(health) if health is not None else None
    situation = situation_of(tracker.get_status(), ResultCode(code), shown, text)
    degraded = shown is HealthState.DEGRADED
    summary: str | dict[str, Any] = {"message": text, "degraded": True} if degraded else text
    return TaskResult(tracker.task_name, situation.words.analysis, summary, tracker.overall_result)
