"""The events of one command, in the order that was recorded on an SKA device."""

import json
from collections.abc import Iterator
from itertools import groupby

import pytest
import tango
from tests.servers.plain_client import QUEUED, PlainClient, Recorder

from milonga.deploy import System, Topology

TOPOLOGY = """
name: order
subarrays:
  - {device: order/subarray/1, id: 1, server: one, children: [leaf]}
leaves:
  - name: leaf
    device: order/leaf/0
    server: one
    script: {"*": {duration: 0.1, steps: 2}}
"""

V1 = (
    "longRunningCommandsInQueue",
    "longRunningCommandIDsInQueue",
    "longRunningCommandStatus",
    "longRunningCommandInProgress",
    "longRunningCommandProgress",
    "longRunningCommandResult",
    "commandedState",
)
V2 = ("_lrcEvent", "lrcQueue", "lrcExecuting", "lrcFinished")
STATE = ("State", "Status")

RECORDED = """
longRunningCommandsInQueue On
longRunningCommandIDsInQueue U
longRunningCommandStatus U STAGING
_lrcEvent U {"status": 0}
longRunningCommandStatus U QUEUED
_lrcEvent U {"status": 1}
lrcQueue U
lrcExecuting
lrcFinished
longRunningCommandStatus U IN_PROGRESS
longRunningCommandInProgress On
commandedState ON
_lrcEvent U {"status": 2}
lrcQueue
lrcExecuting U
longRunningCommandProgress U 33
_lrcEvent U {"progress": 33}
lrcExecuting U 33
longRunningCommandProgress U 66
_lrcEvent U {"progress": 66}
lrcExecuting U 66
longRunningCommandResult U [0, "On command completed OK"]
longRunningCommandStatus U COMPLETED
longRunningCommandInProgress
_lrcEvent U {"status": 5, "result": [0, "On command completed OK"]}
lrcExecuting
lrcFinished U COMPLETED
"""
"""Section 3.4, the first command of a device; State and Status have a test of their own."""


@pytest.fixture
def leaf() -> Iterator[str]:
    """Run a leaf that has not had a command yet; return its locator."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        yield system.trl("leaf")


def test_clients_of_both_protocols_see_a_command_as_it_was_recorded(leaf: str) -> None:
    """3.4: one order for all, whichever version a client speaks; nothing is sent twice."""
    proxy = tango.DeviceProxy(leaf)
    with (
        Recorder(proxy, *V1, *V2, *STATE) as everything,
        Recorder(tango.DeviceProxy(leaf), *V1) as first_version,
        Recorder(tango.DeviceProxy(leaf), *V2) as second_version,
    ):
        seen_before = len(everything.events)
        (code,), (uid,) = proxy.command_inout("On")
        assert code == QUEUED
        for recorder, last in (
            (everything, "lrcFinished"),
            (first_version, "longRunningCommandInProgress"),
            (second_version, "lrcFinished"),
        ):
            recorder.wait_until(lambda events, last=last: _is_over(events, last, uid))
        lines = [_line(name, value, uid) for name, value in everything.events[seen_before:]]

    recorded = RECORDED.strip().splitlines()
    assert [line for line in lines if not line.startswith(STATE)] == recorded
    for recorder, names in ((first_version, V1), (second_version, V2)):
        own = [_line(name, value, uid) for name, value in recorder.events[len(names) :]]
        assert own == [line for line in recorded if line.split(maxsplit=1)[0] in names]
    states = [line for line in lines if line.startswith(STATE)]
    assert states == ["State ON", "Status The device is in ON state."]
    end = next(line for line in recorded if line.startswith('_lrcEvent U {"status": 5'))
    assert lines.index("State ON") < lines.index(end), "the state is there before the end is told"


def test_the_tables_show_the_end_when_its_event_has_come(leaf: str) -> None:
    """3.3: what a client reads may be newer than its events, and is never older."""
    with PlainClient(leaf) as client:
        for command in ("On", "Standby", "Off"):
            _, uid = client.call(command)
            client.end(uid)
            assert client.finished(uid)["status"] == "COMPLETED"
            assert client.proxy.lrcExecuting == ()
            assert client.proxy.state().name == command.upper()


def test_who_begins_to_listen_late_misses_nothing(leaf: str) -> None:
    """While nobody listens nothing is sent; the first event shows what was reached by then."""
    with PlainClient(leaf) as client:
        first = client.run("On")
        with Recorder(client.proxy, "lrcFinished", "lrcExecuting") as recorder:
            known = len(client.proxy.lrcFinished)
            assert [len(value) for value in recorder.values[:2]] == [known, 0]
            client.run("Off")
            recorder.wait_until(lambda events: len(events[-1][1]) == known + 1)

    assert first["status"] == 5
    shown = [value for name, value in recorder.events if name == "lrcExecuting"]
    assert [length for length, _ in groupby(map(len, shown))] == [0, 1, 0]


def _is_over(events: list[tuple[str, object]], last: str, uid: str) -> bool:
    """Tell whether the last event that a client gets of a command is there."""
    ended = any(uid in str(value) and ("COMPLETED" in str(value)) for _, value in events)
    return ended and events[-1][0] == last


def _line(name: str, value: object, uid: str) -> str:
    """Write an event as the table has it: of JSON objects only what does not vary."""
    parts = (value,) if isinstance(value, str) else value
    assert isinstance(parts, tuple)
    words = [name]
    for part in parts:
        if name.startswith("lrc"):
            entry = json.loads(part)
            words += [str(entry[key]) for key in ("uid", "progress", "status") if key in entry]
        else:
            words.append(str(part))
    return " ".join(words).replace(uid, "U")
