"""Reads what a parent's device properties say of its children, commands and policy."""

from collections.abc import Collection, Iterable, Sequence

from pydantic import ValidationError

from milonga.errors import CommandMapError
from milonga.tasks import (
    ChildSpec,
    CommandMap,
    PolicySpec,
    check_command_map,
    default_command_map,
    naming_problems,
)

__all__ = ["read_children", "read_command_map", "read_policy"]


def read_children(lines: Iterable[str]) -> tuple[ChildSpec, ...]:
    """Read the property Children: one JSON object a line.

    Raises
    ------
    CommandMapError
        If a line is no child; names the line, the field, and what was found.
    """
    children = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            children.append(ChildSpec.model_validate_json(line))
        except ValidationError as error:
            raise CommandMapError(
                f"Property Children, line {number}: {_first_problem(error)}; found {line!r}"
            ) from error
    return tuple(children)


def read_policy(text: str) -> PolicySpec:
    """Read the property Policy.

    Raises
    ------
    CommandMapError
        If it is no policy.
    """
    try:
        return PolicySpec.model_validate_json(text or "{}")
    except ValidationError as error:
        raise CommandMapError(f"Property Policy: {_first_problem(error)}") from error


def read_command_map(
    text: str,
    known: Sequence[str],
    children: Sequence[ChildSpec],
    methods: Collection[str],
    plans: Collection[str] = (),
    analyses: Collection[str] = (),
) -> CommandMap:
    """Read the property CommandMap and lay it over the default, in which all children get all.

    Raises
    ------
    CommandMapError
        If it is no map, or names commands, children, methods, plans or analyses that there
        are not.
    """
    own = CommandMap.from_json(text or "{}")
    problems = [
        f"{name}: unknown command; expected one of {', '.join(known)}"
        for name, spec in own.items()
        if name not in known and not spec.safety
    ]
    problems += naming_problems(own, known)
    command_map = own.merged_over(default_command_map(known))
    problems += check_command_map(own, children, methods, plans=plans, analyses=analyses)
    if problems:
        raise CommandMapError(f"Property CommandMap: {'; '.join(problems)}")
    return command_map


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "value"
    return f"{where}: found {problem['input']!r}; {problem['msg']}"
