"""Reads device properties that have one JSON object with a name a line."""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from milonga.errors import CommandMapError

__all__ = ["NamedModel", "read_named_lines"]


class NamedModel(BaseModel):
    """An object that a line of a property describes."""

    name: str


_Model = TypeVar("_Model", bound=NamedModel)


def read_named_lines(
    property_name: str, model: type[_Model], lines: Iterable[str]
) -> dict[str, _Model]:
    """Read a property; empty lines do not count.

    Parameters
    ----------
    property_name : str
        Name of the property, for texts of errors.
    model : type
        What each line is.
    lines : iterable of str
        The property.

    Returns
    -------
    dict
        The objects by name, in their order.

    Raises
    ------
    CommandMapError
        If a line is no such object, or two have the same name; names line and field.
    """
    entries: dict[str, _Model] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"Property {property_name}, line {number}"
        try:
            entry = model.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            field = ".".join(map(str, problem["loc"])) or "line"
            raise CommandMapError(
                f"{where}: {field}: found {problem['input']!r}; {problem['msg']}"
            ) from error
        if entry.name in entries:
            raise CommandMapError(f"{where}: name: found {entry.name!r} again; expected it once")
        entries[entry.name] = entry
    return entries
