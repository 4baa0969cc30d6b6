"""The plans that a device allows, made ready to be run on its devices."""

import json
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self

from ophyd_async.core import Device

from milonga.devices._plan_devices import connect_all, make_device
from milonga.devices._plan_properties import PlanDeviceSpec
from milonga.engine import PlanRegistry, PreparedPlan
from milonga.engine.plan_spec import validate_arguments
from milonga.engine.protocols import Msg
from milonga.errors import CommandMapError

__all__ = ["DeskRegistry"]

ENVELOPE = ("interface", "transaction_id", "subarray_id")
"""Keys of a command's argument that are not for its plan, unless it has such a parameter."""


class DeskRegistry(PlanRegistry):
    """A registry whose plans connect the devices that they are given before they begin."""

    @classmethod
    def of(cls, plans: Mapping[str, str], devices: Iterable[PlanDeviceSpec]) -> Self:
        """Load plans, given by their names and places, and make the devices that they may use.

        Raises
        ------
        CommandMapError
            If one of them cannot be had.
        """
        registry = cls(devices={spec.name: make_device(spec) for spec in devices})
        for name, source in plans.items():
            _add(registry, name, source)
        return registry

    def prepare(self, name: str, argument: str | Mapping[str, Any] | None = None) -> PreparedPlan:
        """Make a plan with a client's arguments."""
        prepared = super().prepare(name, argument)
        devices = self.chosen(prepared, argument)
        return replace(prepared, plan=_checked(name, prepared.plan, devices))

    def without_envelope(self, name: str, argument: str | None) -> str | None:
        """Return a command's argument without what is not for its plan."""
        try:
            value = json.loads(argument or "{}")
        except (ValueError, RecursionError):
            return argument  # the plan's own check has the words for it
        if not isinstance(value, dict):
            return argument
        taken = {parameter.name for parameter in self.spec(name).parameters}
        for key in ENVELOPE:
            if key not in taken:
                value.pop(key, None)
        return json.dumps(value)

    def chosen(
        self, prepared: PreparedPlan, argument: str | Mapping[str, Any] | None
    ) -> list[Device]:
        """Return the devices that a client's arguments name."""
        values = validate_arguments(prepared.spec, argument)
        chosen: dict[str, Device] = {}
        for parameter in prepared.spec.parameters:
            value = values.get(parameter.name)
            if parameter.device_proto is None or value is None:
                continue
            for label in [value] if isinstance(value, str) else value:
                device = self.devices[label]
                if isinstance(device, Device):
                    chosen[label] = device
        return list(chosen.values())


def _checked(name: str, plan: Any, devices: list[Device]) -> Generator[Msg, Any, Any]:
    """Return a plan that connects its devices first, and says so if it yields no message."""

    def connected_first() -> Generator[Msg, Any, Any]:
        if devices:
            connect = [partial(connect_all, devices)]
            (task,) = yield Msg("wait_for", None, connect)  # type: ignore[no-untyped-call]
            task.result()
        return (yield from _messages_only(name, plan))

    generator = connected_first()
    generator.__name__ = name  # type: ignore[attr-defined] # the engine calls the plan so
    return generator


def _messages_only(name: str, plan: Any) -> Generator[Msg, Any, Any]:
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            message = plan.send(answer) if error is None else plan.throw(error)
        except StopIteration as end:
            return end.value
        if not isinstance(message, Msg):
            plan.close()
            raise TypeError(f"plan {name!r}: found that it yields {message!r}; expected a message")
        error = None
        try:
            answer = yield message
        except GeneratorExit:
            plan.close()
            raise
        except BaseException as thrown:  # noqa: BLE001 - what is thrown in is for the plan
            error, answer = thrown, None


def _add(registry: PlanRegistry, name: str, source: str) -> None:
    try:
        registry.add(source, name=name)
    except Exception as error:
        raise CommandMapError(
            f"Property Plans, {name}: found {source!r}, which cannot be used:"
            f" {type(error).__name__}: {error}"
        ) from error
