"""What a faulty leaf does wrong, as data."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from milonga.errors import ArgumentError

__all__ = ["AbortFault", "CommandFault", "CrashAt", "EventFaults", "Faults", "parse_faults"]

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AbortFault(StrEnum):
    """What becomes of the wish to abort."""

    TAKE = "take"
    """Nothing is wrong."""
    REFUSE = "refuse"
    """It is answered REJECTED."""
    REFUSE_ONE = "refuse-one"
    """The abort of one command by its id is answered REJECTED, the abort of all is taken."""
    RAISE = "raise"
    """The call ends in a Tango exception."""
    IGNORE = "ignore"
    """It is taken, and nothing follows."""
    HANG = "hang"
    """The call hangs in blocking code."""


class CrashAt(StrEnum):
    """When the whole server process ends, with no word to anybody."""

    CALL = "call"
    """In the call, before the answer."""
    START = "start"
    """When the command starts, which may be before the answer has reached the client."""


class CommandFault(_Model):
    """What is wrong with one command, beside what its script says."""

    raises: str = ""
    """Text of a Tango exception with which the call ends."""
    bug: str = ""
    """Text of an exception with which the command's own code breaks down."""
    hang_before_reply: Seconds = 0.0
    """Seconds for which the call blocks the device before it is answered."""
    hang: Seconds = 0.0
    """Seconds for which the command, once it has started, blocks the device."""
    crash: CrashAt | None = None
    """When the server process ends."""
    crash_after: Seconds | None = None
    """Seconds after the start of the command when the server process ends."""
    overrun: bool = False
    """Whether the command takes no notice of the time that it is given."""
    forget: bool = False
    """Whether the device forgets the command as soon as it has begun."""


class EventFaults(_Model):
    """What happens to the events of commands; the shares are of all events, and add up to 1."""

    drop: Share = 0.0
    double: Share = 0.0
    delay: Share = 0.0
    delay_seconds: Seconds = 3.0
    """Longest delay; each is drawn from a tenth of it to all of it."""
    reorder: Share = 0.0
    """Share of events that come after the one that follows them."""
    seed: int = 0

    @model_validator(mode="after")
    def _one_fault_each(self) -> Self:
        total = self.drop + self.double + self.delay + self.reorder
        if total > 1 + 1e-9:
            raise ValueError(f"drop, double, delay and reorder of 1 together; found {total:g}")
        return self


class Faults(_Model):
    """All that is wrong with a leaf; nothing by default."""

    commands: dict[str, CommandFault] = Field(default_factory=dict)
    """By command; ``*`` for all others."""
    abort: AbortFault = AbortFault.TAKE
    events: EventFaults = Field(default_factory=EventFaults)
    state: str = ""
    """Name of the State that the device shows, whatever it is in."""

    def of(self, command: str) -> CommandFault:
        """Return what is wrong with a command."""
        return self.commands.get(command) or self.commands.get("*") or _NONE


_NONE = CommandFault()


def parse_faults(text: str) -> Faults:
    """Read what a leaf does wrong: JSON.

    Raises
    ------
    ArgumentError
        If the text says no such thing; names the field, what was found and what was expected.

    Examples
    --------
    >>> parse_faults('{"abort": "refuse"}').abort.value
    'refuse'
    """
    try:
        return Faults.model_validate_json(text or "{}")
    except ValidationError as error:
        raise ArgumentError(
            "faults: "
            + "; ".join(
                f"{'.'.join(str(part) for part in problem['loc']) or 'value'}:"
                f" found {problem['input']!r}; expected: {problem['msg']}"
                for problem in error.errors(include_url=False)
            )
        ) from error
