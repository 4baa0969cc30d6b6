"""Command arguments: JSON texts that must be objects, checked before anything happens."""

import json
from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milonga.devices._tracked import latin1
from milonga.errors import ArgumentError

__all__ = [
    "ARGUMENT_MODELS",
    "MAX_ARGUMENT_LENGTH",
    "CommandArgument",
    "ScanArgument",
    "parse_argument",
    "resource_names",
]

MAX_ARGUMENT_LENGTH = 1 << 20
"""How many characters the argument of a command may have."""

SubarrayNumber = Annotated[int, Field(strict=True, ge=1)]


class CommonArgument(BaseModel):
    """The part of an argument that is for all subsystems."""

    model_config = ConfigDict(extra="allow")

    config_id: str | None = None
    subarray_id: SubarrayNumber | None = None


class CommandArgument(BaseModel):
    """What all subarray commands have in common; what else there is goes to the children."""

    model_config = ConfigDict(extra="allow")

    interface: str | None = None
    transaction_id: str | None = None
    subarray_id: SubarrayNumber | None = None
    common: CommonArgument | None = None

    @property
    def addressed_subarray(self) -> int | None:
        """The number of the subarray that the argument is for, if it says so."""
        if self.subarray_id is not None:
            return self.subarray_id
        return self.common.subarray_id if self.common is not None else None


class ReleaseArgument(CommandArgument):
    """What ReleaseResources takes."""

    release_all: Annotated[bool, Field(strict=True)] = False


class ScanArgument(CommandArgument):
    """What Scan takes."""

    scan_id: Annotated[int, Field(strict=True, ge=0)] | None = None


ARGUMENT_MODELS: dict[str, type[CommandArgument]] = {
    "AssignResources": CommandArgument,
    "ReleaseResources": ReleaseArgument,
    "Configure": CommandArgument,
    "Scan": ScanArgument,
}
"""The commands that take a JSON object, and the model that it must fit."""


def parse_argument(command: str, text: str, subarray: int | None = None) -> CommandArgument:
    """Read and check a command's argument.

    Parameters
    ----------
    command : str
        One of `ARGUMENT_MODELS`.
    text : str
        The argument as it came.
    subarray : int, optional
        Number of the subarray that got the command; an argument for another is refused.

    Raises
    ------
    ArgumentError
        If the text is too long, no JSON, no object, or does not fit the command's model. The
        message names the field, what was found and what was expected.

    Examples
    --------
    >>> parse_argument("Scan", '{"scan_id": 7}').scan_id
    7
    """
    if len(text) > MAX_ARGUMENT_LENGTH:
        raise ArgumentError(
            f"{command}: argument has {len(text)} characters; expected at most"
            f" {MAX_ARGUMENT_LENGTH}"
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(
            f"{command}: argument is not JSON: {error}; found {_short(text)};"
            " expected a JSON object"
        ) from error
    if not isinstance(value, dict):
        raise ArgumentError(
            f"{command}: argument is a JSON {_kind(value)}; found {_short(text)};"
            " expected a JSON object"
        )
    try:
        argument = ARGUMENT_MODELS[command].model_validate(value)
    except ValidationError as error:
        raise ArgumentError(f"{command}: {_problems(error)}") from error
    addressed = argument.addressed_subarray
    if subarray is not None and addressed is not None and addressed != subarray:
        raise ArgumentError(
            f"{command}: subarray_id: found {addressed}; expected {subarray}, the number of this"
            " subarray"
        )
    return argument


def resource_names(argument: str | None) -> tuple[str, ...]:
    """Return the texts that are elements of lists, wherever they are in a JSON argument.

    Examples
    --------
    >>> resource_names('{"subarray_id": 1, "dish": {"receptor_ids": ["MKT001", "SKA036"]}}')
    ('MKT001', 'SKA036')
    """
    return tuple(_texts_in_lists(json.loads(argument or "null")))


def _texts_in_lists(value: object) -> Iterator[str]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        if isinstance(item, str) and isinstance(value, list):
            yield latin1(item)
        else:
            yield from _texts_in_lists(item)


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc'])}: found {_short(problem['input'])};"
        f" expected: {problem['msg']}"
        for problem in error.errors(include_url=False)
    )


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _kind(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
