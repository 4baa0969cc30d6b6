"""A tracker as one writes it on a quiet afternoon: it works as long as nothing goes wrong."""

from typing import Any

from milonga.control_model import ResultCode, TaskStatus


class NaiveTracker:
    """Has defects on purpose; see `test_planted_defects`, and `test_kit` for those on the wire."""

    def __init__(self, name: str, total: int, completed_callback: Any = None) -> None:
        self.name = name
        self.total = total
        self.callback = completed_callback
        self.finals = 0
        self.progress = 0
        self.results: dict[str, Any] = {}
        self.statuses: dict[str, TaskStatus] = {}
        self.outcome_now = (TaskStatus.IN_PROGRESS, ResultCode.STARTED)

    def update_task(
        self,
        *,
        task_name: str,
        status: Any = None,
        progress: Any = None,
        result: Any = None,
        **_: Any,
    ) -> None:
        """Believe what came last."""
        if progress is not None:
            self.progress = int(progress)
            self.callback(task_name=self.name, progress=self.progress)
        if result is not None:
            self.results[task_name] = (result[0], result[1])
        if status is not None:
            status = TaskStatus[status] if isinstance(status, str) else TaskStatus(status)
            self.statuses[task_name] = status
            if status in {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.ABORTED}:
                self.finals += 1
        if self.finals >= self.total:
            self.finish()

    def finish(self) -> None:
        """Judge by the last word."""
        last = list(self.results.values())[-1] if self.results else (ResultCode.OK, "")
        ok = "OK" in str(last[1]) or last[0] == ResultCode.OK
        status = list(self.statuses.values())[-1]
        self.outcome_now = (status, ResultCode.OK if ok else ResultCode.FAILED)
        if self.callback is not None:
            self.callback(
                task_name=self.name, status=status, result=(self.outcome_now[1], str(last[1]))
            )
