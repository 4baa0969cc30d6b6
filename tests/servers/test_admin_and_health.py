"""Admin mode gates the children; health comes from them and from what commands achieved."""

import json
import signal
from collections.abc import Callable, Iterator

import pytest
import tango

from milonga.control_model import AdminMode, ResultCode
from milonga.deploy import System, Topology
from milonga.lrc import LrcDevice, child_device, network
from milonga.testing import assert_outcome

from .plain_client import Recorder

TOPOLOGY = """
name: health
subarrays:
  - {device: health/subarray/1, id: 1, server: parent, children: [cbf, pst]}
leaves:
  - {name: cbf, device: health/leaf/cbf, server: cbf}
  - {name: pst, device: health/leaf/pst, server: pst}
policies:
  subarray: {critical: [cbf]}
"""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Run a subarray with a critical and another child."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        yield system


@pytest.fixture
def subarray(system: System, wait_until: Callable[..., None]) -> tango.DeviceProxy:
    """Return the subarray, once it has found its children."""
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    wait_until(lambda: proxy.state() not in {tango.DevState.UNKNOWN, tango.DevState.DISABLE})
    return proxy


def info(proxy: tango.DeviceProxy) -> dict[str, list[str]]:
    """Return the causes of the health."""
    causes: dict[str, list[str]] = json.loads(proxy.healthInfo)
    return causes


def test_offline_lets_go_of_the_children_and_online_finds_them_again(
    subarray: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """lrc-protocol e.1, e.2: DISABLE, then UNKNOWN, then the children's state."""
    with Recorder(subarray, "State") as recorder:
        known = len(recorder.values)

        subarray.adminMode = AdminMode.OFFLINE
        recorder.wait_until(lambda _: recorder.values[known:] == ["DISABLE"])
        (code,), (text,) = subarray.command_inout("AssignResources", "{}")
        assert code == ResultCode.REJECTED
        assert text == "AssignResources: admin mode is OFFLINE; expected ONLINE or ENGINEERING"

        subarray.adminMode = AdminMode.ONLINE
        recorder.wait_until(lambda _: recorder.values[known:] == ["DISABLE", "UNKNOWN", "OFF"])


def test_offline_in_mid_command_does_not_blind_the_device(
    system: System, subarray: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """What was sent is followed to its end, can be aborted, and then the links are let go of."""
    pst = tango.DeviceProxy(system.trl("pst"))
    pst.script = json.dumps({"AssignResources": {"duration": 5.0}, "Standby": {"outcome": "never"}})

    def links() -> dict[str, object]:
        found: dict[str, object] = json.loads(subarray.lrcStatistics)["children"]
        return found

    with LrcDevice(system.trl("subarray-01")) as device:
        for command, argument in (("AssignResources", "{}"), ("Standby", None)):
            invocation = device.invoke(command, argument)
            wait_until(lambda: pst.lrcExecuting)
            subarray.adminMode = AdminMode.OFFLINE
            assert links() == {}
            if command == "Standby":
                assert device.invoke("Abort").wait(20.0)
            outcome = invocation.wait(20.0)
            wanted = "ABORTED" if command == "Standby" else "OK"
            assert_outcome(outcome, wanted)
            assert not pst.lrcExecuting
            assert subarray.state() is tango.DevState.DISABLE
            subarray.adminMode = AdminMode.ONLINE
            wait_until(lambda: subarray.state() is tango.DevState.OFF)
        device.invoke("Restart").wait(10.0)
    pst.script = "{}"


def test_a_child_that_is_left_is_let_go_of_after_its_last_command(
    system: System, wait_until: Callable[..., None]
) -> None:
    """At once if there is none."""
    pst = tango.DeviceProxy(system.trl("pst"))
    pst.script = '{"End": {"duration": 3.0}}'
    idle, busy = child_device(system.trl("cbf")), child_device(system.trl("pst"))
    links = network().statistics()["links"]
    invocation = busy.start("End")
    busy.leave()
    idle.leave()
    assert (idle.is_closed, busy.is_closed) == (True, False)
    assert_outcome(invocation.wait(15.0), "OK")
    wait_until(lambda: busy.is_closed and network().statistics()["links"] == links - 2)
    pst.script = "{}"


def test_a_child_in_the_wanted_state_is_skipped(
    system: System, subarray: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """On works although one child is ON already and would refuse."""
    with LrcDevice(system.trl("cbf")) as cbf:
        assert cbf.invoke("On").wait(10)

    def skipped() -> list[str]:
        calls = json.loads(subarray.DryRun('{"command": "On"}'))["calls"]
        return [call["target"] for call in calls if call.get("not_sent")]

    wait_until(lambda: skipped() == ["health/leaf/cbf"])  # the parent is told a moment later
    with LrcDevice(system.trl("subarray-01")) as device:
        outcome = device.invoke("On").wait(10)

        assert outcome is not None
        assert outcome.is_ok
        assert device.invoke("Off").wait(10)


def test_health_names_its_causes_and_is_pushed_on_change_only(
    system: System, subarray: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """A failure degrades, a success clears it, a critical child makes it FAILED."""
    pst, cbf = (tango.DeviceProxy(system.trl(name)) for name in ("pst", "cbf"))
    with (
        LrcDevice(system.trl("subarray-01")) as device,
        Recorder(subarray, "healthState") as recorder,
    ):
        wait_until(lambda: subarray.healthState.name == "OK")
        pst.script = json.dumps({"AssignResources": {"outcome": "failed", "message": "no beam"}})
        device.invoke("AssignResources", "{}").wait(10)
        wait_until(lambda: subarray.healthState.name == "DEGRADED")
        assert info(subarray) == {"health/leaf/pst": ["no beam"]}

        pst.script = "{}"
        device.invoke("AssignResources", "{}").wait(10)
        wait_until(lambda: subarray.healthState.name == "OK")
        assert info(subarray) == {}

        cbf.script = json.dumps({"AssignResources": {"outcome": "fault", "message": "burnt"}})
        device.invoke("AssignResources", "{}").wait(10)
        wait_until(lambda: subarray.healthState.name == "FAILED")
        assert subarray.obsState.name == "FAULT"

        cbf.script = "{}"
        device.invoke("Restart").wait(10)
        recorder.wait_until(lambda _: recorder.values[-5:] == [0, 1, 0, 2, 0])
    assert recorder.values[:-5] in ([], [2], [3]), "what it was before it was OK"


def test_a_child_out_of_service_gets_no_commands(
    system: System, subarray: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """Shown, left out, not counted, and taken back."""
    pst = tango.DeviceProxy(system.trl("pst"))
    pst.script = json.dumps({"*": {"outcome": "failed"}})
    (code,), (text,) = subarray.command_inout("TakeOutOfService", "nobody")
    assert code == ResultCode.REJECTED
    assert "found 'nobody'; expected one of cbf, pst" in text
    subarray.command_inout("TakeOutOfService", "pst")
    assert subarray.childrenOutOfService == ("pst",)
    with LrcDevice(system.trl("subarray-01")) as device:
        outcome = device.invoke("AssignResources", "{}").wait(10)
        assert outcome is not None
        assert outcome.is_ok

        pst.script = "{}"
        subarray.command_inout("ReturnToService", "pst")
        assert subarray.childrenOutOfService == ()
        before = len(pst.lrcFinished)
        assert device.invoke("AssignResources", "{}").wait(10)
        wait_until(lambda: len(pst.lrcFinished) > before)


def test_a_dead_child_is_named_in_the_health(
    system: System, subarray: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """Last, because it stays dead."""
    process = next(process for process in system.processes if process.name == "pst")
    process.signal(signal.SIGKILL)

    wait_until(lambda: "health/leaf/pst" in info(subarray), seconds=20)

    assert info(subarray)["health/leaf/pst"][0].startswith("cannot be reached: ")
