"""What a command takes, made of the text that it is given.

A string command gets the text as it is; every other type is written as JSON: ``3``, ``true``,
``[1.5, 2]``, and ``[[1, 2], ["a", "b"]]`` for numbers and strings together.
"""

import json
import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TypeVar

import tango

from milonga.errors import CommandRejected

__all__ = ["parse_argument", "to_device_data"]

_T = TypeVar("_T")

_LONGEST = 80

_INTEGERS = {
    "DevShort": (-(2**15), 2**15 - 1),
    "DevUShort": (0, 2**16 - 1),
    "DevLong": (-(2**31), 2**31 - 1),
    "DevULong": (0, 2**32 - 1),
    "DevLong64": (-(2**63), 2**63 - 1),
    "DevULong64": (0, 2**64 - 1),
    "DevEnum": (0, 2**15 - 1),
}
_FLOATS = {"DevFloat": 3.4028234663852886e38, "DevDouble": math.inf}
_LISTS = {
    "DevVarBooleanArray": "DevBoolean",
    "DevVarShortArray": "DevShort",
    "DevVarUShortArray": "DevUShort",
    "DevVarLongArray": "DevLong",
    "DevVarULongArray": "DevULong",
    "DevVarLong64Array": "DevLong64",
    "DevVarULong64Array": "DevULong64",
    "DevVarFloatArray": "DevFloat",
    "DevVarDoubleArray": "DevDouble",
    "DevVarStringArray": "DevString",
}
_PAIRS = {"DevVarLongStringArray": "DevLong", "DevVarDoubleStringArray": "DevDouble"}
_WITH_TEXTS = frozenset({"DevString", "DevVarStringArray", *_PAIRS})


def parse_argument(type_name: str, text: str | None) -> object:
    """Return the value of a command's argument.

    Parameters
    ----------
    type_name : str
        Name of the Tango type that the command takes.
    text : str or None
        The argument.

    Raises
    ------
    ValueError
        With what was expected, if the text is no such value.

    Examples
    --------
    >>> parse_argument("DevDouble", "3"), parse_argument("DevString", '{"id": 1}')
    (3.0, '{"id": 1}')
    >>> parse_argument("DevVarLongStringArray", '[[1], ["a"]]')
    [[1], ['a']]
    """
    if type_name == "DevVoid":
        if text is not None:
            raise ValueError("no argument")
        return None
    if type_name == "DevString":
        return text or ""
    convert = _converter(type_name)
    if convert is None:
        raise ValueError(f"a {type_name}, which has no JSON form here")
    try:
        value = json.loads("" if text is None else text)
    except (ValueError, RecursionError):
        raise ValueError(_form_of(type_name)) from None
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(_form_of(type_name)) from None


def to_device_data(
    name: str,
    command: str,
    info: tango.CommandInfo | None,
    argument: str | None,
    known: Mapping[str, tango.CommandInfo],
) -> tango.DeviceData:
    """Put an argument into Tango's form; saves the query that pytango makes at each call.

    Parameters
    ----------
    name : str
        The device's name.
    command : str
        The command.
    info : tango.CommandInfo or None
        What is known of the command.
    argument : str or None
        Its argument.
    known : mapping
        All commands that the device has, by name.

    Raises
    ------
    CommandRejected
        If the device has no such command, or it takes something else, or Tango cannot carry a
        character of the argument.
    """
    if info is None:
        raise CommandRejected(f"{name} has no command {command}{_instead(command, known)}")
    type_name = str(info.in_type)
    try:
        value = parse_argument(type_name, argument)
        if type_name in _WITH_TEXTS:
            value = _carried(value)
    except ValueError as error:
        found = "nothing" if argument is None else _shown(argument)
        raise CommandRejected(f"{name}/{command}: found {found}, expected {error}") from None
    data = tango.DeviceData()
    if type_name != "DevVoid":
        data.insert(info.in_type, value)
    return data


def _carried(value: object) -> object:
    """Return a value with texts that Tango can carry: Latin-1, and nothing after a NUL.

    JSON that has other characters is written without them.
    """
    if isinstance(value, list):
        return [_carried(item) for item in value]
    if not isinstance(value, str) or (foreign := _foreign_character(value)) is None:
        return value
    if foreign != "\0" and _is_json_container(value):
        return "".join(char if char.isascii() else json.dumps(char)[1:-1] for char in value)
    raise ValueError(f"text in Latin-1 and without NUL, not {foreign!r} (U+{ord(foreign):04X})")


def _foreign_character(text: str) -> str | None:
    if text.isascii() and "\0" not in text:
        return None
    return next((char for char in text if not "\0" < char <= "\xff"), None)


def _is_json_container(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _instead(command: str, known: Mapping[str, tango.CommandInfo]) -> str:
    """Say which command may be meant, and which the device has that are long-running, or else all.

    Those that are can be told from queries by what they answer: a code and an id.
    """
    close = get_close_matches(command, known, 1)
    meant = f" (perhaps {close[0]} is meant)" if close else ""
    answer = tango.CmdArgType.DevVarLongStringArray
    submitted = [name for name, info in known.items() if info.out_type == answer]
    return f"{meant}; it has {', '.join(sorted(submitted or known))}"


def _converter(type_name: str) -> Callable[[object], object] | None:
    if type_name in _LISTS:
        item = _LISTS[type_name]
        return lambda value: _list_of(item, value)
    if type_name in _PAIRS:
        number = _PAIRS[type_name]
        return lambda value: _pair_of(number, value)
    if type_name in {"DevBoolean", "DevState", *_INTEGERS, *_FLOATS}:
        return lambda value: _scalar(type_name, value)
    return None


def _scalar(type_name: str, value: object) -> object:
    if type_name == "DevString":
        return _instance(str, value)
    if type_name == "DevBoolean":
        return _instance(bool, value)
    if type_name == "DevState":
        return _state(_instance(str, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(type_name)
    if type_name in _FLOATS:
        if not abs(value) <= _FLOATS[type_name] or not math.isfinite(value):
            raise ValueError(type_name)
        return float(value)
    low, high = _INTEGERS[type_name]
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(type_name)
    return value


def _instance(kind: type[_T], value: object) -> _T:
    if not isinstance(value, kind):
        raise TypeError(kind)
    return value


def _state(name: str) -> tango.DevState:
    states = {state.name: state for state in tango.DevState.values.values()}
    if name.upper() not in states:
        raise ValueError(name)
    return states[name.upper()]


def _list_of(item: str, value: object) -> list[object]:
    return [_scalar(item, entry) for entry in _instance(list, value)]


def _pair_of(number: str, value: object) -> list[list[object]]:
    numbers, texts = _instance(list, value)
    return [_list_of(number, numbers), _list_of("DevString", texts)]


def _form_of(type_name: str) -> str:
    if type_name in _LISTS:
        return f"a JSON list for {type_name}: each item {_form_of(_LISTS[type_name])}"
    if type_name in _PAIRS:
        return f"JSON [[numbers], [strings]] for {type_name}"
    if type_name in _INTEGERS:
        low, high = _INTEGERS[type_name]
        return f"an integer from {low} to {high} ({type_name})"
    forms = {
        "DevBoolean": "true or false",
        "DevState": 'the name of a state such as "ON"',
        "DevString": "a string",
    }
    return forms.get(type_name, f"a number ({type_name})")


def _shown(argument: str) -> str:
    return repr(argument if len(argument) <= _LONGEST else f"{argument[:_LONGEST]}...")
