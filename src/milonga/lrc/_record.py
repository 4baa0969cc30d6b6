"""One command as its device remembers it."""

from dataclasses import dataclass, field

from milonga.control_model import TaskStatus, is_final
from milonga.lrc._wire import now, to_json

__all__ = ["CommandRecord", "Origin"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Who called a command, and as part of what."""

    host: str | None = None
    pid: int | None = None
    transaction_id: str | None = None
    timeout: float | None = None

    def entry(self) -> dict[str, object]:
        """Return what the tables show of it; beside the protocol's keys, which nobody minds."""
        entry: dict[str, object] = {}
        if self.host is not None:
            entry["client"] = {"host": self.host, "pid": self.pid}
        if self.transaction_id is not None:
            entry["transaction_id"] = self.transaction_id
        if self.timeout is not None:
            entry["timeout"] = self.timeout
        return entry


@dataclass(slots=True)
class CommandRecord:
    """A command that a device has accepted, from its submission to its end.

    The JSON of each table is made once per change, because the tables are sent far more often
    than any one entry changes.
    """

    uid: str
    name: str
    origin: Origin = field(default_factory=Origin)
    submitted_time: str = field(default_factory=now)
    status: TaskStatus = TaskStatus.STAGING
    progress: int | str | None = None
    extended: float = 0.0
    """Seconds more than allowed that the command has asked for, in all."""
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
        entry = self._head() | {"started_time": self.started_time}
        if self.progress is not None:
            entry["progress"] = self.progress
        if self.extended:
            entry["extend"] = self.extended
        return to_json(entry | self.origin.entry())

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
        return to_json(entry | self.origin.entry())

    def _head(self) -> dict[str, object]:
        return {"uid": self.uid, "name": self.name, "submitted_time": self.submitted_time}
