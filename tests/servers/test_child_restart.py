"""A child's server dies or restarts in mid-command: found in seconds, told with names and times."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import tango

from milonga.control_model import TaskStatus
from milonga.lrc import LrcDevice
from milonga.lrc._looking import DEAD_AFTER
from milonga.testing import FaultySystem, faulty_topology

DEADLINE = 60.0
FOUND_WITHIN = 40.0
"""Seconds in which the loss of a child's server is found at the latest: before the deadline."""


@pytest.fixture(scope="module")
def system() -> Iterator[FaultySystem]:
    """Run a subarray over three leaves, two of which have servers of their own."""
    topology = faulty_topology(3, timeout=DEADLINE, servers={"mortal": [1], "hanging": [2]})
    with FaultySystem(topology) as system:
        yield system


@pytest.fixture
def subarray(system: FaultySystem) -> Iterator[LrcDevice]:
    """Give the subarray, with nothing under way."""
    with LrcDevice(system.trl("subarray-01")) as device:
        yield device
        device.invoke("Abort").wait(10.0)
        if tango.DeviceProxy(device.trl).obsState.name in {"ABORTED", "FAULT"}:
            device.invoke("Restart").wait(10.0)


def started_at(system: FaultySystem, name: str) -> str:
    """Return since when a device runs, in its own words."""
    return str(tango.DeviceProxy(system.trl(name)).startedAt)


def node(system: FaultySystem, uid: str | None, name: str) -> dict[str, object]:
    """Return the node of a leaf in the tree of a command of the subarray."""
    tree = json.loads(tango.DeviceProxy(system.trl("subarray-01")).CommandTree(uid))
    leaves = {child["name"]: child for child in tree["children"][0]["children"]}
    found: dict[str, object] = leaves[name]
    return found


def has_taken(system: FaultySystem, uid: str | None, name: str) -> bool:
    """Tell whether a leaf has answered the call: before, nobody can say that it was called."""
    return node(system, uid, name)["command_id"] is not None


def hangs(trl: str) -> bool:
    """Tell whether a device does not answer at once."""
    proxy = tango.DeviceProxy(trl)
    proxy.set_timeout_millis(300)
    try:
        proxy.state()
    except tango.DevFailed:
        return True
    return False


def test_a_server_that_restarts_in_mid_command_is_found_by_its_start(
    system: FaultySystem, subarray: LrcDevice, wait_until: Callable[..., None]
) -> None:
    """Rank 7: LOST with the device and both start times; the next command works."""
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    for _ in range(3):
        command = "Standby" if proxy.state() is tango.DevState.ON else "On"
        system.leaf("leaf-01").does(any={"outcome": "never"})
        before = started_at(system, "leaf-01")
        invocation = subarray.invoke(command)
        wait_until(partial(has_taken, system, invocation.command_id, "leaf-01"))
        killed = time.monotonic()
        system.kill("mortal")
        system.restart("mortal")
        seconds = time.monotonic() - killed
        outcome = invocation.wait(FOUND_WITHIN)
        system.leaf("leaf-01").does(any={})
        if seconds < DEAD_AFTER - 3.0:
            break  # else it counts as dead before it is there again, and there is one time to tell
    else:
        pytest.skip("this machine is too slow to restart a server within four seconds")

    assert outcome is not None
    assert outcome.status is TaskStatus.FAILED
    lost = node(system, invocation.command_id, "leaf-01")
    assert (lost["status"], lost["result_code"], lost["cause"]) == ("FAILED", "UNKNOWN", "LOST")
    text = str(lost["message"])
    assert text.startswith(f"faulty/leaf/01: {command} is lost: its server was started anew")
    assert before in text
    assert started_at(system, "leaf-01") in text
    again = subarray.invoke("Standby" if proxy.state() is tango.DevState.ON else "On").wait(20.0)
    assert again is not None
    assert again.is_ok
    if proxy.state() is tango.DevState.ON:
        assert subarray.invoke("Standby").wait(20.0)
    assert json.loads(proxy.lrcStatistics)["totals"]["restarts"] >= 1
    wait_until(lambda: json.loads(proxy.lrcStatistics)["totals"]["connected"] == 3)


def test_a_server_that_dies_is_found_before_the_deadline(
    system: FaultySystem, subarray: LrcDevice, wait_until: Callable[..., None]
) -> None:
    """Nobody listens where it was, so nobody waits as long as for one that hangs."""
    system.leaf("leaf-01").does(On={"outcome": "never"}, any={})
    invocation = subarray.invoke("On")
    wait_until(partial(has_taken, system, invocation.command_id, "leaf-01"))
    system.kill("mortal")

    outcome = invocation.wait(FOUND_WITHIN)

    assert outcome is not None
    assert node(system, invocation.command_id, "leaf-01")["cause"] == "LOST"
    assert "faulty/leaf/01: On is lost: no answer for" in outcome.message
    assert "from its server, started at" in outcome.message
    system.restart("mortal")
    again = subarray.invoke("AssignResources", "{}").wait(20.0)
    assert again is not None
    assert again.is_ok


def test_a_server_that_is_dead_at_the_deadline_is_lost_and_not_late(
    system: FaultySystem, subarray: LrcDevice, wait_until: Callable[..., None]
) -> None:
    """Also a deadline that comes before a dead server is found by its silence."""
    leaf = system.leaf("leaf-01")
    leaf.does(any={"outcome": "never"})
    leaf.suffers()
    since = started_at(system, "leaf-01")
    request = json.dumps({"command": "AssignResources", "argument": {}, "timeout": 6.0})
    invocation = subarray.invoke("SubmitCommand", request)
    wait_until(partial(has_taken, system, invocation.command_id, "leaf-01"))
    system.kill("mortal")

    outcome = invocation.wait(FOUND_WITHIN)

    assert outcome is not None
    lost = node(system, invocation.command_id, "leaf-01")
    assert lost["cause"] == "LOST"
    text = f"AssignResources is lost: no answer from its server, started at {since}"
    assert text in str(lost["message"])
    system.restart("mortal")


def test_a_child_that_says_nothing_is_stalled_before_it_is_lost(
    system: FaultySystem, subarray: LrcDevice, wait_until: Callable[..., None]
) -> None:
    """Rank 7: a visible flag, which goes when the child is heard of again."""
    leaf = system.leaf("leaf-02")
    leaf.does(AssignResources={"outcome": "never"}, any={})
    leaf.suffers(AssignResources={"hang": 9.0})
    invocation = subarray.invoke("AssignResources", "{}")
    proxy = tango.DeviceProxy(system.trl("subarray-01"))

    def stalled() -> list[str]:
        names: list[str] = json.loads(proxy.lrcStatistics)["stalled"]
        return names

    wait_until(lambda: stalled() == ["faulty/leaf/02"])
    assert node(system, invocation.command_id, "leaf-02")["stalled"] is True
    leaf.wait_until_it_answers()
    wait_until(lambda: stalled() == [])
    assert "stalled" not in node(system, invocation.command_id, "leaf-02")
    assert not invocation.is_done


def test_a_command_whose_call_was_not_answered_is_found_and_followed(
    system: FaultySystem, subarray: LrcDevice
) -> None:
    """The device took it after Tango's three seconds: it is neither failed nor forgotten."""
    leaf = system.leaf("leaf-02")
    leaf.wait_until_it_answers()
    leaf.become_idle()
    leaf.does(any={"duration": 0.2})
    leaf.suffers(AssignResources={"hang_before_reply": 4.0})
    invocation = subarray.invoke("AssignResources", "{}")

    outcome = invocation.wait(30.0)

    assert outcome is not None
    assert outcome.is_ok, outcome
    found = node(system, invocation.command_id, "leaf-02")
    entries = [json.loads(text) for text in leaf.proxy.lrcFinished]
    assert found["command_id"] == entries[-1]["uid"]


def test_a_command_whose_call_was_not_answered_is_found_and_aborted(
    system: FaultySystem, subarray: LrcDevice, wait_until: Callable[..., None]
) -> None:
    """Whoever gives up meanwhile: the Abort is bounded, and the wish reaches the device later."""
    leaf = system.leaf("leaf-02")
    leaf.does(any={"outcome": "never"})
    leaf.suffers(AssignResources={"hang_before_reply": 7.0})
    invocation = subarray.invoke("AssignResources", "{}")
    wait_until(partial(hangs, leaf.trl))  # so the call has reached it
    assert not invocation.is_done

    abort = subarray.invoke("Abort").wait(20.0)

    assert abort is not None
    assert "1 NO_ANSWER (faulty/leaf/02" in abort.message
    leaf.wait_until_it_answers()
    wait_until(lambda: leaf.counts.get("AbortCommand", 0) == 1)
    wait_until(lambda: not leaf.proxy.lrcExecuting)
    entry = json.loads(leaf.proxy.lrcFinished[-1])
    assert (entry["name"], entry["status"]) == ("AssignResources", "ABORTED")
    leaf.does()
