"""Which task statuses are the last word."""

from milonga.control_model._chosen import TaskStatus

__all__ = ["FINAL_STATUSES", "is_final"]

FINAL_STATUSES = frozenset(
    {TaskStatus.ABORTED, TaskStatus.COMPLETED, TaskStatus.REJECTED, TaskStatus.FAILED}
)
"""The statuses in which a command has ended."""


def is_final(status: TaskStatus) -> bool:
    """Tell whether a command with this status has ended."""
    return status in FINAL_STATUSES
