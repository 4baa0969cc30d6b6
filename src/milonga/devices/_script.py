"""What a simulated leaf does with each command, as data."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from milonga.control_model import ResultCode, StateName, TaskStatus
from milonga.errors import ArgumentError

__all__ = ["CommandScript", "ScriptedOutcome", "parse_script"]


class ScriptedOutcome(StrEnum):
    """How a simulated command ends."""

    OK = "ok"
    FAILED = "failed"
    """It runs to its end, and has failed: COMPLETED with ResultCode.FAILED."""
    FAULT = "fault"
    """It ends as if by a bug: FAILED."""
    REJECTED = "rejected"
    """It is taken, and rejected when its turn comes."""
    REFUSED = "refused"
    """It is refused at once, without an id."""
    NEVER = "never"
    """It does not end, unless it is aborted."""


RESULTS: dict[ScriptedOutcome, tuple[TaskStatus, ResultCode]] = {
    ScriptedOutcome.OK: (TaskStatus.COMPLETED, ResultCode.OK),
    ScriptedOutcome.FAILED: (TaskStatus.COMPLETED, ResultCode.FAILED),
    ScriptedOutcome.FAULT: (TaskStatus.FAILED, ResultCode.FAILED),
    ScriptedOutcome.REJECTED: (TaskStatus.REJECTED, ResultCode.REJECTED),
}


class CommandScript(BaseModel):
    """What a simulated leaf does with one command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    duration: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 0.0
    """Seconds from start to end."""
    steps: Annotated[int, Field(ge=0, le=100)] = 0
    """How many times progress is reported on the way."""
    outcome: ScriptedOutcome = ScriptedOutcome.OK
    message: str = ""
    """Text of the result; made from the command's name if empty."""
    state: StateName | None = None
    """State in which the device is when the command has worked."""
    extend: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 0.0
    """Seconds more than it was given that the command asks for when it starts."""
    safety: bool = False
    """Whether the command overtakes all others, and has what runs aborted."""

    def result(self, command: str) -> tuple[TaskStatus, tuple[ResultCode, str]]:
        """Return status and result with which `command` ends.

        Examples
        --------
        >>> CommandScript().result("On")[1][1]
        'On command completed OK'
        """
        status, code = RESULTS[self.outcome]
        text = {
            ScriptedOutcome.OK: f"{command} command completed OK",
            ScriptedOutcome.REJECTED: f"{command} was rejected",
        }.get(self.outcome, f"{command} failed")
        return status, (code, self.message or text)


class _Script(RootModel[dict[str, CommandScript]]):
    pass


def parse_script(text: str) -> dict[str, CommandScript]:
    """Read a leaf's script: JSON, command name or ``*`` to what is done with it.

    Raises
    ------
    ArgumentError
        If the text is no such script; names the field, what was found and what was expected.
    """
    try:
        return _Script.model_validate_json(text or "{}").root
    except ValidationError as error:
        raise ArgumentError(
            "script: "
            + "; ".join(
                f"{'.'.join(str(part) for part in problem['loc']) or 'value'}:"
                f" found {problem['input']!r}; expected: {problem['msg']}"
                for problem in error.errors(include_url=False)
            )
        ) from error
