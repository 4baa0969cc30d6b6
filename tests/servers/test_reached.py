"""Commands that have worked only when the children's states say so as well."""

import json
import re
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
LIAR = "leaf-02"
FAULTY = {
    "command": ["{python}", "-m", "milonga.testing"],
    "tango_name": "milonga-faulty",
    "classes": ["FaultyLeaf"],
}
NEVER = "1970-01-01T00:00:00+00:00"
"""When a command started that did not."""

BOUND = 15.0
"""Seconds that the state of a leaf may lag behind its result."""

BOUND_OF_LIAR = 1.0
"""The same for the leaf that lies until its time is up."""

PATIENT = 30.0
"""Seconds after which a test gives up."""

MARGIN = 1.0
"""Seconds that each level leaves to the one above it, on a machine that may be slow."""

STOW = {"duration": 0.2, "state": "STANDBY"}
MAX_QUEUED = 4


def topology() -> Topology:
    """Return a controller over two subarrays with two leaves each."""
    leaf: dict[str, Any] = {
        "class": "FaultyLeaf",
        "server": "leaves",
        "script": {"Stow": STOW},
    }

    def until(name: str) -> dict[str, Any]:
        bound = BOUND_OF_LIAR if name == LIAR else BOUND
        return {"On": {"reached": ["ON"], "timeout": bound}, "Stow": {"reached": ["STANDBY"]}}

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
        "leaves": [
            leaf | {"name": name, "device": f"reached/leaf/{name[-2:]}", "until": until(name)}
            for name in LEAVES
        ],
        "servers": {"leaves": FAULTY},
        "command_map": {
            "controller": {
                "Standby": {"timeout": 5.0, "max_timeout": 14.0, "tasks": {"subarray": {}}},
                "Stow": {"safety": True, "tasks": {"subarray": {"trust_result": True}}},
            },
            "subarray": {
                "Standby": {"max_timeout": 8.0, "tasks": {"leaves": {"target": "*"}}},
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
    system.leaf(LIAR).suffers(state="STANDBY")

    with LrcDevice(system.trl("subarray-01")) as subarray:
        outcome = subarray.invoke("On").wait(PATIENT)

    assert_outcome(outcome, "BROKEN", text="reached/leaf/02: On was done by its result")
    assert outcome is not None
    assert re.search(r"but State is STANDBY \d+\.\d s later", outcome.message), outcome.message
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
        wait_until(lambda: [wait.get("until") for wait in waits()] == told)
        assert not invocation.is_done
        leaf.suffers()
        assert_outcome(invocation.wait(PATIENT), "OK")


def test_a_failure_is_not_held_back(system: FaultySystem) -> None:
    """What is no success needs no confirmation."""
    system.leaf("leaf-01").does(On={"outcome": "failed", "message": "no power"})
    with LrcDevice(system.trl("subarray-01")) as subarray:
        outcome = subarray.invoke("On").wait(PATIENT)
    assert_outcome(outcome, "FAILED", text="no power")
    assert outcome is not None
    assert outcome.seconds < BOUND


def test_an_abort_ends_the_wait_for_the_state(system: FaultySystem, wait_until: WaitUntil) -> None:
    """The leaf has nothing to abort any more, so nothing else would end it."""
    system.leaf("leaf-01").suffers(state="STANDBY")
    with LrcDevice(system.trl("subarray-01")) as subarray:
        invocation = subarray.invoke("On")
        wait_until(lambda: "until" in str(snapshot(system, "subarray-01")))
        invocation.abort()
        outcome = invocation.wait(PATIENT)
    assert_outcome(outcome, "ABORTED", text="State is STANDBY")


def test_a_dry_run_tells_what_confirms_a_command(system: FaultySystem) -> None:
    """Of each call."""
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    told = json.loads(proxy.DryRun('{"command": "On"}'))
    assert [call["until"] for call in told["calls"]] == ["State is ON", "State is ON"]


def running_at(proxy: tango.DeviceProxy) -> tuple[str, ...]:
    """Return the names of the commands that run at a device."""
    return tuple(proxy.longRunningCommandInProgress or ())


def has_started(proxy: tango.DeviceProxy, command: str, since: float = 0.0) -> bool:
    """Tell whether a device has started a command since a time, in seconds since 1970."""
    entries = [*(proxy.lrcExecuting or ()), *(proxy.lrcFinished or ())]
    return any(
        entry["name"] == command
        and datetime.fromisoformat(entry.get("started_time") or NEVER).timestamp() >= since
        for entry in map(json.loads, entries)
    )


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
        wait_until(lambda: all(running_at(leaf.proxy) == ("On",) for leaf in leaves))
        leaves[3].suffers(state="ON")  # not sooner, as On is not sent to a leaf that is ON already
        waiting = [controller.invoke("On") for _ in range(MAX_QUEUED)]
        with pytest.raises(CommandRejected, match="Input queue supports"):
            controller.invoke("Standby")

        called_at = time.time()
        stow = controller.invoke("Stow")
        # On never ends by itself, so whatever starts has overtaken it
        wait_until(lambda: all(has_started(leaf.proxy, "Stow", called_at) for leaf in leaves))
        interrupted = running.wait(PATIENT)

        assert_outcome(interrupted, "ABORTED", text=f"interrupted by Stow ({stow.command_id})")
        again = controller.invoke("Stow")
        wait_until(lambda: leaves[3].counts.get("Stow") == 1 and not leaves[3].proxy.lrcExecuting)
        assert not stow.is_done
        assert not any(one.is_done for one in waiting)
        leaves[3].suffers()
        outcome = stow.wait(PATIENT)

        assert_outcome(outcome, "OK", text=f"interrupted {running.command_id}; overtook 4 waiting")
        assert_outcome(again.wait(PATIENT), "OK", text="overtook 4 waiting")
        assert all(leaf.counts["Stow"] == 1 for leaf in leaves[:3])
        assert all(leaf.proxy.state() is tango.DevState.STANDBY for leaf in leaves)
        tango.DeviceProxy(controller.trl).Abort()
        assert all(one.wait(PATIENT) for one in waiting)
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
        system.leaf(name).does(any={"duration": 8.0}, Stow=STOW | {"safety": True})
    system.leaf("leaf-01").suffers(abort="ignore")  # so that the abort is over when it is given up
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    with LrcDevice(system.trl("subarray-01")) as subarray:
        subarray.invoke("On")
        wait_until(lambda: running_at(system.leaf("leaf-02").proxy) == ("On",))
        abort = subarray.invoke("Abort")
        system.leaf("leaf-02").suffers(state="ON")
        stow = subarray.invoke("Stow")
        # the tables have room for all of them
        wait_until(lambda: set(running_at(proxy)) == {"On", "Abort", "Stow"})
        system.leaf("leaf-02").suffers()
        outcome = stow.wait(PATIENT)
        assert_outcome(outcome, "OK", text="did not wait for an abort")
        assert abort.wait(PATIENT) is not None
        ends = {entry["uid"]: entry for entry in map(json.loads, proxy.lrcFinished)}
        assert ends[stow.command_id]["finished_time"] < ends[abort.command_id]["finished_time"]

        proxy.adminMode = "OFFLINE"
        outcome = subarray.invoke("Stow").wait(PATIENT)
        proxy.adminMode = "ONLINE"
    assert outcome is not None
    assert not outcome.is_ok
    assert "reached/leaf/02: communication with the child is not established" in outcome.message
    wait_until(lambda: proxy.state() not in {tango.DevState.UNKNOWN, tango.DevState.DISABLE})


def test_a_leaf_that_asks_for_more_time_gets_it_from_all_above(system: FaultySystem) -> None:
    """Row 32: from the subarray, which asks the controller for as much."""
    for name in LEAVES:
        system.leaf(name).does(Standby={"duration": 5.5, "extend": 6.0})
    with LrcDevice(system.trl("controller")) as controller:
        outcome = controller.invoke("Standby").wait(PATIENT)
    assert_outcome(outcome, "OK")
    assert outcome is not None
    assert outcome.seconds > 5.5


def test_a_leaf_that_asks_and_stays_silent_times_out_at_the_cap(system: FaultySystem) -> None:
    """That of the subarray, which is the lower one; its parent waits for it to say so."""
    system.leaf("leaf-02").does(Standby={"outcome": "never", "extend": 100.0})
    system.leaf("leaf-01").does(Standby={"outcome": "never"})
    with LrcDevice(system.trl("controller")) as controller:
        outcome = controller.invoke("Standby").wait(PATIENT)
    assert_outcome(outcome, "BROKEN", text="reached/leaf/02: timed out after 8 s")
    assert outcome is not None
    assert 8.0 <= outcome.seconds < 14.0


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
    request = json.dumps({"command": "Stow", "timeout": 6.0})
    with LrcDevice(system.trl("controller")) as controller:
        outcome = controller.invoke("SubmitCommand", request).wait(PATIENT)
    text = "reached/leaf/01: Stow was done by its result, but State is ON"
    assert_outcome(outcome, "BROKEN", text=text)


def test_a_client_that_says_what_it_expects_is_told_of_a_failure_as_well(
    system: FaultySystem, wait_until: WaitUntil
) -> None:
    """The State alone was enough before, although the device said that it had failed."""
    system.leaf("leaf-01").does(Reset={"outcome": "failed", "message": "no power"})
    leaf = system.leaf("leaf-01")
    leaf.proxy.On()
    wait_until(lambda: leaf.proxy.state() is tango.DevState.ON)  # before, Reset is not allowed
    until = Expectation("State", reached=("ON",), timeout=10.0)
    outcome = client.run(system.trl("leaf-01"), "Reset", until=until, timeout=10.0)
    assert_outcome(outcome, "FAILED", text="no power")
