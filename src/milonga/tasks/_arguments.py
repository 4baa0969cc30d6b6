"""What a node of a command hands on of the command's argument."""

import json
from typing import Annotated, Literal

from pydantic import Discriminator, Field, JsonValue, Tag

from milonga.errors import CompositionError
from milonga.tasks._parts import Model, Name

__all__ = ["ArgumentRule", "KeysArgument", "Nothing", "ValueArgument", "hand_on"]


ALWAYS_HANDED_ON = ("transaction_id",)
"""Keys that go down the whole tree, so that everybody knows what a command is part of."""


class KeysArgument(Model):
    """Hand on these top-level keys of the command's JSON argument."""

    keys: Annotated[tuple[Name, ...], Field(min_length=1)]


class ValueArgument(Model):
    """Hand on this value, as JSON text."""

    value: JsonValue


def _argument_tag(value: object) -> str:
    if isinstance(value, KeysArgument) or (isinstance(value, dict) and "keys" in value):
        return "<keys>"
    if isinstance(value, ValueArgument) or (isinstance(value, dict) and "value" in value):
        return "<value>"
    return "<argument>"


ArgumentRule = Annotated[
    Annotated[Literal["full", "none"], Tag("<argument>")]
    | Annotated[KeysArgument, Tag("<keys>")]
    | Annotated[ValueArgument, Tag("<value>")],
    Discriminator(_argument_tag),
]
"""What a node makes of the command's argument: "full", "none", some keys, or another value."""


class Nothing(Exception):
    """None of the keys that an optional node takes is in the argument."""


def hand_on(rule: ArgumentRule, argument: str | None, path: str, optional: bool) -> str | None:
    """Return the argument of a node.

    Parameters
    ----------
    rule : ArgumentRule
        What the command map says.
    argument : str or None
        The command's own argument.
    path : str
        Place in the map, for texts.
    optional : bool
        Whether keys may be absent.

    Returns
    -------
    str or None
        The argument; None for no argument.

    Raises
    ------
    milonga.errors.CompositionError
        If the argument is not a JSON object or lacks a key that the node takes.
    Nothing
        If the node is optional and all keys are absent.
    """
    if rule == "full":
        return argument
    if rule == "none":
        return None
    if isinstance(rule, ValueArgument):
        return json.dumps(rule.value)
    return _chosen(rule, argument, path, optional)


def _chosen(rule: KeysArgument, argument: str | None, path: str, optional: bool) -> str:
    data = _json_object(argument, path)
    absent = [key for key in rule.keys if key not in data]
    if absent and not optional:
        found = ", ".join(data) or "no keys"
        raise CompositionError(f"{path}: argument: found {found}, expected also {absent}")
    if len(absent) == len(rule.keys):
        raise Nothing
    wanted = (*rule.keys, *ALWAYS_HANDED_ON)
    return json.dumps({key: data[key] for key in dict.fromkeys(wanted) if key in data})


def _json_object(argument: str | None, path: str) -> dict[str, object]:
    try:
        data = json.loads(argument or "")
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        shown = repr(argument)[:80]
        raise CompositionError(f"{path}: argument: found {shown}, expected a JSON object")
    return data
