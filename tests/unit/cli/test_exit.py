"""Exit codes: the same everywhere, and as documented."""

import pytest

from milonga import errors
from milonga.cli._exit import ExitCode, exit_code_of_error, exit_code_of_outcome
from milonga.control_model import FINAL_STATUSES, ResultCode, TaskStatus


@pytest.mark.parametrize(
    ("status", "result_code", "expected"),
    [
        (TaskStatus.COMPLETED, ResultCode.OK, 0),
        (TaskStatus.COMPLETED, ResultCode.FAILED, 1),
        (TaskStatus.COMPLETED, ResultCode.UNKNOWN, 1),
        (TaskStatus.FAILED, ResultCode.FAILED, 1),
        (TaskStatus.FAILED, ResultCode.OK, 1),
        (TaskStatus.ABORTED, ResultCode.ABORTED, 3),
        (TaskStatus.COMPLETED, ResultCode.ABORTED, 3),
        (TaskStatus.REJECTED, ResultCode.REJECTED, 4),
        (TaskStatus.REJECTED, ResultCode.NOT_ALLOWED, 4),
        (TaskStatus.COMPLETED, ResultCode.NOT_ALLOWED, 4),
    ],
)
def test_an_outcome_has_its_exit_code(
    status: TaskStatus, result_code: ResultCode, expected: int
) -> None:
    """Only a command that ran to its end and succeeded exits with 0."""
    assert exit_code_of_outcome(status, result_code) == expected


def test_only_ok_is_zero() -> None:
    """A script that checks nothing but the exit code is never told a lie."""
    zero = [
        (status, code)
        for status in FINAL_STATUSES
        for code in ResultCode
        if exit_code_of_outcome(status, code) == ExitCode.OK
    ]

    assert zero == [(TaskStatus.COMPLETED, ResultCode.OK)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.TopologyError("x"), 2),
        (errors.ArgumentError("x"), 2),
        (errors.CommandMapError("x"), 2),
        (errors.CompositionError("x"), 2),
        (errors.DeploymentError("x"), 1),
        (errors.CommandRejected("x"), 4),
        (errors.Unreachable("x"), 6),
        (errors.ProtocolError("x"), 1),
        (ValueError("x"), 7),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_has_its_exit_code(error: BaseException, expected: int) -> None:
    """What is our own fault is 7."""
    assert exit_code_of_error(error) == expected
