"""Parameters as one level of names, the way LUTE's tables have them (LD-03)."""

from collections.abc import Mapping
from typing import Any

__all__ = ["flatten"]


def flatten(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested parameters by their path.

    Examples
    --------
    >>> flatten({"a": {"b": (1, 2)}, "c": "x"})
    {'a.b[0]': 1, 'a.b[1]': 2, 'c': 'x'}
    """
    leaves: dict[str, Any] = {}
    for name, value in parameters.items():
        _flatten_into(leaves, str(name), value)
    return leaves


def _flatten_into(leaves: dict[str, Any], path: str, value: Any) -> None:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            _flatten_into(leaves, f"{path}.{name}", item)
    elif isinstance(value, list | tuple) and value:
        for number, item in enumerate(value):
            _flatten_into(leaves, f"{path}[{number}]", item)
    else:
        leaves[path] = value
