"""One update, read before the tracker takes its lock."""

from collections.abc import Mapping

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking._coercion import (
    ObsModes,
    attempt,
    fault_text,
    is_a,
    parse_result,
    plain_text,
    read_context,
    read_devices,
    read_errors,
    read_health,
    read_name,
    read_progress,
    read_status,
)
from milonga.tracking._messages import clip, printable
from milonga.tracking._subtask import MAX_TEXT_BYTES

__all__ = ["Report", "read_report"]

_PROBLEM_LIMIT = 80  # characters of a refused value that are logged


class Report:
    """What an update says, in the tracker's own types; an attribute is None if it says nothing."""

    # Defaults on the class make a report cost only what the update says.
    status: TaskStatus | None = None
    progress: int | None = None
    has_result = False
    code: ResultCode | None = None
    text = ""
    errors: tuple[tuple[tuple[str, str, str], object], ...] = ()
    has_more = False  # any of those below
    device_name: str | None = None
    devices: tuple[str, ...] = ()
    failed_devices: tuple[str, ...] = ()
    operation: ObsModes | None = None
    obs_mode: ObsModes | None = None
    health: HealthState | None = None
    source = "unknown"
    problems: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    def refuse(self, field: str, value: object) -> None:
        """Note a value that says nothing."""
        shown = printable(plain_text(value)[:_PROBLEM_LIMIT])
        self.problems = (*self.problems, f"{field}={shown!r}")

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the update could be used."""
        return bool(self.problems) and not (
            self.status is not None
            or self.progress is not None
            or self.has_result
            or self.errors
            or self.has_more
        )


def read_report(
    task_name: object,
    status: object,
    progress: object,
    result: object,
    error: object,
    more: Mapping[str, object],
) -> Report | None:
    """Read an update; None if it names no subtask. Never raises, whatever the values do."""
    name = task_name if type(task_name) is str and task_name else None
    if name is None or name.isspace():
        name = read_name(task_name)
        if name is None:
            return None
    report = Report(name)
    if type(status) is TaskStatus:
        report.status = status
    elif status is not None:
        report.status = read_status(status)
        if report.status is None:
            report.refuse("status", status)
    if progress is not None:
        report.progress = read_progress(progress)
        if report.progress is None:
            report.refuse("progress", progress)
    if result is not None:
        _read_result(report, result)
    if error is not None:
        report.errors = _read_error(error)
    if more:
        _read_more(report, more)
    return report


def _read_result(report: Report, result: object) -> None:
    code, text = parse_result(result)
    if code is None and not text:
        return  # an empty text is how an attribute without a result reads
    report.has_result = True
    report.code = code
    report.text = clip(printable(text), MAX_TEXT_BYTES)


def _read_error(error: object) -> tuple[tuple[tuple[str, str, str], object], ...]:
    if is_a(error, BaseException):
        return ((("", fault_text(error), ""), error),)
    return attempt(read_errors, error, ())


def _read_more(report: Report, more: Mapping[str, object]) -> None:
    get = more.get
    report.has_more = True
    report.device_name = read_name(get("device_name"))
    if report.device_name is not None:
        report.device_name = printable(report.device_name)
    report.devices = read_devices(get("devices"))
    report.failed_devices = read_devices(get("failed_devices"))
    report.operation = read_context(get("operation"))
    report.obs_mode = read_context(get("obs_mode"))
    report.health = attempt(read_health, get("health_state"), None)
    source = get("source")
    if source is not None:
        report.source = printable(plain_text(source)[:_PROBLEM_LIMIT])
