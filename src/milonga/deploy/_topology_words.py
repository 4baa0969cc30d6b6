"""What pydantic finds wrong in a topology, in words for the person who wrote it."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from milonga.deploy._topology_models import TopologyFile
from milonga.deploy._yaml_marks import MarkedData, Path, Problem

__all__ = ["expected_one_of", "shape_problems"]

_SHOWN = 80
_LETTERS = "letters, digits, '-', '_', '.'"
_PATTERNS = {
    "device": f"a Tango name domain/family/member of {_LETTERS}",
    "plans": "module:function or name=module:function",
    "store": "a path, none, or a URL sqlite:… or postgresql:… without a password; set that one, as"
    " MILONGA_RECORDS, where the servers are started",
    "webhook_hosts": "a host such as hooks.example.org, with or without a port",
    "target": "module:function",
    "parameters_model": "module:Model",
    "type": "motor, detector, or module:Class",
    # of the chart's values
    "digest": "sha256: and 64 hexadecimal digits",
    "host": "host:port, such as databaseds:10000",
    "limits": "a quantity such as 500m or 1Gi",
    "requests": "a quantity such as 500m or 1Gi",
    "size": "a quantity such as 500m or 1Gi",
    "url": "a URL sqlite:… or postgresql:… without a password, which belongs into a secret",
}
_LISTED = 12


def expected_one_of(found: str, known: Sequence[str]) -> str:
    """Say which words are known, or, of many, which of them are near.

    Examples
    --------
    >>> expected_one_of("cfb-01", ("cbf-01", "pss-01"))
    "found 'cfb-01', expected one of cbf-01, pss-01"
    """
    shown = list(known)
    if len(shown) > _LISTED:
        near = get_close_matches(found, shown, n=3, cutoff=0.5)
        shown = near or [*shown[:6], f"… ({len(known)} in all)"]
        if near:
            return f"found {found!r}, did you mean {' or '.join(near)}?"
    return f"found {found!r}, expected one of {', '.join(shown) or '(there are none)'}"


def shape_problems(
    error: ValidationError, marked: MarkedData, model: type[BaseModel] = TopologyFile
) -> list[Problem]:
    """Put each finding of pydantic at its line.

    Parameters
    ----------
    error : ValidationError
        What pydantic says.
    marked : MarkedData
        The file as read.
    model : type
        The model of the whole file.
    """
    return [marked.problem(*_told(detail, model)) for detail in error.errors(include_url=False)]


def _told(detail: Mapping[str, Any], model: type[BaseModel]) -> tuple[Path, str]:
    path: Path = tuple(step for step in detail["loc"] if step != "[key]")
    found = _short(detail["input"])
    match detail["type"]:
        case "missing":
            return path[:-1], f"found no field {path[-1]!r}, expected one"
        case "extra_forbidden":
            return (
                path,
                f"unknown field; {expected_one_of(str(path[-1]), _fields_at(path[:-1], model))}",
            )
        case "string_pattern_mismatch":
            expected = _PATTERNS.get(str(path[-1])) or _PATTERNS.get(
                str(path[-2]) if len(path) > 1 else "", f"a name of {_LETTERS}"
            )
        case "model_type":
            expected = f"a mapping with the fields {', '.join(_fields_at(path, model))}"
        case "tuple_type":
            expected = "a list"
        case "dict_type":
            expected = "a mapping"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            expected = str(detail["msg"]).replace("Input should be", "a number")
        case _:
            expected = str(detail["msg"]).removeprefix("Input should be ")
            expected = expected.removeprefix("Value error, ")
    return path, f"found {found}, expected {expected}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _fields_at(path: Path, model: type[BaseModel]) -> list[str]:
    """Name the fields that a mapping at `path` may have."""
    here: Any = model
    for step in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            names = {info.alias or name: info for name, info in here.model_fields.items()}
            here = names[str(step)].annotation
        else:
            here = get_args(here)[1 if get_origin(here) is dict else 0]
        if NoneType in get_args(here):
            here = next(part for part in get_args(here) if part is not NoneType)
    return [info.alias or name for name, info in here.model_fields.items()]
