"""Turns what pydantic finds wrong into lines for the person who wrote the data."""

from collections.abc import Mapping
from reprlib import Repr

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

__all__ = ["describe_problems", "problem"]

Models = Mapping[str, type[BaseModel]]

_AFTER = "nested sequential and parallel tasks: an order by names is not supported yet"
_EXPECTED = {
    "dict_type": "a mapping",
    "float_type": "a number",
    "frozen_set_type": "a list",
    "model_type": "a mapping",
    "tuple_type": "a list",
    "string_pattern_mismatch": "a device name such as domain/family/member",
}
_PREFIXES = ("Value error, ", "Input should be ", "String should have ", "Tuple should have ")
_ARGUMENT = """'full', 'none', {"keys": [...]} or {"value": ...}"""
_LONGEST = 80
_LONGEST_PATH = 240

_shown = Repr()  # data made to hurt must not make the text of its refusal hurt
_shown.maxdict = _shown.maxlist = 6
_shown.maxstring = _shown.maxother = _LONGEST


def problem(path: str, found: str, expected: str) -> str:
    """Return the line for one problem: where, what was found, what was expected."""
    shown = found if len(found) <= _LONGEST else f"{found[: _LONGEST - 3]}..."
    return f"{path}: found {shown}, expected {expected}"


def describe_problems(error: ValidationError, models: Models) -> list[str]:
    """Return one line for each problem.

    Parameters
    ----------
    error : pydantic.ValidationError
        What validation of the data raised.
    models : mapping
        Which model a key, or the tag of a union, leads to; "" leads to the outermost.

    Returns
    -------
    list of str
        Lines ``path: found X, expected Y``.
    """
    return [_line(details, models) for details in error.errors(include_url=False)]


def _line(details: ErrorDetails, models: Models) -> str:
    path = ".".join(str(part) for part in details["loc"] if not _is_tag(part)) or "top level"
    path = path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}..."
    if details["type"] == "missing":
        return problem(path, "nothing", "a value")
    found = _shown.repr(details["input"])
    if details["type"] == "extra_forbidden":
        return problem(path, f"an unknown key (value {found})", _known_keys(details, models))
    return problem(path, found, _expected(details))


def _is_tag(part: object) -> bool:
    """Tell the tags of unions, which are ours, from the keys of the data."""
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def _known_keys(details: ErrorDetails, models: Models) -> str:
    *above, key = details["loc"]
    if key == "after":
        return _AFTER
    model = models[""]
    for part in above:
        model = models.get(str(part), model)
    return f"one of {', '.join(model.model_fields)}"


def _expected(details: ErrorDetails) -> str:
    if details["loc"] and details["loc"][-1] == "<argument>":
        return _ARGUMENT
    text = _EXPECTED.get(details["type"], details["msg"])
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    return text.replace(" item after validation", " item")
