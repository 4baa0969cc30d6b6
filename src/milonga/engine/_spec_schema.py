"""From the description of a plan to a JSON schema, and from JSON to values."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic.errors import PydanticUserError

from milonga.engine._spec import ParamDescription, ParamKind, PlanSpec
from milonga.engine._spec_types import without_metadata, without_none
from milonga.errors import ArgumentError

__all__ = ["argument_model", "has_schema", "json_schema", "validate_arguments"]


def _as_range(value: object) -> object:
    if isinstance(value, list | tuple) and 1 <= len(value) <= 3:  # noqa: PLR2004 - as range() takes
        return range(*value)
    return value


def _check_range(value: object) -> range:
    if not isinstance(value, range):
        raise ValueError(f"found {value!r}, expected [stop], [start, stop] or [start, stop, step]")  # noqa: TRY004 - for pydantic
    return value


_Range = Annotated[
    Any,
    BeforeValidator(_check_range),
    BeforeValidator(_as_range),
    PlainSerializer(lambda value: [value.start, value.stop, value.step]),
    WithJsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3}),
]
_CONFIG = ConfigDict(
    extra="forbid",
    arbitrary_types_allowed=False,
    ser_json_bytes="base64",
    val_json_bytes="base64",
    protected_namespaces=(),
)


def has_schema(annotation: Any) -> bool:
    """Whether values of a type can be given as JSON."""
    try:
        TypeAdapter(annotation).json_schema()
    except (PydanticUserError, NameError, TypeError):
        return False
    return True


def argument_model(spec: PlanSpec) -> type[BaseModel]:
    """Make a pydantic model of what a client may give to a plan.

    Names that pydantic does not take for fields, such as those that begin with an underscore, are
    aliases.
    """
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(spec.parameters):
        if not parameter.hidden and parameter.actions is None:
            fields[f"p{index}"] = (_type_of(parameter), _field_of(parameter))
    return create_model(f"Arguments of {spec.name}", __config__=_CONFIG, **fields)


def _type_of(parameter: ParamDescription) -> Any:
    if parameter.kind is ParamKind.VAR_KEYWORD:
        return dict[str, Any]
    kind = _element_type(parameter)
    if parameter.multiselect or parameter.kind is ParamKind.VAR_POSITIONAL:
        kind = list[kind]  # type: ignore[valid-type]
    optional = without_none(parameter.annotation) is not without_metadata(parameter.annotation)
    return kind | None if optional or parameter.default is None else kind


def _element_type(parameter: ParamDescription) -> Any:
    annotation = without_none(parameter.annotation)
    if parameter.device_proto is not None:
        return Literal[parameter.choices]
    if get_origin(annotation) is Literal:
        return Annotated[annotation, BeforeValidator(_by_text(get_args(annotation)))]
    return _Range if annotation is range else annotation


def _by_text(literals: tuple[Any, ...]) -> Any:
    """Return a function that takes a text for the literal which has that text."""
    texts = {str(literal): literal for literal in literals}

    def convert(value: Any) -> Any:
        is_one = any(value == each and type(value) is type(each) for each in literals)
        return value if is_one or not isinstance(value, str) else texts.get(value, value)

    return convert


def _field_of(parameter: ParamDescription) -> Any:
    words: dict[str, Any] = {"alias": parameter.name, "title": parameter.name}
    if not parameter.has_default and parameter.kind not in _MAY_BE_EMPTY:
        return Field(**words)
    default = parameter.default if parameter.has_default else None
    if not _is_json(default):
        words["json_schema_extra"] = {"default": str(default)}
    return (
        Field(default_factory=lambda: default, **words)
        if not _is_json(default)
        else Field(default=default, **words)
    )


_MAY_BE_EMPTY = {ParamKind.VAR_POSITIONAL, ParamKind.VAR_KEYWORD}


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def json_schema(spec: PlanSpec) -> dict[str, Any]:
    """Return the JSON schema of a plan's arguments.

    Examples
    --------
    >>> from bluesky.utils import MsgGenerator
    >>> from milonga.engine.plan_spec import create_plan_spec
    >>> def settle(seconds: float = 1.0) -> MsgGenerator[None]:
    ...     yield from ()
    >>> json_schema(create_plan_spec(settle, {}))["properties"]["seconds"]["type"]
    'number'
    """
    schema = argument_model(spec).model_json_schema(by_alias=True)
    return schema | {"title": spec.name, "description": spec.docs}


def validate_arguments(spec: PlanSpec, argument: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Check what a client gave against the plan's description.

    Parameters
    ----------
    spec : PlanSpec
        The plan.
    argument : str, mapping or None
        A JSON object, as text or loaded; nothing means no arguments.

    Returns
    -------
    dict
        Values by parameter, only those that were given; devices are still names.

    Raises
    ------
    ArgumentError
        With one line for each value that is not as expected.
    """
    model = argument_model(spec)
    text = argument if isinstance(argument, str) else json.dumps(argument or {}, default=str)
    try:
        checked = model.model_validate_json(text.strip() or "{}")
    except ValidationError as error:
        raise ArgumentError(f"plan {spec.name!r}: {_told(error)}") from error
    names = {
        field: info.alias for field, info in model.model_fields.items() if info.alias is not None
    }
    return {names[field]: getattr(checked, field) for field in checked.model_fields_set}


def _told(error: ValidationError) -> str:
    lines = []
    for each in error.errors(include_url=False):
        where = ".".join(map(str, each["loc"])) or "the argument"
        lines.append(f"{where}: found {each['input']!r}; {each['msg']}")
    return "; ".join(lines)
