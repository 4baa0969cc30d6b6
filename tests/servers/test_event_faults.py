"""Events that are lost, doubled, late and out of order change no result, and are counted."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.lrc import Invocation, LrcDevice
from milonga.testing import (
    FaultySystem,
    LeafHandle,
    assert_outcome,
    faulty_topology,
    outcome_word,
)

LEAVES = 16
COMMANDS = 500
EVENTS = {"drop": 0.2, "double": 0.2, "delay": 0.2, "delay_seconds": 3.0, "reorder": 0.2}
FAULTS = ("dropped", "doubled", "delayed", "reordered")

SCRIPT: dict[str, dict[str, object]] = {
    "Configure": {"steps": 3, "duration": 0.02},
    "Scan": {"outcome": "failed", "message": "no beam"},
    "EndScan": {"outcome": "rejected"},
    "End": {"outcome": "fault", "message": "bug"},
}
RESULTS = {
    "Configure": (TaskStatus.COMPLETED, ResultCode.OK, "Configure command completed OK"),
    "Scan": (TaskStatus.COMPLETED, ResultCode.FAILED, "no beam"),
    "EndScan": (TaskStatus.REJECTED, ResultCode.REJECTED, "EndScan was rejected"),
    "End": (TaskStatus.FAILED, ResultCode.FAILED, "bug"),
}
ARGUMENTS = {"Configure": "{}", "Scan": "{}"}


@pytest.fixture(scope="module")
def system() -> Iterator[FaultySystem]:
    """Run a subarray over sixteen leaves."""
    with FaultySystem(faulty_topology(LEAVES)) as system:
        yield system


def names() -> list[str]:
    """Return the names of the leaves."""
    return [f"leaf-{number:02d}" for number in range(1, LEAVES + 1)]


class Finals:
    """Counts how often each command was told to have ended."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def listener(self, number: int) -> Callable[..., None]:
        """Return what a command tells its news."""

        def told(**news: object) -> None:
            status = news.get("status")
            self.counts[number] += isinstance(status, TaskStatus) and is_final(status)

        return told


class Arrivals:
    """What came of a leaf's events, in the order in which it came."""

    def __init__(self, trl: str, stack: ExitStack) -> None:
        self.events: list[tuple[str, str]] = []
        proxy = tango.DeviceProxy(trl)
        kind = tango.EventType.CHANGE_EVENT
        subscription = proxy.subscribe_event("_lrcEvent", kind, self._take)
        stack.callback(proxy.unsubscribe_event, subscription)

    def _take(self, event: tango.EventData) -> None:
        if not event.err and len(event.attr_value.value or ()) == 2:
            self.events.append(tuple(event.attr_value.value))

    def out_of_order(self) -> int:
        """Count what came after something that it should have come before; doubles do not count."""
        latest: dict[str, tuple[int, float]] = {}
        count = 0
        for uid, text in dict.fromkeys(self.events):
            news = json.loads(text)
            status, progress = latest.get(uid, (0, 0.0))
            new_status, new_progress = news.get("status"), news.get("progress", 0.0)
            if new_status is None:
                count += new_progress < progress or status > TaskStatus.IN_PROGRESS
            else:
                count += new_status < status
            latest[uid] = max(status, new_status or 0), max(progress, new_progress)
        return count


def warm(device: LrcDevice, wait_until: Callable[..., None]) -> None:
    """Wait until events come: a publisher learns late of a new subscriber."""

    def is_heard() -> bool:
        before = device.statistics()["events"]
        device.invoke("EndScan").wait(5.0)
        return device.statistics()["events"] > before

    wait_until(is_heard)


def test_five_hundred_commands_have_the_right_results(
    system: FaultySystem, wait_until: Callable[..., None]
) -> None:
    """Rank 6: 500 right results, no hang, one final write each, counters as injected."""
    finals = Finals()
    with ExitStack() as stack:
        devices = [stack.enter_context(LrcDevice(system.trl(name))) for name in names()]
        leaves = [system.leaf(name) for name in names()]
        before: list[dict[str, int]] = []
        arrivals: list[Arrivals] = []
        for number, (device, leaf) in enumerate(zip(devices, leaves, strict=True)):
            leaf.does(**SCRIPT)
            leaf.suffers()
            warm(device, wait_until)
            wait_until(lambda leaf=leaf: settled(leaf.counts))
            leaf.suffers(events=EVENTS | {"seed": number})
            before.append(device.statistics())
            arrivals.append(Arrivals(leaf.trl, stack))
        invocations: list[tuple[str, Invocation]] = []
        for number in range(COMMANDS):
            command = list(SCRIPT)[(number // LEAVES) % len(SCRIPT)]
            device = devices[number % LEAVES]
            listener = finals.listener(number)
            started = device.start(command, ARGUMENTS.get(command), listener)
            invocations.append((command, started))

        for command, invocation in invocations:
            outcome = invocation.wait(20.0)
            assert outcome is not None, f"{command} hangs"
            status, code, message = RESULTS[command]
            assert (outcome.status, outcome.result_code) == (status, code)
            assert outcome.message == message
        for device, leaf, old in zip(devices, leaves, before, strict=True):

            def all_came(
                device: LrcDevice = device, leaf: LeafHandle = leaf, old: dict[str, int] = old
            ) -> bool:
                counts = leaf.counts
                arrived = device.statistics()["events"] - old["events"]
                return settled(counts) and arrived == counts["sent"]

            wait_until(all_came)
        assert finals.counts == Counter(dict.fromkeys(range(COMMANDS), 1))
        injected = sum((Counter(leaf.counts) for leaf in leaves), Counter())
        seen = Counter[str]()
        for device, old in zip(devices, before, strict=True):
            seen.update({key: n - old[key] for key, n in device.statistics().items()})
    assert all(injected[fault] > COMMANDS / 4 for fault in FAULTS)
    assert seen["events_doubled"] == injected["doubled"]
    assert seen["events_missing"] == seen["found_by_look"] > COMMANDS / 10
    assert seen["events_reordered"] == sum(one.out_of_order() for one in arrivals) > 0
    assert seen["events_late"] > 0
    assert seen["lost"] == 0


def test_every_event_that_comes_after_its_command_has_ended_is_counted(
    system: FaultySystem, wait_until: Callable[..., None]
) -> None:
    """As late, or as out of order; as many as were injected."""
    with ExitStack() as stack:
        devices = [stack.enter_context(LrcDevice(system.trl(name))) for name in names()]
        leaves = [system.leaf(name) for name in names()]
        for device, leaf in zip(devices, leaves, strict=True):
            leaf.does()
            leaf.suffers()
            warm(device, wait_until)
            wait_until(lambda leaf=leaf: settled(leaf.counts))
        before = [device.statistics() for device in devices]
        for number, leaf in enumerate(leaves):
            leaf.suffers(events={"delay": 1.0, "delay_seconds": 6.0, "seed": number})
        invocations = [device.start("End") for device in devices]
        for invocation in invocations:
            assert invocation.wait(10.0)
        on_time = sum(leaf.counts["sent"] for leaf in leaves)
        for leaf in leaves:
            wait_until(lambda leaf=leaf: settled(leaf.counts))
        delayed = sum(leaf.counts["delayed"] for leaf in leaves)

        def seen() -> Counter[str]:
            found = Counter[str]()
            for device, old in zip(devices, before, strict=True):
                found.update({key: n - old[key] for key, n in device.statistics().items()})
            return found

        wait_until(lambda: seen()["events"] == delayed)
        counted = seen()["events_late"] + seen()["events_reordered"]
    assert delayed - on_time <= counted <= delayed, "a look found the end before these came"
    assert counted > delayed / 2
    assert [invocation.outcome().is_ok for invocation in invocations] == [True] * LEAVES


def test_a_parent_whose_children_tell_it_badly_has_the_right_results(
    system: FaultySystem, wait_until: Callable[..., None]
) -> None:
    """Through the whole tree: every result, of every node, once, and whom it blames."""
    fails = "leaf-05"
    for number, name in enumerate(names()):
        leaf = system.leaf(name)
        failed = {"outcome": "failed", "message": "no beam"} if name == fails else {}
        leaf.does(Standby={"duration": 0.05, **failed}, any={"duration": 0.05, "steps": 3})
        leaf.suffers(events=EVENTS | {"seed": number, "delay_seconds": 1.5})
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    with LrcDevice(system.trl("subarray-01")) as device:
        wait_until(lambda: proxy.state() not in {tango.DevState.UNKNOWN, tango.DevState.DISABLE})
        if proxy.state() is not tango.DevState.OFF:
            assert device.invoke("Off").wait(20.0)
        uids = []
        for command in ("On", "Standby", "Off", "On", "Standby", "Off"):
            invocation = device.invoke(command)
            outcome = invocation.wait(20.0)
            uids.append(invocation.command_id)
            expected = "FAILED" if command == "Standby" else "OK"
            assert_outcome(outcome, expected, text="no beam" if command == "Standby" else "")
            tree = json.loads(proxy.CommandTree(invocation.command_id))
            ends = {node["name"]: outcome_word(node) for node in tree["children"][0]["children"]}
            assert ends == dict.fromkeys(names(), "OK") | (
                {fails: "FAILED"} if command == "Standby" else {}
            )
    finished = Counter(json.loads(entry)["uid"] for entry in proxy.lrcFinished)
    assert [finished[uid] for uid in uids] == [1] * len(uids)
    assert json.loads(proxy.lrcStatistics)["totals"]["lost"] == 0
    for name in names():  # what is still delayed is not to be counted in the next test
        leaf = system.leaf(name)
        wait_until(lambda leaf=leaf: settled(leaf.counts))
        leaf.suffers()


def settled(counts: dict[str, int]) -> bool:
    """Tell whether every event has been sent that is to be."""
    return counts["sent"] == counts["pushed"] - counts["dropped"] + counts["doubled"]


def test_a_parent_counts_what_it_hears_and_shows_it(
    system: FaultySystem, wait_until: Callable[..., None]
) -> None:
    """In an attribute, by child; and in the tree of the command, with times."""
    leaves = [system.leaf(name) for name in names()]
    for leaf in leaves:
        leaf.does(On={"duration": 0.1, "steps": 4}, any={})
        leaf.suffers()
    subarray = tango.DeviceProxy(system.trl("subarray-01"))

    def totals() -> dict[str, int]:
        figures: dict[str, int] = json.loads(subarray.lrcStatistics)["totals"]
        return figures

    with LrcDevice(system.trl("subarray-01")) as device:

        def hears_everyone() -> bool:
            for command in ("On", "Off"):
                assert device.invoke(command).wait(20.0) is not None
            children = json.loads(subarray.lrcStatistics)["children"].values()
            return all(child["events"] > 4 for child in children)

        wait_until(hears_everyone, 30.0)
        wait_until(lambda: all(settled(leaf.counts) for leaf in leaves))
        for leaf in leaves:
            leaf.suffers(events={"double": 1.0})
        old = totals()
        invocation = device.invoke("On")
        outcome = invocation.wait(20.0)
        assert outcome is not None
        assert outcome.is_ok

        def injected() -> int:
            return sum(leaf.counts["doubled"] for leaf in leaves)

        def irregular() -> list[dict[str, Any]]:
            tree = json.loads(subarray.CommandTree(invocation.command_id))
            return [node["irregular_events"] for node in tree["children"][0]["children"]]

        def all_are_counted() -> bool:
            of_nodes = sum(node["doubled"] for node in irregular())
            in_all = totals()["events_doubled"] - old["events_doubled"]
            return of_nodes == in_all == injected() and all(settled(leaf.counts) for leaf in leaves)

        # On a machine that is busy a look may find an end before its event is even sent.
        wait_until(all_are_counted, 30.0)
        assert injected() >= LEAVES * 4

    for node in irregular():
        heard = {note["kind"] for note in node["notes"]}
        assert {"doubled"} <= heard <= {"doubled", "late", "missing"}
        assert all(note["time"] for note in node["notes"])
