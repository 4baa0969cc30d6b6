"""The words for how a task stands, and one table that joins four vocabularies.

A record's *status* is one of five words. QHAna's clients know PENDING, SUCCESS and FAILURE;
PARTIAL (enough subtasks succeeded, not all) and LOST (nobody can know) are ours. A sixth word for
each way to fail would be unknown to every client, so that is a second column, the *cause*:
ABORTED, REJECTED, NOT_ALLOWED, TIMED_OUT and ERROR explain a FAILURE, STOPPED a SUCCESS.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum

from milonga.control_model import HealthState, ResultCode, TaskStatus

__all__ = [
    "CAUSES",
    "SITUATIONS",
    "TERMINAL_WORDS",
    "AnalysisStatus",
    "Cause",
    "Phase",
    "RecordStatus",
    "Situation",
    "Words",
    "read_status",
    "situation_of",
    "situation_of_analysis",
    "situation_of_record",
]


class RecordStatus(StrEnum):
    """The status of a record; UNKNOWN is never stored (QL-03)."""

    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    PARTIAL = "PARTIAL"
    LOST = "LOST"
    UNKNOWN = "UNKNOWN"


class Cause(StrEnum):
    """How a task came to its status, where the status alone does not say."""

    STOPPED = "STOPPED"
    ERROR = "ERROR"
    REJECTED = "REJECTED"
    NOT_ALLOWED = "NOT_ALLOWED"
    ABORTED = "ABORTED"
    TIMED_OUT = "TIMED_OUT"


class Phase(StrEnum):
    """How far a task is."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    FINISHED = "FINISHED"


class AnalysisStatus(IntEnum):
    """The status of an analysis, with LUTE's names and values (LU-01)."""

    PENDING = 0
    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    STOPPED = 4
    CANCELLED = 5
    TIMEDOUT = 6


class Situation(Enum):
    """What can be said of a command."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    STOPPED = "stopped"
    PARTIAL = "partial"
    FAILED = "failed"
    ERROR = "error"
    REJECTED = "rejected"
    NOT_ALLOWED = "not allowed"
    ABORTED = "aborted"
    TIMED_OUT = "timed out"
    LOST = "lost"

    @property
    def words(self) -> "Words":
        """How each vocabulary says it."""
        return SITUATIONS[self]

    @property
    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self.words.phase is Phase.FINISHED


@dataclass(frozen=True, slots=True)
class Words:
    """One situation in four vocabularies.

    Parameters
    ----------
    task_status, result_code, health
        On the wire; `health` is None where the outcome says nothing of it.
    analysis : AnalysisStatus
        LUTE's word.
    status, cause, phase
        The record's words.
    """

    task_status: TaskStatus
    result_code: ResultCode
    health: HealthState | None
    analysis: AnalysisStatus
    status: RecordStatus
    cause: Cause | None
    phase: Phase


_T, _R, _H, _A, _S = TaskStatus, ResultCode, HealthState, AnalysisStatus, RecordStatus
_OVER = Phase.FINISHED

SITUATIONS: dict[Situation, Words] = {
    Situation.ACCEPTED: Words(
        _T.QUEUED, _R.QUEUED, None, _A.PENDING, _S.PENDING, None, Phase.QUEUED
    ),
    Situation.RUNNING: Words(
        _T.IN_PROGRESS, _R.STARTED, None, _A.RUNNING, _S.PENDING, None, Phase.RUNNING
    ),
    Situation.PAUSED: Words(
        _T.IN_PROGRESS, _R.STARTED, None, _A.STOPPED, _S.PENDING, None, Phase.PAUSED
    ),
    Situation.DONE: Words(_T.COMPLETED, _R.OK, None, _A.COMPLETED, _S.SUCCESS, None, _OVER),
    Situation.STOPPED: Words(
        _T.COMPLETED, _R.OK, None, _A.COMPLETED, _S.SUCCESS, Cause.STOPPED, _OVER
    ),
    Situation.PARTIAL: Words(
        _T.COMPLETED, _R.FAILED, _H.DEGRADED, _A.COMPLETED, _S.PARTIAL, None, _OVER
    ),
    Situation.FAILED: Words(_T.COMPLETED, _R.FAILED, _H.FAILED, _A.FAILED, _S.FAILURE, None, _OVER),
    Situation.ERROR: Words(
        _T.FAILED, _R.FAILED, _H.FAILED, _A.FAILED, _S.FAILURE, Cause.ERROR, _OVER
    ),
    Situation.REJECTED: Words(
        _T.REJECTED, _R.REJECTED, None, _A.FAILED, _S.FAILURE, Cause.REJECTED, _OVER
    ),
    Situation.NOT_ALLOWED: Words(
        _T.REJECTED, _R.NOT_ALLOWED, None, _A.FAILED, _S.FAILURE, Cause.NOT_ALLOWED, _OVER
    ),
    Situation.ABORTED: Words(
        _T.ABORTED, _R.ABORTED, None, _A.CANCELLED, _S.FAILURE, Cause.ABORTED, _OVER
    ),
    Situation.TIMED_OUT: Words(
        _T.FAILED, _R.FAILED, _H.FAILED, _A.TIMEDOUT, _S.FAILURE, Cause.TIMED_OUT, _OVER
    ),
    Situation.LOST: Words(_T.FAILED, _R.UNKNOWN, _H.FAILED, _A.FAILED, _S.LOST, None, _OVER),
}
"""The table of behaviours 5.1, with the decisions of section 8."""

TERMINAL_WORDS = tuple(
    dict.fromkeys(words.status for words in SITUATIONS.values() if words.phase is _OVER)
)
CAUSES = tuple(Cause)

_BY_RECORD = {
    (words.status, words.cause): situation
    for situation, words in SITUATIONS.items()
    if situation.is_final
}
_BY_WIRE = {
    (words.task_status, words.result_code): situation
    for situation, words in reversed(SITUATIONS.items())
}
_BY_WIRE |= {
    (_T.COMPLETED, _R.FAILED): Situation.FAILED,
    (_T.FAILED, _R.FAILED): Situation.ERROR,
}
_BY_STATUS = {
    _T.STAGING: Situation.ACCEPTED,
    _T.QUEUED: Situation.ACCEPTED,
    _T.IN_PROGRESS: Situation.RUNNING,
    _T.COMPLETED: Situation.FAILED,  # ran to its end, and does not say that it went well
    _T.ABORTED: Situation.ABORTED,
    _T.REJECTED: Situation.REJECTED,
    _T.FAILED: Situation.ERROR,
    _T.NOT_FOUND: Situation.LOST,
}
_BY_ANALYSIS = {words.analysis: situation for situation, words in reversed(SITUATIONS.items())} | {
    _A.FAILED: Situation.FAILED,
    _A.COMPLETED: Situation.DONE,
}

TIMED_OUT_TEXT = "timed out"
"""How the message of a command begins that missed its deadline: the wire has no other sign."""


def situation_of(
    status: TaskStatus,
    code: ResultCode,
    health: HealthState | str | None = None,
    message: str = "",
) -> Situation:
    """Return the situation that a pair on the wire stands for.

    Parameters
    ----------
    status, code : TaskStatus, ResultCode
        What the command reports. A pair that makes no sense is read by its status, never as OK.
    health : HealthState or str, optional
        The completion payload's ``health_state``; DEGRADED makes a failure a partial success.
    message : str, optional
        The result's text.

    Examples
    --------
    >>> situation_of(TaskStatus.COMPLETED, ResultCode.FAILED, "DEGRADED")
    <Situation.PARTIAL: 'partial'>
    """
    pair = (TaskStatus(status), ResultCode(code))
    situation = _BY_WIRE.get(pair, _BY_STATUS[pair[0]])
    degraded = health in {HealthState.DEGRADED, HealthState.DEGRADED.name}
    if situation is Situation.FAILED and degraded:
        return Situation.PARTIAL
    if situation is Situation.ERROR and message.startswith(TIMED_OUT_TEXT):
        return Situation.TIMED_OUT
    return situation


def situation_of_record(phase: str, status: str | None, cause: str | None) -> Situation:
    """Return the situation that a record's columns stand for."""
    if phase != Phase.FINISHED:
        names = {Phase.QUEUED: Situation.ACCEPTED, Phase.PAUSED: Situation.PAUSED}
        return names.get(Phase(phase), Situation.RUNNING)
    if status is None:
        return Situation.LOST
    word = read_status(status)
    return _BY_RECORD.get(
        (word, Cause(cause) if cause else None), _BY_RECORD.get((word, None), Situation.LOST)
    )


def situation_of_analysis(status: AnalysisStatus) -> Situation:
    """Return the situation that LUTE's word stands for."""
    return _BY_ANALYSIS[status]


def read_status(word: str) -> RecordStatus:
    """Read a status that somebody else wrote; ERROR means FAILURE (QL-04).

    Raises
    ------
    ValueError
        If it is no status.
    """
    if word.upper() == "ERROR":
        return RecordStatus.FAILURE
    try:
        return RecordStatus(word.upper())
    except ValueError:
        known = ", ".join(RecordStatus)
        raise ValueError(f"status: found {word!r}, expected one of {known}") from None
