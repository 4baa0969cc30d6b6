"""A status as the work of a leaf in a task tree."""

from collections.abc import Callable
from typing import Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.engine._outcome import Situation, meaning_of, ran_out
from milonga.engine._status import failure_of
from milonga.engine._status_bridges import AnyStatus

__all__ = ["report_status"]


def report_status(status: AnyStatus, on_update: Callable[..., None]) -> None:
    """Report a status as the updates of a subtask (IN-07).

    Parameters
    ----------
    status : Status
        Of any kind that bluesky takes; if it can be watched, its progress is reported.
    on_update : callable
        Takes the keywords `status`, `progress` and `result`, from the threads of the status.

    Examples
    --------
    >>> from milonga.engine import Status
    >>> status, told = Status(name="home"), []
    >>> report_status(status, lambda **update: told.append(update))
    >>> told[-1]["status"].name
    'IN_PROGRESS'
    >>> failed = Status(name="home")
    >>> failed.set_exception(OSError("the brake is on"))
    >>> report_status(failed, lambda **update: told.append(update))
    >>> told[-1]["status"].name, told[-1]["result"][1]
    ('FAILED', 'broken: OSError: the brake is on')
    """
    on_update(status=TaskStatus.IN_PROGRESS)
    watch = getattr(status, "watch", None)
    if callable(watch):
        reached = 0

        def moved(**progress: Any) -> None:
            nonlocal reached
            percent = _percent(**progress)
            if percent > reached:
                reached = percent
                on_update(progress=percent)

        watch(moved)
    status.add_callback(lambda ended: on_update(**_end_of(ended)))


def _percent(
    *,
    fraction: float | None = None,
    current: Any = None,
    initial: Any = None,
    target: Any = None,
    **_more: object,
) -> int:
    """Return how far an operation is; 0 if it does not say, and 100 only at its end."""
    try:
        if fraction is None:
            fraction = (current - initial) / (target - initial)
        return max(0, min(99, int(100 * fraction)))
    except (TypeError, ZeroDivisionError, ValueError, OverflowError):
        return 0


def _end_of(status: AnyStatus) -> dict[str, Any]:
    if status.success:
        done = (ResultCode.OK, "completed")
        return {"status": TaskStatus.COMPLETED, "progress": 100, "result": done}
    error = failure_of(status)
    situation = Situation.TIMED_OUT if ran_out(error) else Situation.BROKEN
    meaning = meaning_of(situation)
    text = f"{situation}: {type(error).__name__}: {error}"
    return {"status": meaning.status, "result": (meaning.code, text)}
