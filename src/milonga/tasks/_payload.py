"""Completion payloads: what a tracker tells when its task has ended."""

from collections.abc import Mapping

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking import AggregationOutcome

__all__ = ["is_completion", "is_ok", "is_partial", "lrc_payload", "one_line"]

_LRC_KEYS = ("status", "progress", "result", "error")


def lrc_payload(payload: Mapping[str, object]) -> dict[str, object]:
    """Reduce a payload to the keywords that a long-running command's callback takes (CB-04).

    Parameters
    ----------
    payload : mapping
        Keywords of a completion or progress notification.

    Returns
    -------
    dict
        Those of `status`, `progress`, `result` and `error` that are there and not None.

    Examples
    --------
    >>> lrc_payload({"task_name": "On", "progress": 40, "devices": ["a/b/c"]})
    {'progress': 40}
    """
    return {key: payload[key] for key in _LRC_KEYS if payload.get(key) is not None}


def is_completion(payload: Mapping[str, object]) -> bool:
    """Tell whether a notification is the last one; a progress notification has no result."""
    return payload.get("result") is not None


def is_ok(payload: Mapping[str, object]) -> bool:
    """Tell whether a completion payload is one of success."""
    result = payload.get("result")
    code = result[0] if isinstance(result, (tuple, list)) and result else None
    return payload.get("status") == TaskStatus.COMPLETED and code == ResultCode.OK


def is_partial(outcome: AggregationOutcome) -> bool:
    """Tell whether enough of a task has succeeded, though not all."""
    degraded = outcome.health_state is HealthState.DEGRADED
    failed = outcome.result_code is ResultCode.FAILED
    return degraded and failed and outcome.status is TaskStatus.COMPLETED


def one_line(payload: Mapping[str, object], limit: int = 200) -> str:
    """Return the message of a completion payload as one short line."""
    result = payload.get("result")
    text = str(result[1]) if isinstance(result, (tuple, list)) and len(result) > 1 else ""
    text = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
