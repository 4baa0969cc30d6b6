"""The books of a tracker: one entry per subtask, and counters that spare walking over them.

Nothing here locks, logs or calls foreign code; the tracker's lock guards a ledger.
"""

from collections.abc import Mapping
from enum import IntEnum
from itertools import islice

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking._coercion import IS_FINAL, code_of_status
from milonga.tracking._messages import with_device
from milonga.tracking._progress import ProgressMeter
from milonga.tracking._report import Report
from milonga.tracking._subtask import SubtaskResult, Verdict, joined_health, with_failed

__all__ = ["DETAILS_KEPT", "MAX_ERRORS", "MAX_UNDECLARED", "Entry", "Ledger", "SubtaskKey"]

# A second device that reports under a name in use is told apart by its own name (TT-07).
SubtaskKey = str | tuple[str, str]

MAX_ERRORS = 32
MAX_UNDECLARED = 1024  # subtasks beyond those declared
DETAILS_KEPT = 1024  # subtasks whose details outlive the task; of more, only unhappy ones

# By value: STAGING, QUEUED, IN_PROGRESS, and all that is final.
_ORDER = tuple(3 if IS_FINAL[status] else int(status) for status in sorted(TaskStatus))
_AT_WORK = _ORDER[TaskStatus.IN_PROGRESS]
_INTERIM = frozenset({ResultCode.STARTED, ResultCode.QUEUED})
_HUNDRED = 100
_NEW = TaskStatus.STAGING  # nothing is before it, so a first status is taken as it is
_NOBODY = SubtaskResult("")


class Entry(IntEnum):
    """What became of an update."""

    TAKEN = 0
    DUPLICATE = 1  # its subtask was over
    IGNORED = 2  # nothing in it could be used
    REFUSED = 3  # one undeclared subtask too many


class Ledger:
    """Subtasks, their counters, and what they told about devices and errors.

    Parameters
    ----------
    total : int
        How many subtasks were declared.
    weights : mapping of str to float or None
        Expected seconds per subtask.
    step : int
        Step of progress notifications, in per cent.
    """

    __slots__ = (
        "_errors",
        "_open",
        "finals",
        "health",
        "is_compacted",
        "progress",
        "seen",
        "subtasks",
        "tally",
        "total",
    )

    def __init__(self, total: int, weights: Mapping[str, float] | None, step: int) -> None:
        self.total = total
        self.subtasks: dict[SubtaskKey, SubtaskResult] = {}
        self.tally = [0] * len(Verdict)
        self.seen = 0
        self.finals = 0
        self.is_compacted = False  # names may be missing that were there
        self.health: HealthState | None = None
        self.progress = ProgressMeter(total, weights, step)
        self._open: set[SubtaskKey] = set()  # final, but their result has not come
        self._errors: dict[tuple[str, str, str], object] = {}

    # Questions

    @property
    def is_done(self) -> bool:
        """Whether as many are final as were declared, and no known one is at work."""
        return self.finals >= self.total and self.finals == self.seen

    @property
    def results_missing(self) -> int:
        """How many are final and may still tell their result."""
        return len(self._open)

    @property
    def has_begun(self) -> bool:
        """Whether any subtask is at work, or was."""
        return self.finals > 0 or self.tally[Verdict.RUNNING] > 0

    @property
    def counts(self) -> dict[str, int]:
        """The tally as it goes into the completion payload."""
        return {
            "ok": self.tally[Verdict.OK],
            "failed": self.tally[Verdict.FAILED] + self.tally[Verdict.ABNORMAL],
            "rejected": self.tally[Verdict.REJECTED],
            "aborted": self.tally[Verdict.ABORTED],
            "total": max(self.total, self.seen),
        }

    @property
    def errors(self) -> tuple[object, ...]:
        """The errors that came in, each once."""
        return tuple(self._errors.values())

    def key_of(self, report: Report) -> SubtaskKey:
        """Return the key of the subtask that a report is about."""
        device = report.device_name
        if device is None:
            return report.name
        known = self.subtasks.get(report.name)
        if known is None or known.device_name is None or known.device_name == device:
            return report.name
        return (report.name, device)

    def accepts(self, key: SubtaskKey, report: Report) -> bool:
        """Tell whether a report can still change something, so that its context counts."""
        known = self.subtasks.get(key)
        return known is None or not known.is_final or (key in self._open and report.has_result)

    def devices(self) -> tuple[list[str], list[str]]:
        """Return the devices that took part, and those that failed, sorted (TT-22)."""
        involved: set[str] = set()
        failed: set[str] = set()
        for subtask in self.subtasks.values():
            involved.update(subtask.involved_devices)
            verdict = subtask.verdict
            if verdict is Verdict.ABORTED:
                failed.update(subtask.failed_devices)
            elif verdict > Verdict.OK:
                failed.update(subtask.blamed_devices)
        return sorted(involved), sorted(failed)

    # Changes

    def note_errors(self, report: Report) -> None:
        """Keep the errors of a report, each once."""
        for key, error in report.errors:
            if len(self._errors) < MAX_ERRORS:
                self._errors.setdefault(key, error)

    def apply(self, key: SubtaskKey, report: Report, now: float) -> Entry:
        """Enter a report; costs the same however many subtasks there are."""
        if report.errors:
            self.note_errors(report)
        known = self.subtasks.get(key)
        if known is None:
            if self.seen >= max(self.total, 0) + MAX_UNDECLARED:
                return Entry.REFUSED
            self.seen += 1
            self.tally[Verdict.QUEUED] += 1
            self.progress.record(key, 0)
            known = _NOBODY
        elif IS_FINAL[known.status]:
            if not (key in self._open and report.has_result):
                return Entry.DUPLICATE
        elif report.is_empty:
            return Entry.IGNORED
        changed = _merged(known, report, now)
        if changed is not known:
            self._enter(key, known, changed, report)
        if not IS_FINAL[changed.status] and report.progress is not None:
            self.progress.record(key, report.progress)
        return Entry.TAKEN

    def _enter(
        self, key: SubtaskKey, known: SubtaskResult, changed: SubtaskResult, report: Report
    ) -> None:
        """Put the new value in the place of the old one, in the books and in the counters."""
        self.subtasks[key] = changed
        self.tally[known.verdict] -= 1
        self.tally[changed.verdict] += 1
        if changed.health is not None:
            self.health = joined_health(self.health, changed.health)
        if not IS_FINAL[changed.status]:
            return
        if IS_FINAL[known.status]:
            self._open.discard(key)
            return
        self.finals += 1
        self.progress.record(key, _HUNDRED)
        if not _is_settled(changed, report):
            self._open.add(key)

    def compact(self) -> None:
        """Forget what nobody will ask for once the task is over (TH-07)."""
        self.progress.compact()
        self._open = set()
        if len(self.subtasks) > DETAILS_KEPT:
            unhappy = (
                (key, subtask)
                for key, subtask in self.subtasks.items()
                if subtask.verdict is not Verdict.OK
            )
            self.is_compacted = True
            self.subtasks = dict(islice(unhappy, DETAILS_KEPT))


def _is_settled(changed: SubtaskResult, report: Report) -> bool:
    """Tell whether no better result can come for a subtask that has just ended (SR-08).

    A code that came with the final status is the result. One that came before counts too, unless
    it only said that the work was queued or begun. Who forgot the command will not tell its result,
    and has the code UNKNOWN already.
    """
    if report.has_result:
        return True
    has_said = changed.result_code is not None or bool(changed.message)
    return has_said and changed.result_code not in _INTERIM


def _merged(known: SubtaskResult, report: Report, now: float) -> SubtaskResult:
    """Return the subtask as it is after a report; the same object if nothing has changed."""
    new = known is _NOBODY
    status = _next_status(_NEW if new and report.status is not None else known.status, report)
    if not (new or status is not known.status or report.has_result or report.has_more):
        return known
    code, text = known.result_code, known.message
    if report.has_result:
        code, text = report.code, report.text
    over = IS_FINAL[status]
    if code is None and over and (text or status is TaskStatus.NOT_FOUND):
        code = code_of_status(status)
    device = report.device_name or known.device_name
    devices = report.devices or known.devices
    failed = report.failed_devices or known.failed_devices
    if devices and failed:
        devices = with_failed(devices, failed)
    return SubtaskResult(
        report.name,
        status,
        code,
        with_device(text, device, devices) if text and device is not None else text,
        device,
        devices,
        failed,
        report.operation or known.operation,
        report.obs_mode or known.obs_mode,
        report.health or known.health,
        now if new else known.reported,
        now if known.started is None and _ORDER[status] >= _AT_WORK else known.started,
        now if over and known.finished is None else known.finished,
    )


def _next_status(status: TaskStatus, report: Report) -> TaskStatus:
    """Move forward only (SR-11); what reports progress is evidently at work."""
    wanted = report.status
    if wanted is None:
        return TaskStatus.IN_PROGRESS if report.progress and _ORDER[status] < _AT_WORK else status
    return wanted if _ORDER[wanted] > _ORDER[status] else status
