"""A method of a device that is a step of a command, and takes its time."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tango

from milonga.deploy import Topology
from milonga.lrc import LrcDevice
from milonga.testing import FaultySystem, assert_outcome

PROGRAM = Path(__file__).parent / "blocking_server.py"


@pytest.fixture
def system() -> Iterator[FaultySystem]:
    """Run a subarray whose Standby is a method."""
    data = {
        "name": "thinking",
        "subarrays": [
            {
                "device": "think/subarray/1",
                "id": 1,
                "class": "ThinkingSubarray",
                "server": "own",
                "children": ["leaf"],
            }
        ],
        "leaves": [{"name": "leaf", "device": "think/leaf/1", "server": "leaves"}],
        "command_map": {
            "subarray": {
                "Standby": {"tasks": {"think": {"internal": "think"}}},
                "Hide": {"safety": True, "tasks": {"hide": {"internal": "hide"}}},
            }
        },
        "servers": {
            "own": {
                "command": ["{python}", str(PROGRAM)],
                "tango_name": "blocking-server",
                "classes": ["ThinkingSubarray"],
            }
        },
    }
    with FaultySystem(Topology.from_text(json.dumps(data))) as system:
        yield system


def test_a_method_that_does_not_return_holds_up_neither_aborts_nor_deadlines(
    system: FaultySystem, wait_until: Callable[..., None]
) -> None:
    """The device's thread keeps the time; the method is given up, as a child would be."""
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    wait_until(lambda: proxy.state() is tango.DevState.OFF)
    with LrcDevice(system.trl("subarray-01")) as device:
        thinking = device.invoke("Standby")
        wait_until(lambda: proxy.lrcExecuting)
        assert_outcome(device.invoke("Abort").wait(20.0), "OK")
        text = "did not confirm the abort within 3 s"
        assert_outcome(thinking.wait(20.0), "ABORTED", text=text)

        late = device.invoke("SubmitCommand", json.dumps({"command": "Standby", "timeout": 0.5}))
        assert_outcome(late.wait(20.0), "BROKEN", text="think: timed out after 0.5 s")
        tree = json.loads(proxy.CommandTree(late.command_id))
        assert tree["cause"] == "TIMED_OUT"

        assert_outcome(device.invoke("Hide").wait(20.0), "OK")  # though another one still thinks

        proxy.Answer()
        done = device.invoke("Standby").wait(20.0)
        assert_outcome(done, "OK")
    assert proxy.state() is tango.DevState.STANDBY
