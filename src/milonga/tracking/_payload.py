"""What a tracker tells, as keywords; and what of that a long-running command's callback takes."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from milonga.control_model import TaskStatus
from milonga.tracking._coercion import ObsModes
from milonga.tracking._outbox import log_safely
from milonga.tracking._outcome import AggregationOutcome

__all__ = ["completion_payload", "lrc_callback", "progress_payload"]

_LRC_KEYS = ("status", "progress", "result", "error")
_logger = logging.getLogger(__name__)


def progress_payload(task_name: str, progress: int) -> dict[str, Any]:
    """Return the keywords of a progress notification (PR-06)."""
    return {"task_name": task_name, "progress": progress, "status": TaskStatus.IN_PROGRESS}


def completion_payload(
    task_name: str,
    outcome: AggregationOutcome,
    *,
    counts: Mapping[str, int],
    devices: tuple[list[str], list[str]],
    errors: tuple[object, ...],
    operation: ObsModes | None,
    obs_mode: ObsModes | None,
) -> dict[str, Any]:
    """Return the keywords of a completion; those that are not known are left out (CB-01 to 03)."""
    health = outcome.health_state
    optional = {
        "devices": devices[0],
        "failed_devices": devices[1],
        "health_state": health.name if health is not None else None,
        "error": errors,
        "operation": operation,
        "obs_mode": obs_mode,
    }
    return {
        "task_name": task_name,
        "status": outcome.status,
        "result": (outcome.result_code, outcome.message),
        "progress": 100,
        "counts": dict(counts),
    } | {key: value for key, value in optional.items() if value}


def lrc_callback(
    callback: Callable[..., object], *, sink: Callable[..., object] | None = None
) -> Callable[..., None]:
    """Make a completed callback for a root tracker out of a long-running command's callback.

    Parameters
    ----------
    callback : callable
        Takes only `status`, `progress`, `result` and `error`, each optional (CB-04).
    sink : callable, optional
        Called before, with the keywords that are left: devices, health, counts and context. What it
        raises is logged and hurts nobody.

    Returns
    -------
    callable
        For `TaskTracker(completed_callback=...)`.

    Examples
    --------
    >>> told = lrc_callback(lambda *, status=None, result=None: print(int(status), result))
    >>> told(task_name="On", status=TaskStatus.COMPLETED, result=(0, ""), devices=["a/b/c"])
    5 (0, '')
    """

    def tell(**payload: Any) -> None:
        taken = {key: payload.pop(key) for key in _LRC_KEYS if key in payload}
        if sink is not None:
            try:
                sink(**payload)
            except Exception as fault:  # noqa: BLE001 - the sink's trouble is not the command's
                log_safely(_logger, logging.ERROR, "sink failed", fault=fault)
        callback(**taken)

    return tell
