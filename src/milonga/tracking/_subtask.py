"""What is known about one subtask, and how its outcome counts."""

from dataclasses import dataclass, field
from enum import IntEnum

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking._coercion import (
    FINAL_STATUSES,
    IS_FINAL,
    ObsModes,
    parse_result,
    read_context,
    read_devices,
    read_health,
    read_name,
    read_status,
)
from milonga.tracking._messages import clip, printable, with_device

__all__ = ["MAX_TEXT_BYTES", "SubtaskResult", "Verdict", "joined_health", "verdict_of"]

MAX_TEXT_BYTES = 8192  # of one subtask's message


class Verdict(IntEnum):
    """The class in which a subtask is counted; each subtask is in exactly one."""

    QUEUED = 0
    RUNNING = 1
    OK = 2
    FAILED = 3  # ran to its end and did not succeed
    ABNORMAL = 4  # its executor broke down, or forgot it
    REJECTED = 5
    ABORTED = 6


_REFUSED = frozenset({ResultCode.REJECTED, ResultCode.NOT_ALLOWED})
_FINE = frozenset({None, ResultCode.OK, ResultCode.STARTED, ResultCode.QUEUED})


def _judge(status: TaskStatus, code: ResultCode | None) -> Verdict:
    """Put a pair into its class; where the predicates of SR-12 overlap, the gravest wins."""
    if status not in FINAL_STATUSES:
        return Verdict.RUNNING if status is TaskStatus.IN_PROGRESS else Verdict.QUEUED
    if status is TaskStatus.ABORTED or code is ResultCode.ABORTED:
        return Verdict.ABORTED
    if status in {TaskStatus.FAILED, TaskStatus.NOT_FOUND}:
        return Verdict.ABNORMAL
    if status is TaskStatus.REJECTED or code in _REFUSED:
        return Verdict.REJECTED
    return Verdict.OK if code in _FINE else Verdict.FAILED


# By the values of status and code; the last column is for no code.
_VERDICTS = tuple(
    tuple(_judge(status, code) for code in (*sorted(ResultCode), None))
    for status in sorted(TaskStatus)
)


def verdict_of(status: TaskStatus, code: ResultCode | None) -> Verdict:
    """Return the class in which a subtask with this status and code is counted (SR-12)."""
    return _VERDICTS[status][-1 if code is None else code]


_GRAVITY = {None: 0, HealthState.OK: 0, HealthState.DEGRADED: 1, HealthState.FAILED: 2}


def joined_health(one: HealthState | None, other: HealthState | None) -> HealthState | None:
    """Return the graver of two opinions; OK and UNKNOWN are none."""
    graver = one if _GRAVITY.get(one, 0) >= _GRAVITY.get(other, 0) else other
    return graver if _GRAVITY.get(graver, 0) else None


@dataclass(frozen=True, slots=True)
class SubtaskResult:
    """One subtask as its tracker knows it; a value that never changes.

    Use `from_report` to make one of values as they come over the wire.

    Parameters
    ----------
    name : str
        Name under which the subtask reports.
    status : TaskStatus
        How far it is.
    result_code : ResultCode or None
        What it achieved; None as long as it has not said.
    message : str
        Its text, with the device's name before it when that is known.
    device_name : str or None
        The one device that it runs on.
    devices, failed_devices : tuple of str
        The devices that take part, and those of them that failed.
    operation : str or None
        The operation that it is part of.
    obs_mode : str, tuple of str or None
        The observing modes that it is part of.
    health : HealthState or None
        DEGRADED or FAILED, if the subtask gave an opinion.
    reported, started, finished : float or None
        Times of its first update, its start and its end, in seconds on the tracker's clock.
    """

    name: str
    status: TaskStatus = TaskStatus.QUEUED
    result_code: ResultCode | None = None
    message: str = ""
    device_name: str | None = None
    devices: tuple[str, ...] = ()
    failed_devices: tuple[str, ...] = ()
    operation: ObsModes | None = None
    obs_mode: ObsModes | None = None
    health: HealthState | None = None
    reported: float | None = field(default=None, compare=False)
    started: float | None = field(default=None, compare=False)
    finished: float | None = field(default=None, compare=False)

    @classmethod
    def from_report(
        cls,
        name: str,
        *,
        status: object = None,
        result: object = None,
        device_name: object = None,
        devices: object = None,
        failed_devices: object = None,
        operation: object = None,
        obs_mode: object = None,
        health_state: object = None,
    ) -> "SubtaskResult":
        """Make a subtask of values as they come over the wire; never raises for their content.

        Examples
        --------
        >>> SubtaskResult.from_report("x", status=5, result='[3, "bad"]', device_name="d").message
        'd: bad'
        """
        known = read_status(status) or TaskStatus.QUEUED
        code, text = (None, "") if result is None else parse_result(result, known)
        device, failed = read_name(device_name), read_devices(failed_devices)
        return cls(
            name,
            known,
            code,
            with_device(clip(printable(text), MAX_TEXT_BYTES), device),
            device,
            read_devices(devices),
            failed,
            read_context(operation),
            read_context(obs_mode),
            read_health(health_state),
        )

    @property
    def verdict(self) -> Verdict:
        """The class in which the subtask is counted."""
        code = self.result_code
        return _VERDICTS[self.status][-1 if code is None else code]

    @property
    def is_final(self) -> bool:
        """Whether the subtask has ended."""
        return IS_FINAL[self.status]

    @property
    def is_partial(self) -> bool:
        """Whether it was judged, by its own tracker, to have done part of its work."""
        return self.health is HealthState.DEGRADED

    @property
    def seconds(self) -> float | None:
        """How long it ran, in seconds; None as long as it has not ended."""
        if self.started is None or self.finished is None:
            return None
        return self.finished - self.started

    @property
    def involved_devices(self) -> tuple[str, ...]:
        """The devices that take part: `devices`, else the one device; and those that failed."""
        if self.devices or self.device_name is None:
            return with_failed(self.devices, self.failed_devices)
        return with_failed((self.device_name,), self.failed_devices)

    @property
    def blamed_devices(self) -> tuple[str, ...]:
        """The devices blamed for a failure: `failed_devices`, else all that take part."""
        return self.failed_devices or self.involved_devices


def with_failed(devices: tuple[str, ...], failed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the devices with those that failed among them (TT-10)."""
    if not failed:
        return devices
    return tuple(dict.fromkeys((*devices, *failed)))
