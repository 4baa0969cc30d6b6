"""Devices of which a property is wrong: they say so, whatever they are asked."""

import json
from collections.abc import Iterator

import pytest
import tango

from milonga.control_model import ResultCode
from milonga.deploy import System, Topology

TOPOLOGY = """
name: wrong
controller: {device: wrong/control/0, server: all, properties: {MaxCapabilities: many}}
subarrays:
  - {device: wrong/subarray/1, id: 1, server: all, children: [a], properties: {Children: x}}
  - {device: wrong/subarray/2, id: 2, server: all, children: [b], properties: {CommandMap: "7"}}
  - {device: wrong/subarray/3, id: 3, server: all, children: [c], properties: {RecordStore: "oracle://h/r"}}
leaves:
  - {name: a, device: wrong/leaf/a, server: all}
  - {name: b, device: wrong/leaf/b, server: all}
  - {name: c, device: wrong/leaf/c, server: all}
"""

DEVICES = ("controller", "subarray-01", "subarray-02", "subarray-03")


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Run a system in which nothing but the leaves can work."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        yield system


@pytest.fixture(params=DEVICES)
def proxy(system: System, request: pytest.FixtureRequest) -> tango.DeviceProxy:
    """Return one of the devices."""
    return tango.DeviceProxy(system.trl(request.param))


def test_all_attributes_can_be_read(proxy: tango.DeviceProxy) -> None:
    """They have what there is, and Status the reason."""
    assert "init_device failed. " in proxy.status()

    names = list(proxy.get_attribute_list())
    failed = [each.name for each in proxy.read_attributes(names) if each.has_failed]

    assert failed == []
    statistics = json.loads(proxy.lrcStatistics)
    assert (statistics["children"], statistics["unconfirmed"]) == ({}, [])


def test_an_abort_is_accepted_as_ever(proxy: tango.DeviceProxy) -> None:
    """Nothing runs, so it has nothing to do."""
    codes, texts = proxy.Abort()

    assert codes[0] in {ResultCode.STARTED, ResultCode.QUEUED}, texts
    assert proxy.CommandTree(texts[0]) == "{}"


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("TakeOutOfService", "a"),
        ("ReturnToService", "a"),
        ("ClearStep", '{"task": "1_2_On"}'),
        ("SubmitCommand", '{"command": "Reset"}'),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    proxy: tango.DeviceProxy, command: str, argument: str
) -> None:
    """Not with what Python says of it."""
    codes, texts = proxy.command_inout(command, argument)

    assert codes[0] == ResultCode.REJECTED
    assert "init_device failed; see Status" in texts[0]
