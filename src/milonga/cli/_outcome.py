"""One word for how a command stands, in every list: what its tree says, or the records."""

from collections.abc import Mapping
from typing import Any

__all__ = ["FILTERS", "GOOD", "outcome_of_record"]

GOOD = frozenset({"OK", "STOPPED"})
"""Words of what has ended well."""

_OF_STATUS = {"SUCCESS": "OK", "FAILURE": "FAILED", "PARTIAL": "PARTIAL", "LOST": "LOST"}
_OF_PHASE = {"RUNNING": "IN_PROGRESS", "FINISHED": "LOST"}  # or else the phase itself

FILTERS = {
    "OK": "SUCCESS",
    "FAILED": "FAILURE",
    "QUEUED": "PENDING",
    "IN_PROGRESS": "PENDING",
    "RUNNING": "PENDING",
    "PAUSED": "PENDING",
}
"""Words of lists that the records have another word for."""


def outcome_of_record(record: Mapping[str, Any]) -> str:
    """Say in a word how a recorded command stands; the cause is more than the status.

    Examples
    --------
    >>> outcome_of_record({"status": "FAILURE", "cause": "TIMED_OUT"})
    'TIMED_OUT'
    >>> outcome_of_record({"status": "FAILURE", "cause": "ERROR"})
    'FAILED'
    >>> outcome_of_record({"status": "PENDING", "phase": "RUNNING"})
    'IN_PROGRESS'
    """
    cause, status = record.get("cause"), record.get("status")
    if cause and cause != "ERROR":
        return str(cause)
    if status is None or status == "PENDING":
        phase = str(record.get("phase") or "QUEUED")
        return _OF_PHASE.get(phase, phase)
    return _OF_STATUS.get(str(status), str(status))
