"""What a person may answer to a step that waits for them, by a JSON schema."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue

from milonga.errors import ArgumentError

__all__ = ["SIMPLE_TYPES", "StepInput", "check_answer", "schema_of"]

SIMPLE_TYPES = {
    "text": {"type": "string"},
    "string": {"type": "string"},
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
}
"""The words for the types of fields where the input is not a whole JSON schema."""

_REFERENCES = ("$ref", "$dynamicRef")
_SHOWN = 80
_MOST_PROBLEMS = 5


def schema_of(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an answer.

    Parameters
    ----------
    wanted : mapping
        A JSON schema of an object, or field to type: one of `SIMPLE_TYPES`, followed by ``?`` if
        the field may be left out.

    Raises
    ------
    ValueError
        If it is neither; says what was expected.

    Examples
    --------
    >>> schema_of({"attenuation": "number", "remark": "text?"})["required"]
    ['attenuation']
    """
    if wanted.get("type") == "object" or "$schema" in wanted:
        _check_schema(wanted)
        return dict(wanted)
    fields = {name: _simple(name, word) for name, word in wanted.items()}
    return {
        "type": "object",
        "properties": fields,
        "required": [name for name, word in wanted.items() if not str(word).endswith("?")],
        "additionalProperties": False,
    }


def _simple(name: str, word: object) -> dict[str, Any]:
    found = SIMPLE_TYPES.get(str(word).removesuffix("?"))
    if found is None:
        known = ", ".join(SIMPLE_TYPES)
        raise ValueError(f"a JSON schema of an object, or for field {name!r} one of {known}")
    return dict(found)


def _check_schema(schema: Mapping[str, Any]) -> None:
    # loaded where steps wait for people, which few maps have
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # noqa: PLC0415
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped] # noqa: PLC0415

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"a JSON schema; {_place(error)}: {error.message}") from error
    elsewhere = [ref for ref in _references(schema) if not ref.startswith("#")]
    if elsewhere:
        raise ValueError(f"a JSON schema that refers only to itself, not to {elsewhere[0]!r}")


def _references(schema: object) -> Iterator[str]:
    """Yield what a schema refers to."""
    if isinstance(schema, Mapping):
        yield from (schema[key] for key in _REFERENCES if isinstance(schema.get(key), str))
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _checked(wanted: dict[str, JsonValue]) -> dict[str, JsonValue]:
    schema_of(wanted)
    return wanted


StepInput = Annotated[dict[str, JsonValue], AfterValidator(_checked)]
"""Says what a step takes: a JSON schema of an object, or field to simple type."""


def check_answer(schema: Mapping[str, Any], answer: object) -> None:
    """Check what a person has answered.

    Raises
    ------
    ArgumentError
        Naming each field that is wrong, what was found there and what was expected.

    Examples
    --------
    >>> check_answer(schema_of({"attenuation": "number"}), {"attenuation": 3.5})
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - as above
    from referencing import Registry  # noqa: PLC0415

    # an empty registry: nothing is fetched from anywhere, whatever a schema refers to
    registry: Any = Registry()
    validator = Draft202012Validator(dict(schema), registry=registry)
    problems = sorted(validator.iter_errors(answer), key=lambda error: list(map(str, error.path)))
    if problems:
        texts = [_told(problem) for problem in problems[:_MOST_PROBLEMS]]
        raise ArgumentError("; ".join(texts))


def _told(error: Any) -> str:
    fields = ", ".join(error.schema.get("properties", ())) or "no fields"
    if error.validator == "required":
        absent = [name for name in error.validator_value if name not in error.instance]
        return f"{_place(error, *absent[:1])}: found nothing, expected a value"
    if error.validator == "additionalProperties":
        unknown = [name for name in error.instance if name not in error.schema["properties"]]
        return f"{_place(error, *unknown[:1])}: found an unknown field, expected {fields}"
    found = json.dumps(error.instance, default=str)
    shown = found if len(found) <= _SHOWN else f"{found[: _SHOWN - 1]}…"
    expected = json.dumps(error.validator_value, default=str).strip('"')
    return f"{_place(error)}: found {shown}, expected {error.validator} {expected}"


def _place(error: Any, *more: str) -> str:
    return ".".join(map(str, (*error.path, *more))) or "answer"
