"""One account of a running command, whoever it comes from."""

import json
from typing import Any

import pytest

pytest.importorskip("tango")

import tango

from milonga.cli._looking import TreeReader

TRL, UID = "tango://db:1/lab/parent/1", "17_22_Go"


def leaf(progress: int, **more: Any) -> dict[str, Any]:
    """Return the node of a leaf."""
    target = {"target": "lab/a/1", "command": "Go", "command_id": ""}
    return {"name": "a", "progress": progress, "status": "IN_PROGRESS"} | target | more


def command(progress: int, *children: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the node of the command."""
    node = {"name": "Go", "command_id": UID, "progress": progress, "status": "IN_PROGRESS"}
    return node | {"children": list(children)} | more


class Device:
    """A device that answers with the texts that it is given, or fails."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] | None = []
        self.own: dict[str, Any] = {}
        self.asked: list[str] = []

    def read_attribute(self, name: str) -> Any:
        """Give taskTree."""
        self.asked.append(name)
        if self.told is None:
            tango.Except.throw_exception("API_DeviceTimedOut", "late", "here")
        head = {"version": 1, "device": "lab/parent/1", "epoch": "e", "number": 1, "time": "t"}
        value = tango.DeviceAttribute()
        value.value = json.dumps(head | {"commands": self.told})
        return value

    def command_inout(self, name: str, _: str) -> str:
        """Give CommandTree."""
        self.asked.append(name)
        return json.dumps(self.own)


@pytest.fixture
def device() -> Device:
    """Give a device."""
    return Device()


def reader(device: Device, times: list[float]) -> TreeReader:
    """Give a reader at whose clock it is the last of the times."""
    return TreeReader(clock=lambda: times[-1], _proxies={TRL: device})  # type: ignore[dict-item]


def test_while_a_command_runs_the_progress_of_all_its_nodes_comes_from_one_place(
    device: Device,
) -> None:
    """A root at 75 % over leaves of which another account says 10 % would be a contradiction."""
    device.told = [command(75, leaf(80, phase="warming up"))]
    device.own = command(10, leaf(10))

    snapshot = reader(device, [0.0]).read(TRL, UID)

    assert (snapshot["progress"], snapshot["children"][0]["progress"]) == (75, 80)
    assert snapshot["children"][0]["phase"] == "warming up"


def test_a_command_that_is_over_is_read_in_full(device: Device) -> None:
    """What is told of it while it runs may be cut and counted."""
    over = {"status": "COMPLETED", "result_code": "FAILED"}
    device.told = [command(100, leaf(100, message="no pow…"), **over)]
    device.own = command(100, leaf(100, message="no power", **over), **over)

    snapshot = reader(device, [0.0]).read(TRL, UID)

    assert snapshot["children"][0]["message"] == "no power"


def test_a_read_that_fails_once_is_tried_again(device: Device) -> None:
    """After a while, in which the device is asked for its own part of the tree."""
    device.own = command(10, leaf(10))
    times = [0.0]
    reading = reader(device, times)
    device.told = None
    first = reading.read(TRL, UID)
    device.told = [command(75, leaf(80))]
    second = reading.read(TRL, UID)
    times.append(10.0)
    third = reading.read(TRL, UID)

    assert [each["progress"] for each in (first, second, third)] == [10, 10, 75]
    assert device.asked.count("taskTree") == 2
