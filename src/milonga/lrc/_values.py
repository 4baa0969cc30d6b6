"""Values of attributes in the form in which they are told and compared."""

from collections.abc import Collection
from typing import Any

import tango

__all__ = ["is_one_of", "plain_value"]


def plain_value(value: Any, labels: Collection[str] = ()) -> object:
    """Return a Tango value as plain Python: states and enumerations by name, arrays as lists.

    Parameters
    ----------
    value
        What Tango gave.
    labels : collection of str, optional
        The labels of an enumerated attribute.

    Examples
    --------
    >>> plain_value(tango.DevState.ON), plain_value(1, ("OK", "DEGRADED"))
    ('ON', 'DEGRADED')
    """
    if isinstance(value, tango.DevState):
        return str(value.name)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain_value(item, labels) for item in value]
    if labels and isinstance(value, int):
        return list(labels)[value] if 0 <= value < len(labels) else value
    return value


def is_one_of(value: object, wanted: Collection[str]) -> bool:
    """Tell whether a value is one of those that are written in `wanted`.

    Case does not matter, and numbers are compared as numbers.

    Examples
    --------
    >>> is_one_of("ON", ["On"]), is_one_of(1, ["1.0"]), is_one_of(True, ["true"])
    (True, True, True)
    """
    return any(_is_same(value, text) for text in wanted)


def _is_same(value: object, text: str) -> bool:
    if str(value).casefold() == text.casefold():
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return float(text) == value
    except ValueError:
        return False
