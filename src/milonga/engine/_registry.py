"""The plans that clients may run, and nothing else."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from milonga.engine._spec import PlanSpec, create_plan_spec
from milonga.engine._spec_schema import json_schema, validate_arguments
from milonga.engine._spec_values import collect_arguments, resolve_arguments
from milonga.engine.actions import Action
from milonga.errors import PlanNotFound

__all__ = ["PlanRegistry", "PreparedPlan"]

PlanSource = str | Callable[..., Any]


@dataclass(frozen=True)
class PreparedPlan:
    """A plan with its arguments, to be given to an engine once.

    Parameters
    ----------
    name : str
        Its name in the registry.
    plan : generator
        The plan.
    spec : PlanSpec
        Its description.
    actions : dict
        What an operator can do to it, by name; its own, not shared with other runs.
    """

    name: str
    plan: Any
    spec: PlanSpec
    actions: dict[str, Action]


class PlanRegistry:
    """An explicit list of plans by name. Safe across threads.

    Modules are imported when the registry is made, by who makes it; what a client names is only
    looked up.

    Parameters
    ----------
    plans : iterable or mapping
        Plans as ``"module:function"`` or as functions; a mapping gives them other names.
    devices : mapping, optional
        Devices that clients can choose, by name.

    Raises
    ------
    ValueError
        If an entry has another form, or two have the same name.
    ImportError, AttributeError
        If an entry cannot be found.
    TypeError
        If an entry is no plan, see `create_plan_spec`.

    Examples
    --------
    >>> from bluesky.utils import MsgGenerator
    >>> def settle(seconds: float = 1.0) -> MsgGenerator[None]:
    ...     yield from ()
    >>> registry = PlanRegistry([settle])
    >>> registry.names
    ('settle',)
    >>> registry.prepare("settle", '{"seconds": 0.5}').name
    'settle'
    """

    def __init__(
        self,
        plans: Iterable[PlanSource] | Mapping[str, PlanSource] = (),
        devices: Mapping[str, object] | None = None,
    ) -> None:
        self.devices: Mapping[str, object] = dict(devices or {})
        self._lock = threading.Lock()
        self._plans: dict[str, tuple[Callable[..., Any], PlanSpec]] = {}
        if isinstance(plans, Mapping):
            for name, source in plans.items():
                self.add(source, name=name)
        else:
            for source in plans:
                self.add(source)

    def add(self, source: PlanSource, *, name: str | None = None) -> PlanSpec:
        """Add a plan, given as for the registry; for its owner, never for a client."""
        plan = _load(source) if isinstance(source, str) else source
        spec = create_plan_spec(plan, self.devices)
        if name is not None:
            spec = PlanSpec(
                **{each.name: getattr(spec, each.name) for each in fields(spec)} | {"name": name}
            )
        with self._lock:
            if spec.name in self._plans:
                raise ValueError(f"plan {spec.name!r}: found two of that name, expected one")
            self._plans[spec.name] = (plan, spec)
        return spec

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the plans, sorted."""
        with self._lock:
            return tuple(sorted(self._plans))

    def __contains__(self, name: object) -> bool:
        with self._lock:
            return name in self._plans

    def spec(self, name: str) -> PlanSpec:
        """Return the description of a plan.

        Raises
        ------
        PlanNotFound
            If it is not on the list.
        """
        return self._found(name)[1]

    def _found(self, name: str) -> tuple[Callable[..., Any], PlanSpec]:
        with self._lock:
            found = self._plans.get(name)
        if found is None:
            allowed = ", ".join(self.names) or "nothing"
            raise PlanNotFound(f"plan: found {name!r}, expected one of: {allowed}")
        return found

    def describe(self, name: str) -> str:
        """Return a plan's description as JSON: docs, how it is ended, schema of its arguments."""
        spec = self.spec(name)
        return json.dumps(
            {
                "name": spec.name,
                "docs": spec.docs,
                "togglable": spec.togglable,
                "pausable": spec.pausable,
                "actions": [_shown(each) for each in _actions_of(spec)],
                "schema": json_schema(spec),
            }
        )

    def prepare(self, name: str, argument: str | Mapping[str, Any] | None = None) -> PreparedPlan:
        """Make a plan with a client's arguments; nothing of it runs yet.

        Raises
        ------
        PlanNotFound
            If the plan is not on the list.
        ArgumentError
            If the arguments are not what it takes.
        """
        plan, spec = self._found(name)
        values = validate_arguments(spec, argument)
        actions: dict[str, Action] = {}
        for parameter in spec.parameters:
            if parameter.actions is not None:
                values[parameter.name] = _own_actions(parameter.actions, actions)
        args, kwargs = collect_arguments(spec, resolve_arguments(spec, values, self.devices))
        return PreparedPlan(name, plan(*args, **kwargs), spec, actions)


def _load(source: str) -> Callable[..., Any]:
    module, colon, function = source.partition(":")
    if not (module and colon and function):
        raise ValueError(f"plan: found {source!r}, expected 'module:function' or a function")
    found: Any = import_module(module)
    for part in function.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _actions_of(spec: PlanSpec) -> list[Action]:
    found: dict[str, Action] = {}
    for parameter in spec.parameters:
        if parameter.actions is not None:
            _own_actions(parameter.actions, found)
    return list(found.values())


def _own_actions(actions: Any, found: dict[str, Action]) -> Any:
    """Return copies of actions, which have latches of their own, and note them by name."""
    if not isinstance(actions, Action):
        return type(actions)(_own_actions(each, found) for each in actions)
    names = [each.name for each in fields(actions) if each.init]
    copy = type(actions)(**{name: getattr(actions, name) for name in names})
    found[copy.name] = copy
    return copy


def _shown(action: Action) -> dict[str, Any]:
    return {
        "name": action.name,
        "description": action.description,
        "togglable": action.togglable,
        "toggle_states": list(action.toggle_states),
    }
