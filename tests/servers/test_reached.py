"""Commands that have worked only when the children's states say so as well."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import tango

from milonga.deploy import Topology
from milonga.errors import CommandRejected
from milonga.lrc import Expectation, LrcDevice, client
from milonga.testing import FaultySystem, assert_outcome

WaitUntil = Callable[..., None]

LEAVES = [f"leaf-{number:02d}" for number in range(1, 5)]
FAULTY = {
    "command": ["{python}", "-m", "milonga.testing"],
    "tango_name": "milonga-faulty",
    "classes": ["FaultyLeaf"],
}
BOUND = 1.0
"""Seconds that the state of a leaf may lag behind its result."""

MARGIN = 0.5
"""Seconds that each level leaves to the one above it, on a machine that may be slow."""

STOW = {"duration": 0.2, "state": "STANDBY"}
MAX_QUEUED = 4


def topology() -> Topology:
    """Return a controller over two subarrays with two leaves each."""
    leaf: dict[str, Any] = {
        "class": "FaultyLeaf",
        "server": "leaves",
        "until": {
            "On": {"reached": ["ON"], "timeout": BOUND},
            "Stow": {"reached": ["STANDBY"]},
        },
        "script": {"Stow": STOW},
    }
    text = {
        "name": "reached",
        "defaults": {"timeout": 20.0, "max_queued": MAX_QUEUED},
        "controller": {
            "device": "reached/control/0",
            "server": "parents",
            "properties": {"DeadlineMargin": MARGIN},
        },
        "subarrays": [
            {
                "properties": {"DeadlineMargin": MARGIN},
                "device": f"reached/subarray/{number:02d}",
                "id": number,
                "server": "parents",
                "children": LEAVES[2 * number - 2 : 2 * number],
            }
            for number in (1, 2)
        ],
        "leaves": [leaf | {"name": name, "device": f"reached/leaf/{name[-2:]}"} for name in LEAVES],
        "servers": {"leaves": FAULTY},
        "command_map": {
            "controller": {
                "Standby": {"timeout": 1.2, "max_timeout": 3.0, "tasks": {"subarray": {}}},
                "Stow": {"safety": True, "tasks": {"subarray": {"trust_result": True}}},
            },
            "subarray": {
                "Standby": {"max_timeout": 2.0, "tasks": {"leaves": {"target": "*"}}},
                "Stow": {"safety": True, "tasks": {"leaves": {"target": "*"}}},
            },
        },
    }
    return Topology.from_text(json.dumps(text))


@pytest.fixture(scope="module")
def running() -> Iterator[FaultySystem]:
    """Run the system."""
    with FaultySystem(topology()) as system:
        yield system


@pytest.fixture
def system(running: FaultySystem, wait_until: WaitUntil) -> FaultySystem:
    """Give the system, switched off, with leaves that are healthy and do nothing."""
    for name in LEAVES:
        leaf = running.leaf(name)
        leaf.suffers()
        leaf.become_idle()
        leaf.does()
        if leaf.proxy.state() is not tango.DevState.OFF:
            leaf.proxy.Off()
            wait_until(lambda leaf=leaf: leaf.proxy.state() is tango.DevState.OFF)
    for name in ("subarray-01", "subarray-02", "controller"):
        proxy = tango.DeviceProxy(running.trl(name))
        # its first state is that of its children, whatever a test makes of that meanwhile
        wait_until(lambda proxy=proxy: proxy.state() is not tango.DevState.UNKNOWN)
        with LrcDevice(running.trl(name)) as device:
            if proxy.state() is not tango.DevState.OFF:
                device.start("Off").wait(10.0)  # which it refuses if it has just gone there
            wait_until(lambda proxy=proxy: proxy.state() is tango.DevState.OFF)
    return running


def snapshot(system: FaultySystem, device: str) -> dict[str, Any]:
    """Return the newest command in the task tree of a device."""
    document = json.loads(tango.DeviceProxy(system.trl(device)).taskTree)
    return dict(document["commands"][-1])


def test_a_leaf_that_lies_about_its_state_fails_the_command(system: FaultySystem) -> None:
    """Row 21: its result says that it is done, and its State that it is not."""
    system.leaf("leaf-02").suffers(state="STANDBY")

    with LrcDevice(system.trl("subarray-01")) as subarray:
        outcome = subarray.invoke("On").wait(10.0)

    assert_outcome(outcome, "BROKEN", text="reached/leaf/02: On was done by its result")
    assert outcome is not None
    assert "but State is STANDBY 1." in outcome.message
    assert outcome.message.count("expected ON") == 1


def test_the_end_waits_for_the_state_and_says_so(
    system: FaultySystem, wait_until: WaitUntil
) -> None:
    """The task tree names what is waited for; it is read, as the leaf tells no event of it."""
    leaf = system.leaf("leaf-01")
    leaf.suffers(state="STANDBY")
    with LrcDevice(system.trl("subarray-01")) as subarray:
        invocation = subarray.invoke("On")

        def waits() -> list[dict[str, Any]]:
            return list(snapshot(system, "subarray-01").get("waits_for", ()))

        told = ["State is ON, not STANDBY"]
        wait_until(lambda: [wait.get("until") for wait in waits()] == told, BOUND)
        assert not invocation.is_done
        leaf.suffers()
        assert_outcome(invocation.wait(10.0), "OK")


def test_a_failure_is_not_held_back(system: FaultySystem) -> None:
    """What is no success needs no confirmation."""
    system.leaf("leaf-01").does(On={"outcome": "failed", "message": "no power"})
    with LrcDevice(system.trl("subarray-01")) as subarray:
        outcome = subarray.invoke("On").wait(10.0)
    assert_outcome(outcome, "FAILED", text="no power")
    assert outcome is not None
    assert outcome.seconds < BOUND


def test_an_abort_ends_the_wait_for_the_state(system: FaultySystem, wait_until: WaitUntil) -> None:
    """The leaf has nothing to abort any more, so nothing else would end it."""
    system.leaf("leaf-01").suffers(state="STANDBY")
    with LrcDevice(system.trl("subarray-01")) as subarray:
        invocation = subarray.invoke("On")
        wait_until(lambda: "until" in str(snapshot(system, "subarray-01")), BOUND)
        invocation.abort()
        outcome = invocation.wait(10.0)
    assert_outcome(outcome, "ABORTED", text="State is STANDBY")


def test_a_dry_run_tells_what_confirms_a_command(system: FaultySystem) -> None:
    """Of each call."""
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    told = json.loads(proxy.DryRun('{"command": "On"}'))
    assert [call["until"] for call in told["calls"]] == ["State is ON", "State is ON"]


def running_at(proxy: tango.DeviceProxy) -> tuple[str, ...]:
    """Return the names of the commands that run at a device."""
    return tuple(proxy.longRunningCommandInProgress or ())


def started_at(proxy: tango.DeviceProxy, command: str) -> float | None:
    """Return when a command that runs at a device has started, in seconds since 1970."""
    for entry in map(json.loads, proxy.lrcExecuting or ()):
        if entry["name"] == command:
            return datetime.fromisoformat(entry["started_time"]).timestamp()
    return None


def test_a_safety_command_overtakes_everything_and_ends_when_it_is_reached(
    system: FaultySystem, wait_until: WaitUntil
) -> None:
    """Row 48: full queues, a command that runs and never ends, and a leaf that lies."""
    leaves = [system.leaf(name) for name in LEAVES]
    for number, leaf in enumerate(leaves):
        stow = STOW | {"duration": 1.0, "safety": number % 2 == 0}  # not all leaves know of safety
        leaf.does(any={"outcome": "never"}, Stow=stow)
    with LrcDevice(system.trl("controller")) as controller:
        running = controller.invoke("On")
        wait_until(lambda: all(started_at(leaf.proxy, "On") for leaf in leaves))
        leaves[3].suffers(state="ON")  # not sooner, as On is not sent to a leaf that is ON already
        waiting = [controller.invoke("On") for _ in range(MAX_QUEUED)]
        with pytest.raises(CommandRejected, match="Input queue supports"):
            controller.invoke("Standby")

        called_at = time.time()
        stow = controller.invoke("Stow")
        wait_until(lambda: all(started_at(leaf.proxy, "Stow") for leaf in leaves), 5.0)
        starts = [started_at(leaf.proxy, "Stow") for leaf in leaves]
        assert max(start or 0.0 for start in starts) - called_at < 1.0
        interrupted = running.wait(10.0)

        assert_outcome(interrupted, "ABORTED", text=f"interrupted by Stow ({stow.command_id})")
        again = controller.invoke("Stow")
        wait_until(lambda: leaves[3].counts.get("Stow") == 1 and not leaves[3].proxy.lrcExecuting)
        assert not stow.is_done
        assert not any(one.is_done for one in waiting)
        leaves[3].suffers()
        outcome = stow.wait(10.0)

        assert_outcome(outcome, "OK", text=f"interrupted {running.command_id}; overtook 4 waiting")
        assert_outcome(again.wait(10.0), "OK", text="overtook 4 waiting")
        assert all(leaf.counts["Stow"] == 1 for leaf in leaves[:3])
        assert all(leaf.proxy.state() is tango.DevState.STANDBY for leaf in leaves)
        tango.DeviceProxy(controller.trl).Abort()
        assert all(one.wait(10.0) for one in waiting)
        record = json.loads(tango.DeviceProxy(controller.trl).GetTask(stow.command_id))
        assert record["data"]["bypass"] == {
            "interrupted": [running.command_id],
            "overtook": [one.command_id for one in waiting],
        }


def test_a_safety_command_is_not_refused_for_an_abort_or_the_admin_mode(
    system: FaultySystem, wait_until: WaitUntil
) -> None:
    """As Abort itself; while nobody may be talked to, its result names all who were not reached."""
    for name in LEAVES:
        system.leaf(name).does(any={"duration": 2.0}, Stow=STOW | {"safety": True})
    system.leaf("leaf-01").suffers(abort="ignore")
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    with LrcDevice(system.trl("subarray-01")) as subarray:
        subarray.invoke("On")
        wait_until(lambda: started_at(system.leaf("leaf-02").proxy, "On") is not None)
        abort = subarray.invoke("Abort")
        system.leaf("leaf-02").suffers(state="ON")
        stow = subarray.invoke("Stow")
        # the tables have room for all of them
        wait_until(lambda: set(running_at(proxy)) == {"On", "Abort", "Stow"})
        system.leaf("leaf-02").suffers()
        outcome = stow.wait(15.0)
        assert not abort.is_done
        assert_outcome(outcome, "OK", text="did not wait for an abort")
        abort.wait(10.0)

        proxy.adminMode = "OFFLINE"
        outcome = subarray.invoke("Stow").wait(10.0)
        proxy.adminMode = "ONLINE"
    assert outcome is not None
    assert not outcome.is_ok
    assert "reached/leaf/02: communication with the child is not established" in outcome.message
    wait_until(lambda: proxy.state() not in {tango.DevState.UNKNOWN, tango.DevState.DISABLE})


def test_a_leaf_that_asks_for_more_time_gets_it_from_all_above(system: FaultySystem) -> None:
    """Row 32: from the subarray, which asks the controller for as much."""
    for name in LEAVES:
        system.leaf(name).does(Standby={"duration": 1.3, "extend": 1.5})
    with LrcDevice(system.trl("controller")) as controller:
        outcome = controller.invoke("Standby").wait(10.0)
    assert_outcome(outcome, "OK")
    assert outcome is not None
    assert outcome.seconds > 1.3


def test_a_leaf_that_asks_and_stays_silent_times_out_at_the_cap(system: FaultySystem) -> None:
    """That of the subarray, which is the lower one; its parent waits for it to say so."""
    system.leaf("leaf-02").does(Standby={"outcome": "never", "extend": 100.0})
    system.leaf("leaf-01").does(Standby={"outcome": "never"})
    with LrcDevice(system.trl("controller")) as controller:
        invocation = controller.invoke("Standby")
        outcome = invocation.wait(10.0)
    assert_outcome(outcome, "BROKEN", text="reached/leaf/02: timed out after 2 s")
    assert outcome is not None
    assert 2.0 <= outcome.seconds < 3.0


def test_what_became_of_each_child_is_an_attribute_and_in_the_record(
    system: FaultySystem, wait_until: WaitUntil
) -> None:
    """Row 18: with code and message, where the result of the command is one text."""
    system.leaf("leaf-02").does(Reset={"outcome": "failed", "message": "no power"})
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    told: list[dict[str, Any]] = []

    def listen(event: tango.EventData) -> None:
        if not event.err:
            told.append(json.loads(event.attr_value.value))

    subscription = proxy.subscribe_event("lastOutcomes", tango.EventType.CHANGE_EVENT, listen)
    try:
        with LrcDevice(system.trl("subarray-01")) as subarray:
            for command in ("On", "Reset"):
                invocation = subarray.invoke(command)
                assert invocation.wait(10.0) is not None
        wait_until(lambda: told[-1].get("command_id") == invocation.command_id)
    finally:
        proxy.unsubscribe_event(subscription)

    last = json.loads(proxy.lastOutcomes)
    assert told[-1] == last
    assert (last["status"], last["result_code"], last["partial"]) == ("COMPLETED", "FAILED", True)
    rows = [(one["target"], one["result_code"], one["message"]) for one in last["outcomes"]]
    assert rows == [
        ("reached/leaf/01", "OK", "completed"),
        ("reached/leaf/02", "FAILED", "reached/leaf/02: no power"),
    ]
    record = json.loads(proxy.GetTask(invocation.command_id))
    assert record["data"]["outcomes"] == last["outcomes"]

    with LrcDevice(system.trl("subarray-01")) as subarray:
        assert_outcome(subarray.invoke("Abort").wait(10.0), "OK")
    assert json.loads(proxy.lastOutcomes)["command"] == "Abort"


def test_the_leaf_that_is_not_there_in_time_is_named_at_the_top(system: FaultySystem) -> None:
    """Those below get the time that is left, less a margin, also for commands of their own."""
    system.leaf("leaf-01").does(Stow=STOW)
    system.leaf("leaf-01").suffers(state="ON")
    request = json.dumps({"command": "Stow", "timeout": 4.0})
    with LrcDevice(system.trl("controller")) as controller:
        outcome = controller.invoke("SubmitCommand", request).wait(10.0)
    text = "reached/leaf/01: Stow was done by its result, but State is ON"
    assert_outcome(outcome, "BROKEN", text=text)


def test_a_client_that_says_what_it_expects_is_told_of_a_failure_as_well(
    system: FaultySystem,
) -> None:
    """The State alone was enough before, although the device said that it had failed."""
    system.leaf("leaf-01").does(Reset={"outcome": "failed", "message": "no power"})
    system.leaf("leaf-01").proxy.On()
    until = Expectation("State", reached=("ON",), timeout=10.0)
    outcome = client.run(system.trl("leaf-01"), "Reset", until=until, timeout=10.0)
    assert_outcome(outcome, "FAILED", text="no power")
