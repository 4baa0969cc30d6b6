"""An Abort reaches every child, says what each of them answered, and comes back in time."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import CommandRejected
from milonga.lrc import LrcDevice, child_device
from milonga.testing import FaultySystem, assert_outcome, faulty_topology

from .standing_still import standing_still

LEAVES = 16
REFUSES, HANGS, DEAD = "leaf-03", "leaf-07", "leaf-11"
LONG = {"any": {"duration": 30.0}}

BOUND = 5.0
"""Seconds in which an Abort has its final result."""

PATIENT = 30.0
"""Seconds after which a test gives up, where something else shows that it was in time."""

STALL = 0.3
"""Seconds for which a process must not stand still while a bound of the product is measured."""


@pytest.fixture(scope="module")
def system() -> Iterator[FaultySystem]:
    """Run two subarrays over sixteen leaves, three of which are processes of their own."""
    topology = faulty_topology(
        LEAVES // 2, subarrays=2, servers={"refuser": [3], "hanger": [7], "mortal": [11]}
    )
    with FaultySystem(topology) as system:
        yield system


def well_again(system: FaultySystem) -> None:
    """Give every leaf back its health, and a long work to do."""
    if not system.server("mortal").running:
        system.restart("mortal")
    for number in range(1, LEAVES + 1):
        leaf = system.leaf(f"leaf-{number:02d}")
        leaf.wait_until_it_answers()
        leaf.suffers()
        leaf.become_idle()
        leaf.suffers()  # to count from zero
        leaf.does(**LONG)
    end = time.monotonic() + 15.0
    while any(unconfirmed(system, name) for name in ("subarray-01", "subarray-02", "controller")):
        assert time.monotonic() < end, "what was given up is not seen to have ended"
        time.sleep(0.05)


def unconfirmed(system: FaultySystem, name: str) -> list[tuple[str, str]]:
    """Return what a parent has given up and may still run: devices and commands."""
    figures = json.loads(tango.DeviceProxy(system.trl(name)).lrcStatistics)
    return [(entry["device"], entry["command"]) for entry in figures["unconfirmed"]]


def record_of(system: FaultySystem, name: str, uid: str | None) -> dict[str, Any]:
    """Return what is written of a command."""
    record: dict[str, Any] = json.loads(tango.DeviceProxy(system.trl(name)).GetTask(uid))
    return record


def nodes_on_record(system: FaultySystem, uid: str | None) -> list[dict[str, Any]]:
    """Return what is written of the nodes right below a command of the controller."""
    wanted = json.dumps({"parentUid": uid, "rootsOnly": False})
    page = json.loads(tango.DeviceProxy(system.trl("controller")).QueryTasks(wanted))
    nodes: list[dict[str, Any]] = page["tasks"]
    return nodes


def tree_of(system: FaultySystem, name: str, uid: str | None) -> dict[str, Any]:
    """Return the tree of a command."""
    tree: dict[str, Any] = json.loads(tango.DeviceProxy(system.trl(name)).CommandTree(uid))
    return tree


def answers_in(tree: dict[str, Any]) -> dict[str, str]:
    """Return what each leaf at the bottom answered."""
    below = {key: value for child in tree["children"] for key, value in answers_in(child).items()}
    return below or ({tree["target"]: tree["abort"]} if "abort" in tree else {})


@contextmanager
def stalls() -> Iterator[list[float]]:
    """Collect the seconds for which this process stood still; there, a bound shows nothing."""
    found: list[float] = []
    over = threading.Event()

    def watch() -> None:
        before = time.monotonic()
        while not over.wait(0.01):
            now = time.monotonic()
            if now - before > STALL:
                found.append(now - before)
            before = now

    watcher = threading.Thread(target=watch, name="test-stalls")
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def everyone_has(system: FaultySystem, command: str, but: tuple[str, ...] = ()) -> bool:
    """Tell whether each leaf was called, but for those that cannot be asked."""
    names = {f"leaf-{number:02d}" for number in range(1, LEAVES + 1)} - set(but)
    return all(system.leaf(name).counts.get(command, 0) == 1 for name in names)


def test_an_abort_of_the_root_reaches_all_that_can_be_reached(
    system: FaultySystem, wait_until: Callable[..., None]
) -> None:
    """Rank 3: 13 ACK, 1 REFUSED, 1 NO_ANSWER, 1 UNREACHABLE, in under five seconds.

    It is tried again only if it took longer while the machine stood still.
    """
    for _ in range(5):
        with stalls() as found:
            seconds = abort_of_the_root(system, wait_until)
        if seconds < BOUND or not found:
            break
    assert seconds < BOUND


def abort_of_the_root(system: FaultySystem, wait_until: Callable[..., None]) -> float:
    """Abort the root once, and check all but the time that it took, which is returned."""
    well_again(system)
    system.leaf(REFUSES).suffers(abort="refuse")
    system.leaf(HANGS).suffers(On={"hang": 15.0})
    system.leaf("leaf-01").does(On={"duration": 30.0}, any={"duration": 0.3})
    with LrcDevice(system.trl("controller")) as root, LrcDevice(system.trl("leaf-01")) as leaf:
        running = root.invoke("On")
        wait_until(lambda: everyone_has(system, "On", but=(HANGS,)))
        others = [leaf.invoke("Configure", "{}"), leaf.invoke("End")]
        system.kill("mortal")

        outcome = root.invoke("Abort").wait(PATIENT)

        assert outcome is not None
        assert (outcome.status, outcome.result_code) == (TaskStatus.COMPLETED, ResultCode.FAILED)
        assert outcome.message.startswith("13 ACK, 1 REFUSED (faulty/leaf/03: no abort here")
        assert "1 NO_ANSWER (faulty/leaf/07" in outcome.message
        assert "1 UNREACHABLE (faulty/leaf/11" in outcome.message
        answers = answers_in(tree_of(system, "controller", outcome.command_id))
        assert Counter(answers.values()) == Counter(
            {"ACK": 13, "REFUSED": 1, "NO_ANSWER": 1, "UNREACHABLE": 1}
        )
        ended = running.wait(PATIENT)
        assert ended is not None
        assert ended.status is TaskStatus.ABORTED
        for number in {*range(1, LEAVES + 1)} - {7, 11}:
            assert system.leaf(f"leaf-{number:02d}").counts["AbortCommand"] == 1
        for other in others:  # commands that nobody named
            done = other.wait(PATIENT)
            assert done is not None
            assert done.is_ok
        return outcome.seconds


def test_a_second_abort_joins_the_first(
    system: FaultySystem, wait_until: Callable[..., None]
) -> None:
    """Neither is refused, nobody is asked twice, and all end with the same result and tree."""
    well_again(system)
    with LrcDevice(system.trl("controller")) as root:
        root.invoke("On")
        wait_until(lambda: everyone_has(system, "On"))

        with standing_still(system.server("hanger")):  # so that the first is not over yet
            aborts = [root.invoke("Abort") for _ in range(3)]

        outcomes = [abort.wait(PATIENT) for abort in aborts]
    assert [outcome.is_ok for outcome in outcomes if outcome is not None] == [True] * 3
    assert {outcome.message for outcome in outcomes if outcome} == {"Abort completed OK"}
    trees = [tree_of(system, "controller", abort.command_id) for abort in aborts]
    assert Counter(answers_in(trees[0]).values()) == Counter({"ACK": LEAVES})
    assert trees[1:] == [trees[0]] * 2
    assert system.leaf("leaf-05").counts["AbortCommand"] == 1
    records = [record_of(system, "controller", abort.command_id) for abort in aborts]
    assert [len(nodes_on_record(system, abort.command_id)) for abort in aborts] == [2, 0, 0]
    first = aborts[0].command_id
    for record in records[1:]:
        assert record["message"] == f"Abort completed OK; joined {first}"


@pytest.mark.parametrize(
    "faults", [{"abort": "take"}, {"abort": "ignore"}], ids=["takes", "ignores"]
)
def test_a_leaf_is_readable_and_ends_whatever_is_aborted_however_often(
    system: FaultySystem, faults: dict[str, Any], wait_until: Callable[..., None]
) -> None:
    """A device without children, with a job that obeys or does not, and an operator in a hurry."""
    well_again(system)
    leaf = system.leaf("leaf-06")
    leaf.suffers(**faults)
    with LrcDevice(leaf.trl) as device:
        device.invoke("On")
        wait_until(lambda: leaf.proxy.lrcExecuting)

        aborts = [device.invoke("Abort") for _ in range(6)]

        assert len(leaf.proxy.lrcExecuting) <= 3
        assert len(leaf.proxy.longRunningCommandInProgress) <= 2
        outcomes = [abort.wait(PATIENT) for abort in aborts]
        if faults["abort"] == "take":
            assert {outcome.message for outcome in outcomes if outcome} == {"Abort completed OK"}
        else:
            text = "On did not confirm the abort within 4.5 s, and may go on"
            assert [outcome.message for outcome in outcomes if outcome] == [text] * 6
        leaf.does()
        assert_outcome(device.invoke("End").wait(PATIENT), "OK")


def test_an_abort_overtakes_a_full_queue(
    system: FaultySystem, wait_until: Callable[..., None]
) -> None:
    """What waits ends without having begun; the Abort waits for nobody."""
    well_again(system)
    with LrcDevice(system.trl("subarray-01")) as device:
        running = device.invoke("On")
        waiting = [device.invoke("Standby") for _ in range(32)]
        with pytest.raises(CommandRejected):
            device.invoke("Standby")
        wait_until(lambda: system.leaf("leaf-01").counts.get("On", 0) == 1)

        outcome = device.invoke("Abort").wait(BOUND)

        assert outcome is not None
        assert outcome.is_ok
        for invocation in (running, *waiting):
            ended = invocation.wait(BOUND)
            assert ended is not None
            assert ended.status is TaskStatus.ABORTED
    assert system.leaf("leaf-01").counts.get("Standby", 0) == 0


def test_one_command_is_aborted_by_its_id_and_says_who_did_not_obey(
    system: FaultySystem, wait_until: Callable[..., None]
) -> None:
    """A leaf that ignores the abort is given up after the patience, by name."""
    well_again(system)
    leaf = system.leaf("leaf-02")
    leaf.does(any={"duration": 12.0})
    leaf.suffers(abort="ignore")
    with LrcDevice(system.trl("subarray-01")) as device:
        running = device.invoke("On")
        wait_until(lambda: leaf.counts.get("On", 0) == 1)
        running.abort()

        outcome = running.wait(PATIENT)

        assert outcome is not None
        assert outcome.status is TaskStatus.ABORTED
        assert "faulty/leaf/02: did not confirm the abort within" in outcome.message
        answers = answers_in(tree_of(system, "subarray-01", running.command_id))
        assert answers.pop("faulty/leaf/02") == "NO_ANSWER", "it took the abort, and went on"
        assert set(answers.values()) == {"ACK"}
        assert unconfirmed(system, "subarray-01") == [("faulty/leaf/02", "On")]

        # it ends by itself in a while, and until then no Abort says that all is over
        for _ in range(6):
            goes_on = leaf.proxy.lrcExecuting
            outcome = device.invoke("Abort").wait(PATIENT)
            assert outcome is not None
            if outcome.is_ok:
                break
            assert goes_on, outcome
        assert_outcome(outcome, "OK", text="Abort completed OK")
        assert unconfirmed(system, "subarray-01") == []
        assert not leaf.proxy.lrcExecuting


@pytest.mark.parametrize("above", ["subarray-01", "controller"])
def test_an_abort_asks_again_what_an_earlier_one_could_not_end(
    system: FaultySystem, wait_until: Callable[..., None], above: str
) -> None:
    """No Abort is OK while a leaf still runs our command, at whatever level it is given."""
    well_again(system)
    leaf = system.leaf(REFUSES)
    leaf.suffers(abort="refuse")
    with LrcDevice(system.trl(above)) as device:
        device.invoke("Standby")
        wait_until(lambda: leaf.counts.get("Standby", 0) == 1)

        for _ in range(2):
            outcome = device.invoke("Abort").wait(BOUND)
            assert_outcome(outcome, "FAILED", text="1 REFUSED (faulty/leaf/03: ")
        assert outcome is not None
        assert "Standby may still run: no abort here" in outcome.message
        assert leaf.proxy.lrcExecuting
        assert unconfirmed(system, "subarray-01") == [("faulty/leaf/03", "Standby")]

        leaf.suffers()
        outcome = device.invoke("Abort").wait(BOUND)

        assert_outcome(outcome, "OK", text="Abort completed OK")
        assert not leaf.proxy.lrcExecuting
        assert unconfirmed(system, "subarray-01") == []


@pytest.mark.parametrize("allowed", [True, False], ids=["alone", "shared"])
@pytest.mark.parametrize("fault", ["refuse-one", "refuse"])
def test_a_child_that_serves_nobody_else_may_be_told_to_abort_all(
    system: FaultySystem, wait_until: Callable[..., None], fault: str, *, allowed: bool
) -> None:
    """Row 41: by the command's id, then all, then given up with what was said to both."""
    well_again(system)
    leaf = system.leaf("leaf-08")
    leaf.suffers(abort=fault)
    told: dict[str, object] = {}
    device = child_device(leaf.trl, abort_all=allowed)
    try:
        running = device.start("On", on_update=lambda **news: told.update(news), signs=True)
        wait_until(lambda: leaf.proxy.lrcExecuting)
        running.abort()
        wait_until(lambda: "abort_ack" in told)

        ends = allowed and fault == "refuse-one"
        said = {
            (True, "refuse-one"): "AbortCommand: no abort here; took Abort",
            (True, "refuse"): "AbortCommand: no abort here; Abort: no abort here",
        }.get((allowed, fault), "no abort here")
        assert told["abort_ack"] == ("ACK" if ends else "REFUSED")
        assert told["abort_text"] == said
        assert leaf.counts.get("Abort", 0) == int(allowed)
        if ends:
            outcome = running.wait(5.0)
            assert outcome is not None
            assert outcome.status is TaskStatus.ABORTED
        else:
            assert leaf.proxy.lrcExecuting
    finally:
        device.close()


def test_an_abort_with_nothing_to_abort_is_done_at_once(system: FaultySystem) -> None:
    """It asks nobody, as nothing of the device runs anywhere; the words are those of the SKA."""
    well_again(system)
    with LrcDevice(system.trl("controller")) as root:
        outcome = root.invoke("Abort").wait(BOUND)
    assert outcome is not None
    assert (outcome.result_code, outcome.message) == (ResultCode.OK, "Abort completed OK")
    assert "AbortCommand" not in system.leaf("leaf-01").counts
    assert "Abort" not in system.leaf("leaf-01").counts


def test_an_abort_brings_the_subarrays_below_to_aborted(system: FaultySystem) -> None:
    """Also one that does nothing: this is what Abort means for a subarray."""
    well_again(system)
    subarray = tango.DeviceProxy(system.trl("subarray-01"))
    for number in range(1, LEAVES // 2 + 1):
        system.leaf(f"leaf-{number:02d}").does()
    with LrcDevice(system.trl("subarray-01")) as device:
        assigned = device.invoke("AssignResources", "{}").wait(10.0)
        assert assigned is not None
        assert assigned.is_ok

        with LrcDevice(system.trl("controller")) as root:
            outcome = root.invoke("Abort").wait(BOUND)

        assert outcome is not None
        assert outcome.is_ok
        assert subarray.obsState.name == "ABORTED"
        device.invoke("Restart").wait(10.0)
