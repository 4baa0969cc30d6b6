"""A plan as the work of a leaf, which can also tell beforehand what it would do."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ophyd_async.core import Device

from milonga.devices._plan_calls import PlanCaller
from milonga.devices._plan_devices import trl_of, unreached
from milonga.engine import ForeseenCall, foresee
from milonga.errors import ArgumentError
from milonga.tasks import ExecutionContext, Invocation

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["PlanWork"]

PATIENCE = 1.0
"""Seconds that a device has to answer when a plan is only tried, and again for its State."""

LOOP_PATIENCE = 1.0
"""Seconds that the event loop has to begin to ask the devices of a plan that is only tried."""

ALL_PATIENCE = 2.5
"""Seconds after which the answer to a trial comes, whatever the devices do."""


class PlanWork:
    """Starts a plan, or says what it would do: `ask`, then `foresee`. One of the two, once.

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
        self._asked_at = 0.0
        self._has_begun = threading.Event()
        self._gave_up = False
        self._looking: Future[dict[str, str]] | None = None

    def __call__(self, context: ExecutionContext, on_update: Callable[..., None]) -> Invocation:
        """Start the plan."""
        return self._start(context, on_update)

    def ask(self) -> None:
        """Begin to ask the devices, so that those of several plans are waited for together."""
        self._asked_at = time.monotonic()
        self._looking = asyncio.run_coroutine_threadsafe(self._look(), self._loop)

    def foresee(self) -> dict[str, Any]:
        """Say which devices it would use, what it would ask them and children for, and why not.

        Waits for the devices that were asked, see `ALL_PATIENCE`.
        """
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

    async def _look(self) -> dict[str, str]:
        self._has_begun.set()
        # not cancelled instead: an ophyd-async device never connects after a cancelled connecting
        return {} if self._gave_up else await unreached(self._devices, PATIENCE)

    def _unreached(self) -> dict[str, str]:
        if self._looking is None:
            return {}
        try:
            if self._has_begun.wait(self._left(LOOP_PATIENCE)):
                return self._looking.result(self._left(ALL_PATIENCE))
        except TimeoutError:
            pass
        self._gave_up = True
        text = "the event loop, in which it would be asked, is busy"
        return {device.name: text for device in self._devices}

    def _left(self, seconds: float) -> float:
        return max(0.0, self._asked_at + seconds - time.monotonic())

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
