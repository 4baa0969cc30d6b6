"""Parameters of analyses: validated models, and values that are filled into templates."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from milonga.errors import ArgumentError

__all__ = ["AnalysisHeader", "AnalysisParameters", "substitute", "validated"]

_logger = logging.getLogger(__name__)
_PLACE = re.compile(r"\{\{\s*(\$?[\w.]+)\s*(?::([^{}]*?))?\s*\}\}")


class AnalysisHeader(BaseModel):
    """What the analyses of an observation have in common (LP-01).

    Parameters
    ----------
    title, experiment, run, date : str
        What is observed: of a telescope, the scheduling block and the scan.
    task_timeout : float
        Seconds that an analysis may take.
    work_dir : Path, optional
        Where it works; the folder must be there, and writable.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    title: str = ""
    experiment: str = ""
    run: str = ""
    date: str = ""
    task_timeout: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    work_dir: Path | None = None

    @field_validator("work_dir")
    @classmethod
    def _is_writable(cls, value: Path | None) -> Path | None:
        if value is not None and not (value.is_dir() and os.access(value, os.W_OK)):
            raise ValueError(f"found {value}, expected a folder that can be written")
        return value


class AnalysisParameters(BaseModel):
    """Base of the parameters of an analysis: frozen, and nothing that it does not know (LP-05)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: AnalysisHeader = AnalysisHeader()


def validated(model: type[BaseModel] | None, parameters: Mapping[str, Any]) -> Any:
    """Return parameters as an instance of `model`, or as they are if there is none.

    Raises
    ------
    ArgumentError
        If they are not valid; the text names field, value and what was expected.
    """
    if model is None:
        return dict(parameters)
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, one['loc']))}: found {one['input']!r:.80}; {one['msg']}"
            for one in error.errors()
        )
        raise ArgumentError(f"{model.__name__}: {'; '.join(problems)}") from error


def substitute(
    template: Any, values: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Any:
    """Fill ``{{ name }}``, ``{{ Task.name }}``, ``{{ $VARIABLE }}`` and ``{{ run:04d }}`` (LP-03).

    A text that is nothing but one place becomes the value itself; else the value is written into
    the text. No text is turned into a number: "007" stays what it is.

    Parameters
    ----------
    template : any
        Texts, in dicts and lists however deep; other values are left as they are.
    values : mapping
        Values by name; dots go down into mappings.
    environment : mapping, optional
        Environment variables; a place whose variable is missing is left, and logged.

    Raises
    ------
    ArgumentError
        If a name is missing, or a value cannot be written in its format.

    Examples
    --------
    >>> substitute(["r{{ run:04d }}", "{{ run }}", "{{ id }}"], {"run": 7, "id": "007"})
    ['r0007', 7, '007']
    """
    if isinstance(template, Mapping):
        return {key: substitute(item, values, environment) for key, item in template.items()}
    if isinstance(template, list | tuple):
        return type(template)(substitute(item, values, environment) for item in template)
    if not isinstance(template, str):
        return template
    whole = _PLACE.fullmatch(template.strip())
    if whole is not None:
        return _value(whole, values, environment or {})
    return _PLACE.sub(lambda place: str(_value(place, values, environment or {})), template)


def _value(place: re.Match[str], values: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    name, form = place.groups()
    if name.startswith("$"):
        if name[1:] not in environment:
            _logger.warning("template: the environment has no %s", name[1:])
            return place[0]
        return environment[name[1:]]
    found: Any = values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise ArgumentError(f"template: found {place[0]!r}, expected one of {sorted(values)}")
        found = found[part]
    if form is None:
        return found
    try:
        return format(found, form)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"template: found {found!r} for {place[0]!r}: {error}") from error
