"""Whatever arrives in an update, read as the types that the tracker counts with.

Updates carry what other processes sent, so nothing here trusts its input: types are asked with
``type(x)``, never with ``isinstance``, which an object can lie to, and what an object's own methods
raise is contained by `attempt`. Everything here runs before the tracker takes its lock.
"""

import json
import math
import operator
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeGuard, TypeVar, cast

from milonga.control_model import HealthState, ResultCode, TaskStatus

__all__ = [
    "FINAL_STATUSES",
    "IS_FINAL",
    "MAX_DEVICES",
    "ObsModes",
    "attempt",
    "code_of_status",
    "fault_text",
    "is_a",
    "parse_result",
    "plain_text",
    "read_context",
    "read_devices",
    "read_errors",
    "read_health",
    "read_name",
    "read_progress",
    "read_status",
]

T = TypeVar("T")

# What an observing mode looks like inside: a name, or several in alphabetical order.
ObsModes = str | tuple[str, ...]

MAX_DEVICES = 10_000  # names taken from one update
MAX_ERRORS_READ = 256  # errors looked at in one update
_MAX_JSON = 1_048_576  # characters of a text that is still tried as JSON

FINAL_STATUSES = frozenset(
    {
        TaskStatus.ABORTED,
        TaskStatus.NOT_FOUND,
        TaskStatus.COMPLETED,
        TaskStatus.REJECTED,
        TaskStatus.FAILED,
    }
)

# The same by value: an index costs a tenth of the hash of an enumeration member.
IS_FINAL = tuple(status in FINAL_STATUSES for status in sorted(TaskStatus))

_CODES = {int(code): code for code in ResultCode}
_STATUSES = {int(status): status for status in TaskStatus}
_LEGACY_OK = frozenset({"completed", "ok", "done", "success"})
_CODE_OF_STATUS = {
    TaskStatus.COMPLETED: ResultCode.OK,
    TaskStatus.FAILED: ResultCode.FAILED,
    TaskStatus.REJECTED: ResultCode.REJECTED,
    TaskStatus.ABORTED: ResultCode.ABORTED,
    TaskStatus.NOT_FOUND: ResultCode.UNKNOWN,
}


def code_of_status(status: TaskStatus) -> ResultCode | None:
    """Return what a final status says about the result, None for others."""
    return _CODE_OF_STATUS.get(status)


def is_a(value: object, kind: type[T]) -> TypeGuard[T]:
    """Tell whether `value` really is a `kind`, without asking the value."""
    return issubclass(type(value), kind)


def attempt(read: Callable[[object], T], value: object, otherwise: T) -> T:
    """Return ``read(value)``, or `otherwise` whatever the value's own methods raise.

    Only a KeyboardInterrupt gets through: it is a person's wish, not the value's.
    """
    try:
        return read(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - an argument's method may raise SystemExit
        return otherwise


def plain_text(value: object) -> str:
    """Return any value as an exact `str`, and never raise."""
    if type(value) is str:
        return value
    return attempt(_text, value, "") or attempt(_nameless, value, "<unprintable>")


def _text(value: object) -> str:
    if value is None:
        return ""
    if is_a(value, str):
        return str.__str__(value)
    if is_a(value, bytes):
        return bytes.decode(value, "utf-8", "backslashreplace")
    return str.__str__(str(value))


def _nameless(value: object) -> str:
    if value is None or is_a(value, str) or is_a(value, bytes):
        return ""
    return f"<unprintable {_type_name(value)}>"


def _type_name(value: object) -> str:
    return cast("str", type.__dict__["__name__"].__get__(type(value)))


def fault_text(fault: BaseException) -> str:
    """Return the kind and the text of an exception."""
    return f"{attempt(_type_name, fault, 'exception')}: {plain_text(fault)}"


def _integer(value: object) -> int | None:
    """Read an int, an integer of another library, or the text of one; never a bool."""
    if is_a(value, bool):
        return None
    if is_a(value, int):
        return int.__int__(value)
    if is_a(value, float):
        return int(value) if float.is_integer(value) else None
    if is_a(value, str):
        return int(str.__str__(value))
    return operator.index(cast("int", value))


def _number(value: object) -> float | int | None:
    if is_a(value, float):
        return float.__float__(value)
    if is_a(value, str):
        return float(str.__str__(value))
    return _integer(value)


def read_name(value: object) -> str | None:
    """Return a text that is not blank, or None."""
    if type(value) is str:
        return value if value and not value.isspace() else None
    if is_a(value, str):
        return read_name(str.__str__(value))
    return None


def read_status(value: object) -> TaskStatus | None:
    """Return the status meant by a TaskStatus, its value or its name; None if there is none.

    Examples
    --------
    >>> read_status("completed"), read_status(7), read_status("late")
    (<TaskStatus.COMPLETED: 5>, <TaskStatus.FAILED: 7>, None)
    """
    if type(value) is TaskStatus:
        return value
    if is_a(value, str):
        name = str.__str__(value).strip().upper()
        if name in TaskStatus.__members__:
            return TaskStatus[name]
    number = attempt(_integer, value, None)
    return None if number is None else _STATUSES.get(number)


def read_progress(value: object) -> int | None:
    """Return a progress as whole per cent within 0 to 100, or None if it is not a number.

    Examples
    --------
    >>> read_progress(-5), read_progress(12.9), read_progress("250"), read_progress(True)
    (0, 12, 100, None)
    """
    if type(value) is int:
        return 0 if value < 0 else min(value, 100)
    number = attempt(_number, value, None)
    if number is None or not -math.inf < number < math.inf:
        return None
    return max(0, min(100, math.floor(number)))


def read_health(value: object) -> HealthState | None:
    """Return DEGRADED or FAILED; everything else is no opinion."""
    if value is None:
        return None
    if is_a(value, str):
        health = HealthState.__members__.get(str.__str__(value).strip().upper())
    else:
        number = attempt(_integer, value, None)
        health = next((state for state in HealthState if state == number), None)
    return health if health in {HealthState.DEGRADED, HealthState.FAILED} else None


def read_devices(value: object) -> tuple[str, ...]:
    """Return the names of devices in their order, each once; a text is one device.

    Examples
    --------
    >>> read_devices(["b", None, "a", "b", ""]), read_devices("a/b/c")
    (('b', 'a'), ('a/b/c',))
    """
    if value is None:
        return ()
    if is_a(value, str):
        name = read_name(value)
        return () if name is None else (name,)
    return attempt(_names, value, ())


def _names(value: object) -> tuple[str, ...]:
    # The slice is a guard against endless generators.
    names = (read_name(item) for item in islice(cast("Iterable[object]", value), MAX_DEVICES))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def read_context(value: object) -> ObsModes | None:
    """Return an operation or observing mode: a name, or several sorted; None if unknown.

    Examples
    --------
    >>> read_context(["PULSAR_TIMING", "IMAGING"]), read_context(" "), read_context("IMAGING")
    (('IMAGING', 'PULSAR_TIMING'), None, 'IMAGING')
    """
    if value is None:
        return None
    if is_a(value, str):
        text = str.__str__(value).strip()
        return text or None
    name = attempt(_member_name, value, None)
    return name or attempt(_modes, value, None)


def _member_name(value: object) -> str | None:
    return read_name(value.name) if hasattr(value, "name") else None


def _modes(value: object) -> tuple[str, ...] | None:
    found = {read_context(item) for item in islice(cast("Iterable[object]", value), MAX_DEVICES)}
    return tuple(sorted(name for name in found if is_a(name, str))) or None


def read_errors(value: object) -> tuple[tuple[tuple[str, str, str], object], ...]:
    """Return (key, error) pairs; errors with the same key are the same error.

    The key is made of the `reason`, `desc` and `origin` of a ``tango.DevError``, or of the text of
    anything else.
    """
    if value is None:
        return ()
    if is_a(value, tuple):
        items = tuple.__getitem__(value, slice(MAX_ERRORS_READ))
    elif is_a(value, list):
        items = tuple(list.__getitem__(value, slice(MAX_ERRORS_READ)))
    else:
        items = (value,)
    return tuple((_error_key(item), item) for item in items if item is not None)


def _error_key(error: object) -> tuple[str, str, str]:
    reason, desc, origin = (
        attempt(operator.attrgetter(part), error, None) for part in ("reason", "desc", "origin")
    )
    if reason is None and desc is None:
        return ("", plain_text(error), "")
    return (plain_text(reason), plain_text(desc), plain_text(origin))


def parse_result(result: object, status: TaskStatus | None = None) -> tuple[ResultCode | None, str]:
    """Turn whatever a command gave as its result into a code and a text.

    Understood are ``(code, text)`` as tuple or list, the same as JSON text, a bare code as
    ResultCode, int or numeric text, and the texts with which older devices say that all went well.
    Anything else is text, and its code follows from the status. Never raises.

    Parameters
    ----------
    result : object
        What came over the wire; None if nothing did.
    status : TaskStatus, optional
        Status of the command, if it is known.

    Returns
    -------
    code : ResultCode or None
        None if neither the result nor a final status tells. A number that no code has is UNKNOWN.
    message : str
        Empty if there is none.

    Examples
    --------
    >>> parse_result('[3, "no beam"]')
    (<ResultCode.FAILED: 3>, 'no beam')
    >>> parse_result("Completed")
    (<ResultCode.OK: 0>, 'Completed')
    >>> parse_result("no beam", TaskStatus.REJECTED)
    (<ResultCode.REJECTED: 5>, 'no beam')
    """
    nothing: tuple[ResultCode | None, str] = (None, "")
    code, text = _parse_exact_pair(result) or attempt(_parse, result, nothing)
    if code is None and status is not None:
        code = _CODE_OF_STATUS.get(status)
    return code, text


def _parse_exact_pair(result: object) -> tuple[ResultCode, str] | None:
    """Take the form that nearly every update has, without a detour."""
    if type(result) is tuple and len(result) == 2:  # noqa: PLR2004 - a pair
        code, text = result
        if type(code) is ResultCode and type(text) is str:
            return code, text
    return None


def _parse(result: object) -> tuple[ResultCode | None, str]:
    if result is None:
        return None, ""
    if is_a(result, bytes):
        result = plain_text(result)
    if is_a(result, str):
        return _parse_text(str.__str__(result))
    if is_a(result, tuple) or is_a(result, list):
        return _parse_pair(list(islice(cast("Iterable[object]", result), 3))) or (
            None,
            _message(result),
        )
    code = _read_code(result)
    return (code, "") if code is not None else (None, _message(result))


def _parse_text(text: str) -> tuple[ResultCode | None, str]:
    stripped = text.strip()
    if not stripped:
        return None, ""
    code = _code_in_text(stripped)
    if code is not None:
        return code, ""
    if stripped.lower() in _LEGACY_OK:
        return ResultCode.OK, stripped
    if stripped.startswith("[") and len(stripped) <= _MAX_JSON:
        found = attempt(lambda value: json.loads(cast("str", value)), stripped, None)
        pair = _parse_pair(found) if type(found) is list else None
        if pair is not None:
            return pair
    return None, text


def _parse_pair(items: list[object]) -> tuple[ResultCode, str] | None:
    """Read ``[code, text]``; a Tango command's ``[[code], [text]]`` is the same thing."""
    if len(items) != 2:  # noqa: PLR2004 - a pair
        return None
    code, text = (_only(item) for item in items)
    found = _code_in_text(str.__str__(code)) if is_a(code, str) else _read_code(code)
    return None if found is None else (found, _message(text))


def _only(item: object) -> object:
    exact = type(item)
    if exact is list or exact is tuple:
        items = cast("list[object]", item)
        return items[0] if len(items) == 1 else item
    return item


def _code_in_text(text: str) -> ResultCode | None:
    """Return the code that a text names by value or by its exact name."""
    if text in ResultCode.__members__ and text != "OK":  # "OK" is read as a text with a meaning
        return ResultCode[text]
    number = attempt(_integer, text, None)
    return None if number is None else _CODES.get(number)


def _read_code(value: object) -> ResultCode | None:
    """Return the code of a number, UNKNOWN if no code has it; None if it is not a number."""
    number = attempt(_integer, value, None)
    return None if number is None else _CODES.get(number, ResultCode.UNKNOWN)


def _message(value: object) -> str:
    if is_a(value, list) or is_a(value, tuple) or is_a(value, dict):
        return attempt(lambda item: json.dumps(item, default=plain_text), value, "") or plain_text(
            value
        )
    return plain_text(value)
