"""The description of a plan: what it is called, what it takes and how it is ended."""

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, get_args, get_origin, get_type_hints

from milonga.engine._spec_types import (
    Wanted,
    is_native,
    is_plain,
    wanted_by,
    without_metadata,
    without_none,
)
from milonga.engine.actions import Action
from milonga.errors import UnresolvableAnnotationError

__all__ = ["ParamDescription", "ParamKind", "PlanSpec", "create_plan_spec"]


class ParamKind(IntEnum):
    """How an argument is passed; the values are those of `inspect`."""

    POSITIONAL_ONLY = 0
    POSITIONAL_OR_KEYWORD = 1
    VAR_POSITIONAL = 2
    KEYWORD_ONLY = 3
    VAR_KEYWORD = 4


@dataclass(frozen=True)
class ParamDescription:
    """One parameter of a plan.

    Parameters
    ----------
    name : str
        Its name.
    kind : ParamKind
        How it is passed.
    annotation : object
        Its type, without `Annotated` metadata.
    default : object
        Its default; `inspect.Parameter.empty` if it has none.
    choices : tuple of str, optional
        What a client may choose from.
    multiselect : bool, optional
        Whether several may be chosen.
    hidden : bool, optional
        Whether clients cannot give it, since its type has no text form.
    actions : Action or sequence of Action, optional
        What the operator can do, for a parameter whose default is that.
    device_proto : type, optional
        The type of device that is chosen.
    """

    name: str
    kind: ParamKind
    annotation: Any
    default: Any
    choices: tuple[str, ...] | None = None
    multiselect: bool = False
    hidden: bool = False
    actions: Action | Sequence[Action] | None = None
    device_proto: Any = None

    @property
    def has_default(self) -> bool:
        """Whether it may be left out."""
        return self.default is not inspect.Parameter.empty


@dataclass(frozen=True)
class PlanSpec:
    """A plan, described for clients."""

    name: str
    docs: str
    parameters: tuple[ParamDescription, ...]
    togglable: bool = False
    pausable: bool = False


def create_plan_spec(plan: Callable[..., Any], devices: Mapping[str, object]) -> PlanSpec:
    """Describe a plan.

    Parameters
    ----------
    plan : generator function
        It must be annotated as returning a generator of messages.
    devices : mapping
        The devices that clients can choose, by name.

    Raises
    ------
    TypeError
        If it is no such function.
    UnresolvableAnnotationError
        If a parameter without default has a type for which clients can give no value.

    Examples
    --------
    >>> from bluesky.utils import MsgGenerator
    >>> def settle(seconds: float = 1.0) -> MsgGenerator[None]:
    ...     yield from ()
    >>> create_plan_spec(settle, {}).parameters[0].default
    1.0
    """
    function = _function_of(plan)
    name = getattr(plan, "__name__", function.__name__)
    if not inspect.isgeneratorfunction(function):
        raise TypeError(f"plan {name!r}: found {plan!r}, expected a generator function")
    hints = get_type_hints(function, include_extras=True)
    _check_return(name, hints)
    parameters = list(inspect.signature(plan).parameters.values())
    if parameters and parameters[0].name in {"self", "cls"}:
        parameters = parameters[1:]
    return PlanSpec(
        name=name,
        docs=inspect.getdoc(function) or "",
        parameters=tuple(
            _describe(name, each, hints.get(each.name, inspect.Parameter.empty), devices)
            for each in parameters
        ),
        togglable=bool(getattr(plan, "__togglable__", False)),
        pausable=bool(getattr(plan, "__pausable__", False)),
    )


def _function_of(plan: Any) -> Any:
    while isinstance(plan, partial):
        plan = plan.func
    return inspect.unwrap(getattr(plan, "__func__", plan))


def _check_return(name: str, hints: Mapping[str, Any]) -> None:
    if "return" not in hints:
        text = "found no return type annotation, expected MsgGenerator"
        raise TypeError(f"plan {name!r}: {text}")
    returned = without_metadata(hints["return"])
    if (get_origin(returned) or returned) is not Generator:
        raise TypeError(f"plan {name!r}: found it to return {returned!r}, expected MsgGenerator")


def _describe(
    plan_name: str, parameter: inspect.Parameter, hint: Any, devices: Mapping[str, object]
) -> ParamDescription:
    annotation = without_metadata(hint)
    make = partial(
        ParamDescription,
        name=parameter.name,
        kind=ParamKind(parameter.kind),
        annotation=annotation,
        default=parameter.default,
    )
    if _is_actions(parameter.default):
        _check_takes_actions(plan_name, parameter.name, annotation)
        return make(actions=parameter.default)
    if parameter.kind is parameter.VAR_KEYWORD:
        return make()
    wanted = wanted_by(annotation, devices)
    may_lack = parameter.default is not parameter.empty
    if wanted is not None and (wanted.choices or may_lack):
        return _chosen(make, wanted, parameter)
    annotation = without_none(annotation)
    if wanted is None and is_native(annotation):
        return make()
    from milonga.engine._spec_schema import has_schema  # noqa: PLC0415 - pydantic, only if needed

    if may_lack:
        return make(hidden=not has_schema(annotation))
    if wanted is None and is_plain(annotation) and has_schema(annotation):
        return make()
    raise UnresolvableAnnotationError(plan_name, parameter.name, annotation)


def _chosen(
    make: Callable[..., ParamDescription], wanted: Wanted, parameter: inspect.Parameter
) -> ParamDescription:
    return make(
        choices=wanted.choices,
        multiselect=wanted.many or parameter.kind is parameter.VAR_POSITIONAL,
        device_proto=wanted.device,
        hidden=not wanted.choices,
    )


def _is_actions(default: object) -> bool:
    if isinstance(default, Action):
        return True
    if not isinstance(default, Sequence) or isinstance(default, str | bytes):
        return False
    # An empty sequence says nothing about actions: all() of nothing is True.
    return bool(default) and all(isinstance(each, Action) for each in default)


def _check_takes_actions(plan_name: str, name: str, annotation: Any) -> None:
    kinds = (annotation, *get_args(annotation))
    found = [
        get_origin(kind) or kind for kind in (*kinds, *(a for k in kinds for a in get_args(k)))
    ]
    if not any(isinstance(kind, type) and issubclass(kind, Action) for kind in found):
        raise TypeError(
            f"plan {plan_name!r}, parameter {name!r}: found {annotation!r} with actions as "
            "default, expected Action or a sequence of Action"
        )
