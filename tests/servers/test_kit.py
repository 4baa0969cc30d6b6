"""The fault kit does what its table says, seen through its own fixtures and words."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import tango

from milonga.deploy import Topology
from milonga.lrc import Invocation, LrcDevice, Outcome
from milonga.testing import (
    FaultySystem,
    LeafHandle,
    assert_outcome,
    assert_tree,
    faulty_topology,
    outcome_word,
    tree_has,
)

from ..unit.testing.naive_tracker import NaiveTracker
from .outcomes import ended

pytest_plugins = ["milonga.testing.plugin"]


def topology() -> Topology:
    """Return what these tests run: two leaves, one of which may die alone."""
    return faulty_topology(leaves=2, servers={"mortal": [2]})


@pytest.mark.parametrize(
    ("script", "fault", "word", "text"),
    [
        ({"duration": 0.1, "steps": 2}, {}, "OK", "completed OK"),
        ({"outcome": "refused"}, {}, "REJECTED", "End was refused"),
        ({"outcome": "rejected"}, {}, "REJECTED", "End was rejected"),
        ({"outcome": "failed", "message": "no beam"}, {}, "FAILED", "no beam"),
        ({"outcome": "fault"}, {}, "BROKEN", "End failed"),
        ({}, {"raises": "no such thing"}, "REJECTED", "no such thing"),
        ({}, {"bug": "my bug"}, "BROKEN", "my bug"),
        ({"outcome": "never"}, {"forget": True}, "LOST", "does not know it any more"),
        ({}, {"hang_before_reply": 0.3}, "OK", ""),
        ({}, {"hang": 0.3}, "OK", ""),
    ],
)
def test_a_leaf_goes_wrong_as_it_is_told(
    faulty_leaves: dict[str, LeafHandle],
    script: dict[str, object],
    fault: dict[str, object],
    word: str,
    text: str,
) -> None:
    """Row 86: what the table in the how-to promises."""
    leaf = faulty_leaves["leaf-01"]
    leaf.does(End=script)
    leaf.suffers(End=fault)
    with LrcDevice(leaf.trl) as device:
        assert_outcome(device.start("End").wait(10.0), word, text=text)
    assert leaf.counts["End"] == 1


def test_a_leaf_lies_about_its_state(faulty_leaves: dict[str, LeafHandle]) -> None:
    """To whoever asks."""
    leaf = faulty_leaves["leaf-01"]
    leaf.suffers(state="FAULT")
    assert leaf.proxy.state() is tango.DevState.FAULT
    leaf.suffers()
    assert leaf.proxy.state() is not tango.DevState.FAULT


@pytest.mark.parametrize("crash", [{"crash": "start"}, {"crash_after": 0.2}, {"crash": "call"}])
def test_a_leaf_crashes_and_comes_back(
    milonga_system: FaultySystem,
    faulty_leaves: dict[str, LeafHandle],
    eventually: Callable[..., None],
    crash: dict[str, object],
) -> None:
    """With the whole process, and no word to anybody; the other server goes on."""
    leaf = faulty_leaves["leaf-02"]
    leaf.does(End={"outcome": "never"})
    leaf.suffers(End=crash)
    certain = crash == {"crash": "call"}  # else the answer may be on its way, or gone
    with pytest.raises(tango.DevFailed) if certain else suppress(tango.DevFailed):
        leaf.proxy.End()
    eventually(lambda: not milonga_system.server("mortal").running, what="the crash")
    assert milonga_system.server("leaves").running
    milonga_system.restart("mortal")
    assert milonga_system.leaf("leaf-02").counts.get("End", 0) == 0


def test_what_the_faults_may_be_is_told_to_who_mistypes(
    faulty_leaves: dict[str, LeafHandle],
) -> None:
    """Field, what was found, what is expected."""
    with pytest.raises(tango.DevFailed, match=r"events: found.*together; found 1\.2"):
        faulty_leaves["leaf-01"].suffers(events={"drop": 0.6, "double": 0.6})
    with pytest.raises(tango.DevFailed, match="abort: found 'shrug'"):
        faulty_leaves["leaf-01"].suffers(abort="shrug")


def test_the_words_for_trees_tell_what_is_wrong() -> None:
    """All nodes that differ, with their messages."""
    bad = {"name": "a", "status": "FAILED", "result_code": "FAILED", "message": "a/b/c: bug"}
    tree = {"name": "On", "status": "COMPLETED", "result_code": "FAILED", "partial": True}
    tree |= {"children": [bad]}
    assert_tree(tree, On="PARTIAL", a="BROKEN")
    assert tree_has(tree, status="FAILED") == [bad]
    with pytest.raises(AssertionError, match="a: expected OK, found BROKEN: a/b/c: bug\nb: "):
        assert_tree(tree, a="OK", b="OK")
    with pytest.raises(AssertionError, match="the command goes on"):
        assert_outcome(None)
    assert outcome_word({"status": "QUEUED", "result_code": "QUEUED"}) == "QUEUED"


# Planted defects: what somebody does not see who only listens


class NaiveClient:
    """Calls End at some leaves and believes its events, as one writes it on a quiet afternoon."""

    def __init__(self, *trls: str) -> None:
        self.ends: list[str] = []
        self.ended = threading.Event()
        self._called: dict[str, str] = {}  # by whom each command is run
        self._heard: set[str] = set()  # of which commands the end was heard
        self._ignored: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self.tracker = NaiveTracker("End", len(trls), self._told)
        self._proxies = [tango.DeviceProxy(trl) for trl in trls]
        self._ids = [
            proxy.subscribe_event("_lrcEvent", tango.EventType.CHANGE_EVENT, self._hear)
            for proxy in self._proxies
        ]

    @property
    def hears_all(self) -> bool:
        """Whether the end of some command was heard of each leaf."""
        with self._lock:
            heard = {self._called[uid] for uid in self._heard if uid in self._called}
        return len(heard) == len(self._proxies)

    def call(self) -> None:
        """Call End at all leaves."""
        for proxy in self._proxies:
            uid = proxy.End()[1][0]
            self._called[uid] = proxy.dev_name()

    def forget(self) -> None:
        """Begin anew, without news of what was called before."""
        with self._lock:
            self.ends.clear()
            self.ended.clear()
            self._ignored = frozenset(self._called)
            self.tracker = NaiveTracker("End", len(self._proxies), self._told)

    def close(self) -> None:
        """Listen no more."""
        for proxy, subscription in zip(self._proxies, self._ids, strict=True):
            proxy.unsubscribe_event(subscription)

    def _hear(self, event: tango.EventData) -> None:
        if event.err or len(event.attr_value.value or ()) != 2:
            return
        uid, text = event.attr_value.value
        if not uid.endswith("_End"):
            return
        news = json.loads(text)
        with self._lock:
            if uid not in self._ignored:
                self.tracker.update_task(task_name=uid, **news)
            if "result" in news:
                self._heard.add(uid)

    def _told(self, *, result: Any = None, **_: Any) -> None:
        if result is not None:
            self.ends.append(str(result[1]))
            self.ended.set()


@pytest.fixture
def naive(
    faulty_leaves: dict[str, LeafHandle], eventually: Callable[..., None]
) -> Iterator[NaiveClient]:
    """Give a naive client of both leaves, which hears them."""
    client = NaiveClient(*(leaf.trl for leaf in faulty_leaves.values()))

    def hears() -> bool:  # a publisher learns late of a new subscriber
        client.call()
        time.sleep(0.1)  # not to drown the leaves in calls
        return client.hears_all

    eventually(hears, what="events of both leaves")
    client.forget()
    yield client
    client.close()


def power(device: LrcDevice, system: FaultySystem) -> Invocation:
    """Call a power command that nobody refuses for being done already."""
    trls = (device.trl, *(system.trl(leaf) for leaf in ("leaf-01", "leaf-02")))
    states = {tango.DeviceProxy(trl).state() for trl in trls}  # a parent's may be a moment old
    leads_to = {
        "Standby": tango.DevState.STANDBY,
        "On": tango.DevState.ON,
        "Off": tango.DevState.OFF,
    }
    return device.invoke(next(name for name, state in leads_to.items() if state not in states))


def ours(system: FaultySystem) -> Outcome:
    """Return what becomes of a command to the same leaves at our parent."""
    with LrcDevice(system.trl("subarray-01")) as device:
        return ended(power(device, system))


def test_an_end_that_is_lost_is_found_by_who_looks(
    milonga_system: FaultySystem, faulty_leaves: dict[str, LeafHandle], naive: NaiveClient
) -> None:
    """Planted defect: whoever only listens waits without end."""
    leaf = faulty_leaves["leaf-01"]
    leaf.does(any={"duration": 0.1})
    leaf.suffers(events={"drop": 1.0})
    naive.call()

    assert_outcome(ours(milonga_system), "OK")

    assert leaf.counts["dropped"] > 0
    assert not naive.ended.is_set(), "the naive client should hang"


def test_an_end_that_is_doubled_is_not_taken_for_another(
    milonga_system: FaultySystem, faulty_leaves: dict[str, LeafHandle], naive: NaiveClient
) -> None:
    """Planted defect: whoever counts ends says OK before the leaf that fails has ended."""
    faulty_leaves["leaf-01"].suffers(events={"double": 1.0})
    failing = faulty_leaves["leaf-02"]
    failing.does(any={"duration": 3.0, "outcome": "failed", "message": "no power"})
    naive.call()
    assert naive.ended.wait(20.0)

    assert_outcome(ours(milonga_system), "FAILED", text="no power")

    assert naive.ends[0] == "End command completed OK", "the naive client should be taken in"


def test_a_command_that_dies_with_its_server_is_lost_for_who_looks(
    milonga_system: FaultySystem,
    faulty_leaves: dict[str, LeafHandle],
    naive: NaiveClient,
    eventually: Callable[..., None],
) -> None:
    """Planted defect: the new server knows nothing of it, and sends no event of its own."""
    leaf = faulty_leaves["leaf-02"]
    leaf.does(any={"duration": 30.0})
    naive.call()
    with LrcDevice(milonga_system.trl("subarray-01")) as device:
        call = power(device, milonga_system)
        parent = tango.DeviceProxy(device.trl)

        def is_taken() -> bool:
            tree = json.loads(parent.CommandTree(call.command_id))
            nodes = {node["name"]: node for node in tree["children"][0]["children"]}
            return nodes["leaf-02"]["command_id"] is not None

        eventually(is_taken, what="the answer of the leaf to the call")
        with suppress(tango.DevFailed):
            leaf.proxy.Crash()
        eventually(lambda: not milonga_system.server("mortal").running, what="the crash")
        milonga_system.restart("mortal")
        outcome = ended(call)

    assert_outcome(outcome, "LOST", text="faulty/leaf/02")
    assert not naive.ended.is_set(), "the naive client should hang"
