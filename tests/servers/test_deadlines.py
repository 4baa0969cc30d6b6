"""Deadlines from the client down to the leaf."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import tango

from milonga.lrc import Invocation, LrcDevice
from milonga.testing import FaultySystem, assert_outcome, assert_tree, faulty_topology

NEVER = {"outcome": "never"}
MARGIN = 0.25
"""Seconds that a parent keeps of the time that it gives to its children, by default."""


@pytest.fixture(scope="module")
def system() -> Iterator[FaultySystem]:
    """Run a subarray over two leaves."""
    with FaultySystem(faulty_topology(2, timeout=30.0)) as system:
        yield system


@pytest.fixture
def subarray(system: FaultySystem) -> Iterator[LrcDevice]:
    """Give the subarray, with healthy leaves."""
    for name in ("leaf-01", "leaf-02"):
        leaf = system.leaf(name)
        leaf.suffers()
        leaf.become_idle()
        leaf.does()
    with LrcDevice(system.trl("subarray-01")) as device:
        yield device
        for name in ("leaf-01", "leaf-02"):
            system.leaf(name).does()
        if tango.DeviceProxy(device.trl).obsState.name == "FAULT":
            device.invoke("Restart").wait(10.0)


def submit(device: LrcDevice, **request: object) -> Invocation:
    """Call a command by SubmitCommand."""
    return device.invoke("SubmitCommand", json.dumps(request))


def newest(system: FaultySystem, name: str, command: str) -> dict[str, Any]:
    """Return what a device says of the command of a name that ended last."""
    entries = map(json.loads, tango.DeviceProxy(system.trl(name)).lrcFinished)
    found: dict[str, Any] = [entry for entry in entries if entry["name"] == command][-1]
    return found


def test_a_limit_of_the_client_reaches_the_leaves_less_the_margin(
    system: FaultySystem, subarray: LrcDevice
) -> None:
    """Rows 31, 33: as a key of SubmitCommand, and in the leaf's own record."""
    system.leaf("leaf-02").does(any=NEVER)
    invocation = submit(subarray, command="AssignResources", argument={}, timeout=5.0)

    outcome = invocation.wait(20.0)

    assert_outcome(outcome, "BROKEN", text="faulty/leaf/02: timed out after ")
    assert outcome is not None
    assert re.search(r"timed out after [34]\.", outcome.message), outcome.message
    tree = json.loads(
        tango.DeviceProxy(system.trl("subarray-01")).CommandTree(invocation.command_id)
    )
    assert_tree(tree, AssignResources="TIMED_OUT", **{"leaf-01": "OK", "leaf-02": "TIMED_OUT"})
    last = newest(system, "leaf-02", "AssignResources")
    assert 3.0 < last["timeout"] <= 4.75
    assert last["status"] == "FAILED"


def test_a_leaf_that_runs_when_the_time_is_up_is_aborted(
    system: FaultySystem, subarray: LrcDevice, wait_until: Callable[..., None]
) -> None:
    """Rows 33, 34: it is asked by the id of its command, and the record says TIMED_OUT."""
    leaf = system.leaf("leaf-01")
    leaf.does(On=NEVER)
    leaf.suffers(On={"overrun": True})
    invocation = subarray.invoke("SubmitCommand", json.dumps({"command": "On", "timeout": 1.5}))

    outcome = invocation.wait(10.0)

    assert_outcome(outcome, "BROKEN", text="faulty/leaf/01: timed out after 1.")
    wait_until(lambda: leaf.counts.get("AbortCommand", 0) == 1)
    wait_until(lambda: not leaf.proxy.lrcExecuting)
    (entry,) = [one for one in map(json.loads, leaf.proxy.lrcFinished) if one["name"] == "On"]
    assert entry["status"] == "ABORTED"
    assert system.leaf("leaf-02").counts.get("AbortCommand", 0) == 0, "it had ended"
    device = tango.DeviceProxy(subarray.trl)
    record = json.loads(device.GetTask(invocation.command_id))
    assert (record["status"], record["cause"]) == ("FAILURE", "TIMED_OUT")
    group = json.loads(device.CommandTree(invocation.command_id))["children"][0]["name"]
    node = json.loads(device.GetTask(f"{invocation.command_id}/{group}/leaf-01"))
    assert (node["status"], node["cause"]) == ("FAILURE", "TIMED_OUT")


def test_a_limit_in_the_argument_is_taken_out_of_it(
    system: FaultySystem, subarray: LrcDevice
) -> None:
    """The key `lrc_timeout`, for clients that call the command by its own name."""
    system.leaf("leaf-01").does(any=NEVER)
    outcome = subarray.invoke("AssignResources", '{"lrc_timeout": 1.0}').wait(10.0)
    assert_outcome(outcome, "BROKEN", text="timed out after")


@pytest.mark.parametrize("seconds", [0, -1, 1e9, True, "5"])
def test_a_limit_that_is_none_is_refused(subarray: LrcDevice, seconds: object) -> None:
    """With what was found and what is expected."""
    proxy = tango.DeviceProxy(subarray.trl)
    request = {"command": "AssignResources", "argument": {}, "timeout": seconds}
    (code,), (text,) = proxy.SubmitCommand(json.dumps(request))
    assert code == 5
    assert "timeout: found" in text


def test_the_child_is_asked_once_more_before_a_deadline_is_missed(
    system: FaultySystem, subarray: LrcDevice
) -> None:
    """Row 22: the event of the end is lost, and the looks are too far apart to see it in time.

    It is tried again only if the leaf itself says that it ended too late.
    """
    leaf = system.leaf("leaf-01")
    leaf.does(AssignResources={"duration": 1.35})
    leaf.suffers(events={"drop": 1.0})
    request = {"command": "AssignResources", "argument": {}, "timeout": 2.0}

    def ended_too_late() -> bool:
        submitted = newest(system, "subarray-01", "AssignResources")["submitted_time"]
        finished = newest(system, "leaf-01", "AssignResources")["finished_time"]
        took = datetime.fromisoformat(finished) - datetime.fromisoformat(submitted)
        return took.total_seconds() > 2.0 - MARGIN - 0.05

    for _ in range(5):
        outcome = submit(subarray, **request).wait(20.0)
        assert outcome is not None
        if outcome.is_ok or not ended_too_late():
            break
        leaf.become_idle()
        assert_outcome(subarray.invoke("Restart").wait(20.0), "OK")
    assert_outcome(outcome, "OK")


def test_a_command_of_a_leaf_has_a_deadline_without_anybody_saying_so(
    system: FaultySystem, subarray: LrcDevice
) -> None:
    """The property CommandTimeout holds for devices without children as well."""
    leaf = system.leaf("leaf-02")
    before = leaf.proxy.get_property("CommandTimeout")
    leaf.proxy.put_property({"CommandTimeout": ["0.5"]})
    leaf.proxy.Init()
    try:
        leaf.does(any=NEVER)
        with LrcDevice(leaf.trl) as device:
            assert_outcome(device.invoke("End").wait(5.0), "BROKEN", text="timed out after 0.5 s")
            leaf.does()
            assert_outcome(device.invoke("End").wait(5.0), "OK")
    finally:
        leaf.proxy.put_property(before)
        leaf.proxy.Init()
