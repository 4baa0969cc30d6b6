"""A device's children: how it reaches, watches and commands other devices."""

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import (
    ChildDevice,
    ChildKind,
    Expectation,
    Invocation,
    Sighting,
    Trace,
    Watch,
    child_device,
)
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
        self._left: list[ChildDevice] = []
        self._states: dict[str, str] = {}
        self._away: set[str] = set()
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

    def leave(self) -> None:
        """Send them nothing more, but follow what was sent to its end."""
        devices, self._devices = self._devices, {}
        self._states.clear()
        for device in devices.values():
            device.leave()
        self._left = [device for device in (*self._left, *devices.values()) if not device.is_closed]

    def close(self) -> None:
        """Stop talking to them."""
        self.leave()
        for device in self._left:
            device.close()
        self._left.clear()

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> "Invocation | Reaching":
        """Start a command at the child with the resource locator `target`."""
        return self.invoke_within(target, command, argument, on_update, None)

    def invoke_within(
        self,
        target: str,
        command: str,
        argument: str | None,
        on_update: Callable[..., None],
        seconds: float | None,
        *,
        urgent: bool = False,
    ) -> "Invocation | Reaching":
        """Start a command that may take so many seconds, which a child that can be told is.

        One that is urgent waits for no call to another child; see `ChildDevice.start`.
        """
        device = self._devices.get(target)
        if device is None:
            on_update(
                status=TaskStatus.FAILED,
                result=(ResultCode.FAILED, "communication with the child is not established"),
            )
            return Reaching(command)
        wanted = STATE_WANTED_BY.get(command)
        if wanted is not None and self.is_reached(target, command):
            send = partial(device.start, within=seconds, signs=True, urgent=urgent)
            reaching = Reaching(command, send)
            run = process_network().run_abort if urgent else process_network().run
            run(lambda: reaching.look(device, wanted, command, argument, on_update))
            return reaching
        return device.start(command, argument, on_update, within=seconds, signs=True, urgent=urgent)

    def urgent(self) -> "UrgentLinks":
        """Return the way by which safety commands go to the children."""
        return UrgentLinks(self)

    def is_reached(self, target: str, command: str) -> bool:
        """Tell whether a child need not be sent a command, as it is where that leads to."""
        wanted = STATE_WANTED_BY.get(command)
        is_there = wanted is not None and self._states.get(target) == wanted
        return is_there and self._skips(target, command)

    def confirmed_by(self, target: str, command: str) -> str:
        """Return what a child must look like for a command to have worked, in words, if said."""
        spec = self._spec(target)
        until = spec.until.get(command) if spec is not None else None
        return f"{until.attribute} is {' or '.join(until.reached)}" if until is not None else ""

    def device(self, target: str) -> ChildDevice | None:
        """Return the child with the resource locator `target`; None while nobody talks to it."""
        return self._devices.get(target)

    def watch(
        self, target: str, attribute: str, callback: Callable[[Sighting], None]
    ) -> Watch | None:
        """Watch an attribute of a child, as `ChildDevice.watch`; None if there is no link to it."""
        device = self._devices.get(target)
        return None if device is None else device.watch(attribute, callback)

    def resume_at(
        self,
        target: str,
        trace: Trace,
        on_update: Callable[..., None],
        *,
        command_id: str | None,
        claim: Callable[[str], bool],
    ) -> Invocation | None:
        """Find a command that was sent before a restart; None if there is no such child."""
        device = self._devices.get(target)
        if device is None:
            return None
        return device.resume(trace, on_update, command_id=command_id, claim=claim)

    def statistics(self) -> dict[str, dict[str, int]]:
        """Return the figures of each link, by resource locator."""
        return {trl: device.statistics() for trl, device in list(self._devices.items())}

    def _note_connection(self, spec: ChildSpec, sighting: Sighting) -> None:
        """Tell once when a child goes away, and when it is there again."""
        if sighting.connected and spec.trl in self._away:
            self._away.discard(spec.trl)
            device = self._devices.get(spec.trl)
            start = device.server_start if device is not None else ""
            since = f"; its server was started at {start}" if start else ""
            _log.warning("%s: child %s answers again%s", spec.trl, spec.name, since)
        elif not sighting.connected and spec.trl not in self._away:
            self._away.add(spec.trl)
            _log.warning("%s: child %s is away: %s", spec.trl, spec.name, sighting.reason)

    def _skips(self, target: str, command: str) -> bool:
        """Tell whether a command is left out by State alone, as nothing else tells its end."""
        spec = self._spec(target)
        if spec is None or not spec.skip_when_reached:
            return False
        until = spec.until.get(command)
        return until is None or until.attribute.casefold() == "state"

    def _spec(self, target: str) -> ChildSpec | None:
        return next((spec for spec in self.specs if spec.trl == target), None)

    def _saw(self, spec: ChildSpec, sighting: Sighting) -> None:
        if sighting.attribute == "State":
            self._note_connection(spec, sighting)
            self._states[spec.trl] = str(sighting.value) if sighting.connected else ""
        self._on_sighting(spec, sighting)


class UrgentLinks:
    """Commands children without waiting for calls to others.

    Parameters
    ----------
    links : ChildLinks
        The links.
    """

    def __init__(self, links: ChildLinks) -> None:
        self.invoke_within = partial(links.invoke_within, urgent=True)

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> "Invocation | Reaching":
        """Start a command, as `ChildLinks.invoke`."""
        return self.invoke_within(target, command, argument, on_update, None)


class Reaching:
    """A command that may not be needed, because the child is where it leads to.

    What an event told may be old by now, so the child is asked before the command is left out.
    """

    def __init__(self, command: str, send: Callable[..., Invocation] | None = None) -> None:
        self._command = command
        self._send = send
        self._sent: Invocation | None = None
        self._ended = False
        self._aborted = threading.Event()

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
        if self._aborted.is_set():
            text = f"{command} was aborted before it was sent"
            on_update(status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, text))
        elif reached:
            text = f"already in {wanted} state; {command} was not sent"
            on_update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, text))
        elif self._send is not None:
            self._sent = self._send(command, argument, on_update)
            if self._aborted.is_set():
                self._sent.abort()

    def abort(self) -> None:
        """Ask the child to end the command."""
        self._aborted.set()
        if self._sent is not None:
            self._sent.abort()

    def look_again(self) -> None:
        """Look at the child now, if the command was sent."""
        if self._sent is not None:
            self._sent.look_again()

    def details(self) -> dict[str, object]:
        """Return what is waited for beside the result."""
        return self._sent.details() if self._sent is not None else {}

    def irregular(self) -> dict[str, object]:
        """Return what was wrong with the events of the command."""
        return self._sent.irregular() if self._sent is not None else {}

    @property
    def abort_grace(self) -> float:
        """How many seconds longer than others the child may take to end the command."""
        return self._sent.abort_grace if self._sent is not None else 0.0

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
        abort_all=spec.abort_all,
    )
