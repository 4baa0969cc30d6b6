"""A device's children: how it reaches, watches and commands other devices."""

import logging
from collections.abc import Callable, Iterable
from functools import partial

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import ChildDevice, ChildKind, Expectation, Invocation, Sighting, child_device
from milonga.lrc import network as process_network
from milonga.tasks import ChildSpec

__all__ = ["ChildLinks", "OnSighting"]

_log = logging.getLogger(__name__)

OnSighting = Callable[[ChildSpec, Sighting], None]

WATCHED = ("State", "healthState")

STATE_WANTED_BY = {"On": "ON", "Off": "OFF", "Standby": "STANDBY"}
"""The State in which a child need not be sent a command."""


class ChildLinks:
    """The links to a device's children while it may talk to them. Safe across threads.

    Parameters
    ----------
    specs : iterable of ChildSpec
        The children.
    on_sighting : callable
        Told what is seen of a child's State and healthState; from any thread, must be quick.
    timeout : float
        Seconds that a child's command may take, for a child that knows no long-running commands.
    """

    def __init__(self, specs: Iterable[ChildSpec], on_sighting: OnSighting, timeout: float) -> None:
        self.specs = tuple(specs)
        self._devices: dict[str, ChildDevice] = {}
        self._states: dict[str, str] = {}
        self._on_sighting = on_sighting
        self._timeout = timeout

    def open(self) -> None:
        """Begin to talk to the children; returns at once."""
        for spec in self.specs:
            if spec.trl not in self._devices:
                device = _device_of(spec, self._timeout)
                self._devices[spec.trl] = device
                for name in WATCHED:
                    device.watch(name, partial(self._saw, spec))

    def close(self) -> None:
        """Stop talking to them."""
        devices, self._devices = self._devices, {}
        self._states.clear()
        for device in devices.values():
            device.close()

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> "Invocation | Reaching":
        """Start a command at the child with the resource locator `target`."""
        device = self._devices.get(target)
        if device is None:
            on_update(
                status=TaskStatus.FAILED,
                result=(ResultCode.FAILED, "communication with the child is not established"),
            )
            return Reaching(command)
        wanted = STATE_WANTED_BY.get(command)
        if wanted is not None and self._states.get(target) == wanted and self._skips(target):
            reaching = Reaching(command)
            process_network().run(
                lambda: reaching.look(device, wanted, command, argument, on_update)
            )
            return reaching
        return device.start(command, argument, on_update)

    def statistics(self) -> dict[str, dict[str, int]]:
        """Return the figures of each link, by resource locator."""
        return {trl: device.statistics() for trl, device in list(self._devices.items())}

    def _skips(self, target: str) -> bool:
        return any(spec.skip_when_reached for spec in self.specs if spec.trl == target)

    def _saw(self, spec: ChildSpec, sighting: Sighting) -> None:
        if sighting.attribute == "State":
            self._states[spec.trl] = str(sighting.value) if sighting.connected else ""
        self._on_sighting(spec, sighting)


class Reaching:
    """A command that may not be needed, because the child is where it leads to.

    What an event told may be old by now, so the child is asked before the command is left out.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._sent: Invocation | None = None
        self._ended = False

    @property
    def command_id(self) -> str | None:
        """The id that the child gave, if the command was sent."""
        return self._sent.command_id if self._sent is not None else None

    def look(
        self,
        device: ChildDevice,
        wanted: str,
        command: str,
        argument: str | None,
        on_update: Callable[..., None],
    ) -> None:
        """Ask the child for its State; send the command only if it is not the wanted one."""
        try:
            reached = tango.DeviceProxy(device.trl).state().name == wanted
        except tango.DevFailed:
            reached = False  # the command then meets whatever is the matter, and tells
        if self._ended:
            return
        if reached:
            text = f"already in {wanted} state; {command} was not sent"
            on_update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, text))
        else:
            self._sent = device.start(command, argument, on_update)

    def abort(self) -> None:
        """Ask the child to end the command."""
        if self._sent is not None:
            self._sent.abort()

    def close(self) -> None:
        """Stop listening."""
        self._ended = True
        if self._sent is not None:
            self._sent.close()


def _device_of(spec: ChildSpec, timeout: float) -> ChildDevice:
    expectations = {
        command: Expectation(
            attribute=until.attribute,
            reached=tuple(until.reached),
            failed=tuple(until.failed),
            timeout=until.timeout or timeout,
        )
        for command, until in spec.until.items()
    }
    return child_device(
        spec.trl,
        kind=ChildKind(spec.kind),
        expectations=expectations,
        skip_when_reached=spec.skip_when_reached,
        timeout=timeout,
    )
