"""From what a client gave to the arguments of a plan."""

from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal, get_args, get_origin

from milonga.engine._spec import ParamDescription, ParamKind, PlanSpec
from milonga.engine._spec_types import without_metadata, without_none
from milonga.errors import ArgumentError

__all__ = ["collect_arguments", "resolve_arguments"]


def resolve_arguments(
    spec: PlanSpec, values: Mapping[str, Any], devices: Mapping[str, object]
) -> dict[str, Any]:
    """Put devices in the place of their names, literals in that of their texts; add actions.

    Parameters
    ----------
    spec : PlanSpec
        The plan.
    values : mapping
        What the client gave, by parameter.
    devices : mapping
        The devices by name.

    Returns
    -------
    dict
        Values for `collect_arguments`. The order of several devices is the client's.

    Raises
    ------
    ArgumentError
        If something was chosen that is not among the choices.
    """
    resolved = dict(values)
    for parameter in spec.parameters:
        if parameter.name not in resolved:
            if parameter.actions is not None:
                resolved[parameter.name] = parameter.actions
            continue
        value = resolved[parameter.name]
        if value is None or parameter.choices is None:
            continue
        if parameter.device_proto is None:
            resolved[parameter.name] = _literals(spec, parameter, value)
        else:
            resolved[parameter.name] = _devices(spec, parameter, value, devices)
    return resolved


def _literals(spec: PlanSpec, parameter: ParamDescription, value: Any) -> Any:
    if parameter.kind is ParamKind.VAR_POSITIONAL:
        return tuple(_literal(spec, parameter, each) for each in value)
    return _literal(spec, parameter, value)


def _literal(spec: PlanSpec, parameter: ParamDescription, value: Any) -> Any:
    annotation = without_none(parameter.annotation)
    literals = get_args(annotation) if get_origin(annotation) is Literal else ()
    for literal in literals:
        if literal == value and type(literal) is type(value):
            return literal
    for literal in literals:
        if str(literal) == str(value):
            return literal
    raise _not_a_choice(spec, parameter, value)


def _devices(
    spec: PlanSpec, parameter: ParamDescription, value: Any, devices: Mapping[str, object]
) -> Any:
    if not parameter.multiselect:
        return _device(spec, parameter, value, devices)
    labels = [value] if isinstance(value, str) or not isinstance(value, Sequence | Set) else value
    found = [_device(spec, parameter, label, devices) for label in labels]
    origin = get_origin(without_none(without_metadata(parameter.annotation)))
    wants_set = isinstance(origin, type) and issubclass(origin, Set)
    return set(found) if wants_set else found


def _device(
    spec: PlanSpec, parameter: ParamDescription, label: Any, devices: Mapping[str, object]
) -> Any:
    if not isinstance(label, str):
        return label  # a device already
    if label not in (parameter.choices or ()) or label not in devices:
        raise _not_a_choice(spec, parameter, label)
    return devices[label]


def _not_a_choice(spec: PlanSpec, parameter: ParamDescription, value: object) -> ArgumentError:
    choices = ", ".join(parameter.choices or ()) or "nothing"
    return ArgumentError(
        f"plan {spec.name!r}, {parameter.name!r}: found {value!r}, expected one of: {choices}"
    )


def collect_arguments(
    spec: PlanSpec, values: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Sort values into positional and keyword arguments.

    A parameter that is left out never shifts the later ones: those are passed by keyword, or the
    default is passed where that cannot be.

    Raises
    ------
    TypeError
        If the value for ``**kwargs`` is no mapping, or a positional-only parameter without
        default is left out before one that is given.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for index, parameter in enumerate(spec.parameters):
        name, kind = parameter.name, parameter.kind
        given = name in values
        if kind is ParamKind.VAR_KEYWORD:
            kwargs.update(_as_mapping(spec, name, values[name]) if given else {})
        elif kind is ParamKind.VAR_POSITIONAL:
            args.extend(values[name] if given else ())
        elif kind is ParamKind.KEYWORD_ONLY:
            kwargs.update({name: values[name]} if given else {})
        elif _needs_place(spec.parameters[index:], values):
            args.append(_value_or_default(spec, parameter, values))
        elif given and _all_given_before(spec.parameters[:index], values):
            args.append(values[name])
        elif given:
            kwargs[name] = values[name]
    return tuple(args), kwargs


def _needs_place(rest: Sequence[ParamDescription], values: Mapping[str, Any]) -> bool:
    """Whether something that can only be passed by its place is given here or later."""
    by_place = {ParamKind.POSITIONAL_ONLY, ParamKind.VAR_POSITIONAL}
    return any(each.kind in by_place and bool(_given(each, values)) for each in rest)


def _given(parameter: ParamDescription, values: Mapping[str, Any]) -> bool:
    if parameter.kind is ParamKind.VAR_POSITIONAL:
        return len(values.get(parameter.name, ())) > 0
    return parameter.name in values


def _all_given_before(before: Sequence[ParamDescription], values: Mapping[str, Any]) -> bool:
    return all(each.name in values for each in before)


def _value_or_default(
    spec: PlanSpec, parameter: ParamDescription, values: Mapping[str, Any]
) -> Any:
    if parameter.name in values:
        return values[parameter.name]
    if parameter.has_default:
        return parameter.default
    text = f"found no value for {parameter.name!r}, expected one before the later arguments"
    raise TypeError(f"plan {spec.name!r}: {text}")


def _as_mapping(spec: PlanSpec, name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        text = f"plan {spec.name!r}, {name!r}: found {value!r}, expected a mapping"
        raise TypeError(text)
    return value
