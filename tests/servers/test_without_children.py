"""A device that commands nobody, and yet has commands: plans, and an observation's."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tango

from milonga.control_model import ObsState, ResultCode
from milonga.deploy import System, Topology
from milonga.lrc import LrcDevice

from .outcomes import ended

TOPOLOGY = """
name: alone
subarrays:
  - device: alone/subarray/1
    id: 1
    server: alone
    children: []
    plans: [site_plans:assign, site_plans:endless]
servers:
  alone: {environment: {PYTHONPATH: SITE}}
command_map:
  subarray:
    AssignResources: {tasks: {procedure: {plan: "site_plans:assign"}}}
"""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Run a subarray with nobody in it."""
    text = TOPOLOGY.replace("SITE", str(Path(__file__).parent))
    with System(Topology.from_text(text)) as system:
        yield system


def test_a_killed_device_without_children_knows_what_was(
    system: System, wait_until: Callable[..., None]
) -> None:
    """A-17: its plan is lost, which is said, and what was assigned and observed is as before."""
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    with LrcDevice(system.trl("subarray-01")) as device:
        outcome = ended(device.invoke("AssignResources", '{"receptors": ["dish-1"]}'))
        assert outcome.is_ok, outcome.message
        uid = str(device.invoke("RunPlan", '{"plan": "endless"}').command_id)
    plan = f"{uid}/endless"
    wait_until(lambda: json.loads(proxy.GetTask(plan))["runningAt"] is not None)

    restart(system, signal.SIGKILL)

    wait_until(lambda: uid in finished(proxy), 60.0)
    status, (code, message) = finished(proxy)[uid]
    assert (status, code) == ("FAILED", ResultCode.UNKNOWN), message
    assert "was under way when the device server ended" in message
    assert json.loads(proxy.GetTask(uid))["status"] == "LOST"
    assert proxy.assignedResources == ("dish-1",)
    assert proxy.obsState == ObsState.IDLE


def test_what_was_taken_back_after_a_crash_ends_with_the_next_orderly_end(
    system: System, wait_until: Callable[..., None]
) -> None:
    """A-17: after SIGTERM a device starts anew, also if it was killed before that."""
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    with LrcDevice(system.trl("subarray-01")) as device:
        outcome = ended(device.invoke("AssignResources", '{"receptors": ["dish-2"]}'))
        assert outcome.is_ok, outcome.message
    restart(system, signal.SIGKILL)
    wait_until(lambda: "dish-2" in assigned(proxy), 60.0)

    restart(system, signal.SIGTERM)

    wait_until(lambda: assigned(proxy) is not NOBODY, 60.0)
    with LrcDevice(system.trl("subarray-01")) as device:  # runs once it is known what was
        assert ended(device.invoke("RunPlan", '{"plan": "assign"}')).is_ok
    assert assigned(proxy) == ()
    assert proxy.obsState == ObsState.EMPTY


NOBODY = ("nobody answers",)


def restart(system: System, number: int) -> None:
    """End the device's server, and start it again."""
    (process,) = (each for each in system.processes if each.name == "alone")
    process.signal(number)
    assert process.wait(10.0)
    process.start()


def assigned(proxy: tango.DeviceProxy) -> tuple[str, ...]:
    """Return what is assigned."""
    try:
        return proxy.read_attribute("assignedResources").value or ()
    except tango.DevFailed:
        return NOBODY


def finished(proxy: tango.DeviceProxy) -> dict[str, tuple[str, list[object]]]:
    """Return how the device's commands have ended, by their ids; empty while it is away."""
    try:
        entries = proxy.read_attribute("lrcFinished").value or ()
    except tango.DevFailed:
        return {}
    return {entry["uid"]: (entry["status"], entry["result"]) for entry in map(json.loads, entries)}
