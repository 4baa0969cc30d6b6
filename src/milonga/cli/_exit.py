"""What the command line's exit codes mean, and which outcome or error gives which."""

import re
from enum import IntEnum

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import (
    ArgumentError,
    CommandMapError,
    CommandRejected,
    CompositionError,
    DeploymentError,
    MilongaError,
    PlanNotFound,
    ProtocolError,
    RecordNotFound,
    RecordsError,
    TopologyError,
    Unreachable,
)

__all__ = ["ExitCode", "error_text", "exit_code_of_error", "exit_code_of_outcome"]

_DATABASE = re.compile(r"tango://[^/\s]+/(?=[^/\s]+/[^/\s]+/[^/\s]+)")


class ExitCode(IntEnum):
    """Exit codes of every command of the command line."""

    OK = 0
    FAILED = 1
    USAGE = 2
    ABORTED = 3
    REJECTED = 4
    TIMEOUT = 5
    UNREACHABLE = 6
    INTERNAL = 7
    INTERRUPTED = 130


_OF_STATUS = {
    TaskStatus.FAILED: ExitCode.FAILED,
    TaskStatus.ABORTED: ExitCode.ABORTED,
    TaskStatus.REJECTED: ExitCode.REJECTED,
}

_OF_COMPLETED = {
    ResultCode.OK: ExitCode.OK,
    ResultCode.ABORTED: ExitCode.ABORTED,
    ResultCode.REJECTED: ExitCode.REJECTED,
    ResultCode.NOT_ALLOWED: ExitCode.REJECTED,
}

_OF_ERROR: tuple[tuple[type[MilongaError], ExitCode], ...] = (
    (TopologyError, ExitCode.USAGE),
    (ArgumentError, ExitCode.USAGE),
    (CommandMapError, ExitCode.USAGE),
    (CompositionError, ExitCode.USAGE),
    (DeploymentError, ExitCode.FAILED),
    (PlanNotFound, ExitCode.REJECTED),
    (RecordNotFound, ExitCode.REJECTED),
    (RecordsError, ExitCode.FAILED),
    (CommandRejected, ExitCode.REJECTED),
    (ProtocolError, ExitCode.FAILED),
    (Unreachable, ExitCode.UNREACHABLE),
)


def exit_code_of_outcome(status: TaskStatus, result_code: ResultCode) -> ExitCode:
    """Tell how a command that ended in this way ends the command line.

    Examples
    --------
    >>> exit_code_of_outcome(TaskStatus.COMPLETED, ResultCode.FAILED).name
    'FAILED'
    """
    if status is TaskStatus.COMPLETED:
        return _OF_COMPLETED.get(result_code, ExitCode.FAILED)
    return _OF_STATUS.get(status, ExitCode.INTERNAL)


def error_text(error: BaseException) -> str:
    """Say what an error says, with devices named as people do: without the database.

    Examples
    --------
    >>> error_text(Unreachable("tango://db:10000/lab/a/1 cannot be reached"))
    'lab/a/1 cannot be reached'
    """
    return _DATABASE.sub("", str(error))


def exit_code_of_error(error: BaseException) -> ExitCode:
    """Tell how an error ends the command line.

    Examples
    --------
    >>> exit_code_of_error(Unreachable("no answer")).name
    'UNREACHABLE'
    """
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), ExitCode.INTERNAL)
