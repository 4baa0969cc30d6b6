"""The devices that plans use: Tango devices as ophyd-async ones.

What a plan records is read from the device when it is recorded. ophyd-async's usual formats take
the value from a cache that polling or events fill, and a fast scan then records the value before.
This module is loaded only by devices that run plans.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib import import_module
from typing import Annotated, Any

import tango
from ophyd_async.core import (
    AsyncStatus,
    Device,
    NotConnectedError,
    SignalR,
    SignalRW,
    StandardReadable,
    TriggerableCommand,
)
from ophyd_async.core import StandardReadableFormat as Format
from ophyd_async.tango.core import DevStateEnum, TangoDevice
from tango import asyncio_executor

from milonga.devices._plan_properties import PlanDeviceSpec
from milonga.errors import CommandMapError, Unreachable

__all__ = ["PlanDetector", "PlanMotor", "connect_all", "make_device", "trl_of", "unreached"]

CONNECT_TIMEOUT = 10.0
"""Seconds that a device has to answer when a plan uses it for the first time."""

LOOK_FIRST, LOOK_LATER = 0.005, 0.05
"""Seconds between two looks at the State of a device that works, at first and at most."""

_MOVE_MARGIN = 10.0
"""Seconds that a motor may take beyond what its velocity says."""


async def _told(device: "_Working", work: Awaitable[Any], doing: str) -> Any:
    """Await `work`; if it fails say of which device, what was tried, and what is the matter.

    pytango hides the reason of some failed writes behind a TypeError, so the device is asked.
    """
    try:
        return await work
    except Exception as error:
        reason = _described(error)
        try:
            await device.State.get_value()
        except Exception as worse:  # noqa: BLE001 - it is the reason
            reason = _described(worse)
            raise Unreachable(
                f"{device.name} ({device.get_trl()}): cannot be reached to {doing}: {reason}"
            ) from error
        raise RuntimeError(
            f"{device.name} ({device.get_trl()}): cannot {doing}: {reason}"
        ) from error


def _described(error: BaseException) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, tango.DevFailed):
        cause = cause.__cause__
    if isinstance(cause, tango.DevFailed):
        return " ".join(cause.args[0].desc.split())
    return " ".join(f"{type(error).__name__}: {error}".split())


class _Working(TangoDevice, StandardReadable):
    """A Tango device whose work is over when its State says so."""

    State: SignalR[DevStateEnum]
    Stop: TriggerableCommand

    def __init__(self, trl: str, name: str = "") -> None:
        super().__init__(trl, name=name, auto_fill_signals=False)

    async def read(self) -> dict[str, Any]:
        """Read what a plan records."""
        readings: dict[str, Any] = await _told(self, super().read(), "read")
        return readings

    async def stop(self, success: bool = True) -> None:  # noqa: ARG002 - bluesky's
        """End the work now."""
        await _told(self, self.Stop.execute(), "stop")

    async def _wait_while(self, busy: DevStateEnum, seconds: float, doing: str) -> None:
        """Look at State until it is another; the looks get rarer."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        pause = LOOK_FIRST
        while True:
            state = await _told(self, self.State.get_value(), doing)
            if state == DevStateEnum.FAULT:
                raise RuntimeError(
                    f"{self.name} ({self.get_trl()}): found FAULT while it was to {doing}"
                )
            if state != busy:
                return
            if loop.time() > deadline:
                raise TimeoutError(
                    f"{self.name} ({self.get_trl()}): found {busy.value} after {seconds:.3g} s;"
                    f" expected it to {doing} by then"
                )
            await asyncio.sleep(pause)
            pause = min(LOOK_LATER, pause * 1.5)


class PlanMotor(_Working):
    """A Tango motor: attributes position, velocity and State, command Stop."""

    position: Annotated[SignalRW[float], Format.HINTED_UNCACHED_SIGNAL]
    velocity: Annotated[SignalRW[float], Format.CONFIG_SIGNAL]

    TOLERANCE = 1e-3
    """How far from where it was sent it may stand, in units of position."""

    @AsyncStatus.wrap
    async def set(self, value: float) -> None:
        """Move; done when State says so and the position that is read then is the wanted one."""
        doing = f"move to {value:g}"
        start, velocity = await asyncio.gather(
            _told(self, self.position.get_value(), doing),
            _told(self, self.velocity.get_value(), doing),
        )
        await _told(self, self.position.set(value), doing)
        seconds = abs(value - start) / velocity if velocity > 0 else 0.0
        await self._wait_while(DevStateEnum.MOVING, seconds + _MOVE_MARGIN, doing)
        reached = await _told(self, self.position.get_value(), doing)
        if abs(reached - value) > self.TOLERANCE:
            raise RuntimeError(
                f"{self.name} ({self.get_trl()}): found it at {reached:g} after the move;"
                f" expected {value:g}"
            )


class PlanDetector(_Working):
    """A Tango detector: attributes counts, exposure and State, commands Start and Stop."""

    counts: Annotated[SignalR[float], Format.HINTED_UNCACHED_SIGNAL]
    exposure: Annotated[SignalRW[float], Format.CONFIG_SIGNAL]
    Start: TriggerableCommand

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        """Count for one exposure."""
        exposure = await _told(self, self.exposure.get_value(), "count")
        await _told(self, self.Start.execute(), "count")
        await self._wait_while(DevStateEnum.RUNNING, exposure + _MOVE_MARGIN, "count")


_TYPES: dict[str, Callable[..., Device]] = {"motor": PlanMotor, "detector": PlanDetector}


def make_device(spec: PlanDeviceSpec) -> Device:
    """Make what a line of the property PlanDevices describes; nothing is connected yet.

    Raises
    ------
    CommandMapError
        If its class cannot be found or made.
    """
    kind = _TYPES.get(spec.type)
    try:
        if kind is None:
            module, _, name = spec.type.partition(":")
            kind = getattr(import_module(module), name)
        device = kind(spec.trl, name=spec.name)
    except Exception as error:
        raise CommandMapError(
            f"Property PlanDevices, {spec.name}: found type {spec.type!r}, which cannot be made:"
            f" {type(error).__name__}: {error}; expected motor, detector, or module:Class that"
            " takes a resource locator and a name"
        ) from error
    if not isinstance(device, Device):
        raise CommandMapError(
            f"Property PlanDevices, {spec.name}: found {device!r}; expected an ophyd-async device"
        )
    return device


async def connect_all(devices: Iterable[Device]) -> None:
    """Connect devices, in the engine's event loop; quick for those that are connected.

    Raises
    ------
    Unreachable
        With all that cannot be reached.
    """
    devices = list(devices)
    reasons = await _connected(devices, CONNECT_TIMEOUT)
    problems = [
        f"{device.name} ({trl_of(device)}): {reasons[device.name]}"
        for device in devices
        if device.name in reasons
    ]
    if problems:
        raise Unreachable(f"devices of the plan cannot be reached: {'; '.join(problems)}")


async def unreached(devices: Iterable[Device], seconds: float) -> dict[str, str]:
    """Return which devices do not answer within so many seconds, by name, and why.

    In the engine's event loop. Nothing is done but to connect them, and to read State where a
    device has it.
    """
    devices = list(devices)
    reasons = await _connected(devices, seconds)
    working = [each for each in devices if isinstance(each, _Working) and each.name not in reasons]
    looks = (_look(device, seconds) for device in working)
    answers = await asyncio.gather(*looks, return_exceptions=True)
    return reasons | _reasons(working, answers)


async def _look(device: _Working, seconds: float) -> None:
    try:
        await asyncio.wait_for(device.State.get_value(), seconds)
    except TimeoutError as error:
        raise NotConnectedError(f"did not answer within {seconds:g} s") from error


async def _connected(devices: list[Device], seconds: float) -> dict[str, str]:
    """Connect devices; return why, by name, for those with which that fails."""
    _bind_executor()
    answers = await asyncio.gather(
        *(device.connect(timeout=seconds) for device in devices), return_exceptions=True
    )
    return _reasons(devices, answers)


def _reasons(devices: Sequence[Device], answers: Iterable[object]) -> dict[str, str]:
    pairs = zip(devices, answers, strict=True)
    return {
        device.name: _reason(answer)
        for device, answer in pairs
        if isinstance(answer, BaseException)
    }


def _reason(error: BaseException) -> str:
    late = isinstance(error.__cause__, TimeoutError)
    if isinstance(error, NotConnectedError) and (error.__cause__ is None or late):
        return " ".join(str(error).split())
    return _described(error)


def trl_of(device: Device) -> str:
    """Return a device's resource locator, or else what it is."""
    return device.get_trl() if isinstance(device, TangoDevice) else type(device).__name__


def _bind_executor() -> None:
    """Bind pytango to this event loop.

    It has one executor for asyncio in a process, which belongs to whatever loop asked for it
    first; with that of another loop, or of one that has ended, proxies cannot be awaited.
    """
    executor = asyncio_executor.get_global_executor()
    if not executor.in_executor_context() or executor.loop is not asyncio.get_running_loop():
        asyncio_executor.set_global_executor(asyncio_executor.AsyncioExecutor())
