"""One command as its device remembers it."""

from dataclasses import dataclass, field

from milonga.control_model import TaskStatus, is_final
from milonga.lrc._wire import now, to_json

__all__ = ["CommandRecord"]


@dataclass(slots=True)
class CommandRecord:
    """A command that a device has accepted, from its submission to its end.

    The JSON of each table is made once per change, because the tables are sent far more often
    than any one entry changes.
    """

    uid: str
    name: str
    submitted_time: str = field(default_factory=now)
    status: TaskStatus = TaskStatus.STAGING
    progress: int | str | None = None
    result: object = None
    started_time: str | None = None
    finished_time: str | None = None
    ended_at: float = 0.0
    """When the command ended, on the monotonic clock in seconds."""

    @property
    def is_finished(self) -> bool:
        """Whether the command has ended."""
        return is_final(self.status)

    def start(self) -> None:
        """Note that the command has started."""
        self.started_time = now()

    def end(self, ended_at: float) -> None:
        """Note that the command has ended."""
        self.finished_time = now()
        self.ended_at = ended_at

    def queue_entry(self) -> str:
        """Return the entry for ``lrcQueue``."""
        return to_json({"uid": self.uid, "name": self.name, "submitted_time": self.submitted_time})

    def executing_entry(self) -> str:
        """Return the entry for ``lrcExecuting``."""
        entry: dict[str, object] = {
            "uid": self.uid,
            "name": self.name,
            "submitted_time": self.submitted_time,
            "started_time": self.started_time,
        }
        if self.progress is not None:
            entry["progress"] = self.progress
        return to_json(entry)

    def finished_entry(self) -> str:
        """Return the entry for ``lrcFinished``."""
        entry: dict[str, object] = {
            "uid": self.uid,
            "name": self.name,
            "status": self.status.name,
            "submitted_time": self.submitted_time,
        }
        if self.started_time is not None:
            entry["started_time"] = self.started_time
        entry["finished_time"] = self.finished_time
        if self.progress is not None:
            entry["progress"] = self.progress
        entry["result"] = self.result
        return to_json(entry)
