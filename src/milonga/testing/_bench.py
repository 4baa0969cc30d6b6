"""A running system of parents and faulty leaves, for tests."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import tango

from milonga.deploy import Process, System, Topology
from milonga.errors import DeploymentError
from milonga.lrc import wait_until_started
from milonga.testing._server import SERVER_NAME

__all__ = ["FaultySystem", "LeafHandle", "faulty_topology"]

TIMEOUT = 30.0
"""Seconds that a leaf has to be there again."""


def faulty_topology(
    leaves: int = 4,
    *,
    subarrays: int = 1,
    timeout: float = 30.0,
    servers: Mapping[str, Iterable[int]] | None = None,
    **more: Any,
) -> Topology:
    """Return a topology of subarrays over faulty leaves, with a controller above two or more.

    Parameters
    ----------
    leaves : int, optional
        How many leaves each subarray has: ``leaf-01``, ``leaf-02`` and so on.
    subarrays : int, optional
        How many subarrays there are: ``subarray-01`` and so on, in the server ``parents``.
    timeout : float, optional
        Seconds that a command may take.
    servers : mapping, optional
        Server to the numbers of the leaves that it has to itself; the others share ``leaves``.
    **more
        Further keys of the topology.

    Examples
    --------
    >>> [device.name for device in faulty_topology(leaves=2).devices]
    ['leaf-01', 'leaf-02', 'subarray-01']
    """
    own = {number: name for name, numbers in (servers or {}).items() for number in numbers}
    names = [f"leaf-{number:02d}" for number in range(1, leaves * subarrays + 1)]
    command = {"command": ["{python}", "-m", "milonga.testing"], "tango_name": SERVER_NAME}
    data: dict[str, Any] = {
        "name": "faulty",
        "defaults": {"timeout": timeout},
        "subarrays": [
            {
                "device": f"faulty/subarray/{number + 1:02d}",
                "id": number + 1,
                "server": "parents",
                "children": names[number * leaves : (number + 1) * leaves],
            }
            for number in range(subarrays)
        ],
        "leaves": [
            {
                "name": name,
                "device": f"faulty/leaf/{number:02d}",
                "class": "FaultyLeaf",
                "server": own.get(number, "leaves"),
            }
            for number, name in enumerate(names, start=1)
        ],
        "servers": {
            name: command | {"classes": ["FaultyLeaf"]} for name in {"leaves", *own.values()}
        },
    }
    used = {leaf["server"] for leaf in data["leaves"]}
    data["servers"] = {name: entry for name, entry in data["servers"].items() if name in used}
    if subarrays > 1:
        data["controller"] = {"device": "faulty/control/0", "server": "parents"}
    return Topology.from_text(json.dumps(data | more))


class LeafHandle:
    """A faulty leaf of a running system, seen from a test.

    Parameters
    ----------
    trl : str
        The device.
    """

    def __init__(self, trl: str) -> None:
        self.trl = trl
        self.proxy = tango.DeviceProxy(trl)

    def does(self, **script: Mapping[str, object]) -> None:
        """Say how commands go: ``does(On={"duration": 2.0})``; ``any`` stands for ``*``."""
        self.proxy.script = json.dumps({_star(name): what for name, what in script.items()})

    def suffers(
        self,
        *,
        events: Mapping[str, object] | None = None,
        abort: str = "take",
        state: str = "",
        **commands: Mapping[str, object],
    ) -> None:
        """Say what goes wrong, see `Faults`: ``suffers(abort="refuse", On={"hang": 5.0})``."""
        self.proxy.faults = json.dumps(
            {
                "events": events or {},
                "abort": abort,
                "state": state,
                "commands": {_star(name): what for name, what in commands.items()},
            }
        )

    def wait_until_it_answers(self, seconds: float = TIMEOUT) -> None:
        """Wait until a leaf that hangs or restarts can be asked again."""
        _await(lambda: _answers(self.trl), seconds, f"{self.trl} does not answer")

    def become_idle(self, seconds: float = TIMEOUT) -> None:
        """Abort what the leaf does, and wait until it does nothing."""

        def is_idle() -> bool:
            proxy = self.proxy
            return not (tuple(proxy.lrcQueue or ()) + tuple(proxy.lrcExecuting or ()))

        if not is_idle():
            self.proxy.Abort()
            _await(is_idle, seconds, f"{self.trl} is not idle")

    @property
    def counts(self) -> dict[str, int]:
        """What was called how often, and what became of events."""
        counts: dict[str, int] = json.loads(self.proxy.faultCounts)
        return counts


class FaultySystem(System):
    """A running system whose leaves can be told what goes wrong, and whose servers can die.

    A context manager, as `milonga.deploy.System` is.

    Examples
    --------
    ::

        with FaultySystem(faulty_topology(leaves=2)) as system:
            system.leaf("leaf-01").suffers(abort="refuse")
    """

    def __init__(self, topology: Topology, **options: Any) -> None:
        super().__init__(topology, **options)
        self._again: dict[str, Process] = {}

    def leaf(self, name: str) -> LeafHandle:
        """Return a leaf by its name in the topology."""
        return LeafHandle(self.trl(name))

    def server(self, name: str) -> Process:
        """Return the process of a server."""
        found = [process for process in self.processes if process.name == name]
        if name not in self._again and not found:
            raise DeploymentError(f"server: found {name!r}, expected one of the system's")
        return self._again.get(name) or found[0]

    def kill(self, name: str) -> None:
        """End a server with SIGKILL, and wait for its end."""
        process = self.server(name)
        process.signal(signal.SIGKILL)
        process.wait(5.0)

    def restart(self, name: str) -> None:
        """Start a server that has ended anew, and wait until its devices answer."""
        old = self.server(name)
        old.wait(5.0)
        environment = os.environ | {"TANGO_HOST": self.tango_host}
        process = self._again[name] = Process(name, old.command, old.log, environment)
        process.start()
        trls = [self.trl(entry.name) for entry in self.topology.devices if entry.server == name]
        for trl in trls:
            _await(lambda trl=trl: _answers(trl), TIMEOUT, f"{trl} does not answer")  # type: ignore[misc]

    def stop(self) -> None:
        """End all processes, also those that were started anew."""
        for process in self._again.values():
            process.signal(signal.SIGKILL)
            process.wait(5.0)
        self._again.clear()
        super().stop()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _star(name: str) -> str:
    return "*" if name == "any" else name


def _answers(trl: str) -> bool:
    try:
        proxy = tango.DeviceProxy(trl)
        proxy.state()
        wait_until_started(proxy)
    except tango.DevFailed:
        return False
    return True


def _await(condition: Callable[[], bool], seconds: float, complaint: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise DeploymentError(f"{complaint} within {seconds:g} s")
        time.sleep(0.05)
