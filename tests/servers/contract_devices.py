"""The devices that the contract tests look at, and how they are brought into their states."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import tango
from tests.servers import contract_tables as tables
from tests.servers import standing_still as stopping
from tests.servers.plain_client import PlainClient, plain

from milonga.deploy import System, Topology

TOPOLOGY = """
name: contract
defaults: {timeout: 30.0}
controller:
  device: contract/control/0
  server: parents
  properties:
    AdminModeDefault: OFFLINE
    Children: [{name: own, trl: contract/leaf/3, groups: []}]
    MaxCapabilities: ["PSS:2", "BAND1:3"]
subarrays:
  - device: contract/subarray/1
    id: 1
    server: parents
    children: [leaf]
    properties: {AdminModeDefault: OFFLINE}
  - {device: contract/subarray/2, id: 2, server: parents, children: [solo, broken, own]}
leaves:
  - {name: leaf, device: contract/leaf/0, server: leaf}
  - {name: solo, device: contract/leaf/1, server: parents, properties: {AdminModeDefault: OFFLINE}}
  - {name: broken, device: contract/leaf/2, server: parents, properties: {Script: "no"}}
  - {name: own, device: contract/leaf/3, server: leaf}
"""

DEVICES = {
    "controller": tables.B1_BASE | tables.B2_CONTROLLER,
    "subarray-01": tables.B1_BASE | tables.B3_OBS_DEVICE | tables.B4_SUBARRAY,
    "solo": tables.B1_BASE,
}
Values = dict[str, dict[str, object]]


@dataclass(frozen=True)
class Contract:
    """The running devices."""

    system: System
    clients: dict[str, PlainClient]
    start: Values
    """What each attribute showed after the start."""

    def proxy(self, name: str) -> tango.DeviceProxy:
        """Return a proxy of a device."""
        return self.clients[name].proxy


@contextmanager
def contract_devices() -> Iterator[Contract]:
    """Run the devices; look at their attributes, then bring them on line."""
    with System(Topology.from_text(TOPOLOGY)) as system, ExitStack() as stack:
        proxies = {name: tango.DeviceProxy(system.trl(name)) for name in DEVICES}
        start = {name: _values(proxy, DEVICES[name]) for name, proxy in proxies.items()}
        for proxy in proxies.values():
            proxy.adminMode = 0
        clients = {
            name: stack.enter_context(PlainClient(system.trl(name)))
            for name in (*DEVICES, "leaf", "broken")
        }
        yield Contract(system, clients, start)


def bring(client: PlainClient, state: str) -> None:
    """Bring a device into an operational state."""
    client.proxy.adminMode = "OFFLINE" if state == "DISABLE" else "ONLINE"
    client.wait_for_state("DISABLE" if state == "DISABLE" else "OFF STANDBY ON")
    if client.proxy.state().name != state:
        client.run(state.title())
    assert client.proxy.state().name == state


def do(devices: Contract, command: str, outcome: str) -> str:
    """Call a command of the subarray whose child makes `outcome` of it; return its id."""
    devices.proxy("leaf").script = json.dumps({command: {"outcome": outcome}})
    takes_text = tables.C_SUBARRAY.get(command, ("", ""))[0] == "DevString"
    _, uid = devices.clients["subarray-01"].call(command, "{}" if takes_text else None)
    return uid


def go_to(devices: Contract, origin: str) -> None:
    """Bring the subarray into an obsState; by way of EMPTY."""
    client = devices.clients["subarray-01"]
    state = client.proxy.obsState.name
    if state not in {"EMPTY", "ABORTED", "FAULT"}:
        client.end(do(devices, "Abort", "ok"))
        state = client.proxy.obsState.name
    if state != "EMPTY":
        client.end(do(devices, "Restart", "ok"))
    for command, outcome in () if origin == "EMPTY" else tables.E3_WAYS[origin]:
        uid = do(devices, command, outcome)
        if outcome == "never":
            client.started(uid)
        else:
            client.end(uid)
    assert client.proxy.obsState.name == origin.split(maxsplit=1)[0]


def obs_values(path: str) -> list[int]:
    """Return the numbers of obsStates that are named in a row."""
    labels = tables.B3_OBS_DEVICE["obsState"].labels.split()
    return [labels.index(state) for state in path.split()]


@contextmanager
def standing_still(devices: Contract, name: str) -> Iterator[None]:
    """Keep a server from answering."""
    server = next(process for process in devices.system.processes if process.name == name)
    with stopping.standing_still(server):
        yield


def _values(proxy: tango.DeviceProxy, table: dict[str, tables.Attribute]) -> dict[str, object]:
    return {key: plain(proxy.read_attribute(key).value) for key in table}
