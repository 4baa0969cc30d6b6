"""A plan as the work of a leaf, which can also tell beforehand what it would do."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ophyd_async.core import Device

from milonga.devices._plan_calls import PlanCaller
from milonga.devices._plan_devices import trl_of, unreached
from milonga.engine import ForeseenCall, foresee
from milonga.errors import ArgumentError
from milonga.tasks import ExecutionContext, Invocation

__all__ = ["PlanWork"]

PATIENCE = 1.0
"""Seconds that a device has to answer when a plan is only tried."""


class PlanWork:
    """Starts a plan, or says what it would do. One of the two, once.

    Parameters
    ----------
    start : callable
        Starts it.
    plan : generator
        The plan.
    devices : sequence of Device
        What its arguments name.
    caller : PlanCaller
        Knows the children.
    loop : asyncio.AbstractEventLoop
        That of the engine, in which devices are reached.
    """

    def __init__(
        self,
        start: Callable[[ExecutionContext, Callable[..., None]], Invocation],
        plan: Any,
        devices: Sequence[Device],
        caller: PlanCaller,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._start = start
        self._plan = plan
        self._devices = devices
        self._caller = caller
        self._loop = loop

    def __call__(self, context: ExecutionContext, on_update: Callable[..., None]) -> Invocation:
        """Start the plan."""
        return self._start(context, on_update)

    def foresee(self) -> dict[str, Any]:
        """Say which devices it would use, what it would ask them and children for, and why not."""
        reasons = self._unreached()
        foreseen = foresee(self._plan)
        told: dict[str, Any] = {
            "devices": [self._device(device, reasons) for device in self._devices],
            "steps": [self._step(call) for call in foreseen.calls],
        }
        if foreseen.more:
            told["more"] = foreseen.more
        if reasons:
            names = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            told["problem"] = f"devices of the plan cannot be reached: {names}"
        return told

    def _unreached(self) -> dict[str, str]:
        looking = asyncio.run_coroutine_threadsafe(unreached(self._devices, PATIENCE), self._loop)
        try:
            return looking.result(3 * PATIENCE)
        except TimeoutError:
            text = "the event loop, in which it would be asked, is busy"
            return {device.name: text for device in self._devices}

    def _device(self, device: Device, reasons: dict[str, str]) -> dict[str, str]:
        told = {"name": device.name, "target": trl_of(device)}
        return told | ({"problem": reasons[device.name]} if device.name in reasons else {})

    def _step(self, call: ForeseenCall) -> dict[str, Any]:
        told: dict[str, Any] = {
            "type": "device" if call.is_child else "plan_device",
            "target": call.target,
            "command": call.command,
            "argument": call.argument,
            "times": call.times,
        }
        if call.is_child:
            try:
                told["target"] = self._caller.child(call.target, call.command).trl
            except ArgumentError as error:
                told["problem"] = str(error)
        return told
