"""A child that dies, restarts or hangs while a command runs."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.deploy import Process, System, Topology
from milonga.lrc import LrcDevice

from .standing_still import standing_still

TOPOLOGY = """
name: lost
defaults: {timeout: 20.0}
subarrays:
  - {device: lost/subarray/1, id: 1, server: parent, children: [mortal, steady]}
leaves:
  - {name: mortal, device: lost/leaf/mortal, server: mortal}
  - {name: steady, device: lost/leaf/steady, server: steady}
"""


@pytest.fixture
def system() -> Iterator[System]:
    """Run a parent with two leaves, each in a process of its own."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        yield system


CALL_TIMEOUT = 3.0
"""Seconds after which a call that nobody answers has failed, and holds up nobody any more."""


def server(system: System, name: str) -> Process:
    """Return the process of a server."""
    return next(process for process in system.processes if process.name == name)


def script(system: System, leaf: str, what: dict[str, object]) -> None:
    """Tell a leaf what to do with every command."""
    tango.DeviceProxy(system.trl(leaf)).script = json.dumps({"*": what})


def has_taken(parent: str, uid: str | None, leaf: str) -> bool:
    """Tell whether a leaf has answered the call of a command of its parent."""
    tree = json.loads(tango.DeviceProxy(parent).CommandTree(uid))
    leaves = {child["name"]: child for child in tree["children"][0]["children"]}
    return leaves[leaf]["command_id"] is not None


def newest(trl: str) -> dict[str, Any]:
    """Return what a device says of the command that ended last."""
    entry: dict[str, Any] = json.loads(tango.DeviceProxy(trl).lrcFinished[-1])
    return entry


@pytest.mark.slow
def test_a_child_that_dies_is_a_failed_subtask_with_a_name(
    system: System, wait_until: Callable[..., None]
) -> None:
    """TR-14: within the limit, not at the deadline; the other child's result is kept."""
    script(system, "mortal", {"outcome": "never"})
    with LrcDevice(system.trl("subarray-01")) as device:
        invocation = device.invoke("On")
        wait_until(partial(has_taken, device.trl, invocation.command_id, "mortal"))
        server(system, "mortal").signal(signal.SIGKILL)

        outcome = invocation.wait(18.0)

        assert outcome is not None
        assert outcome.status in {TaskStatus.COMPLETED, TaskStatus.FAILED}
        assert outcome.result_code is not ResultCode.OK
        assert "lost/leaf/mortal: On is lost: no answer for" in outcome.message
        assert outcome.seconds < 16.0


def test_a_child_that_restarts_is_found_to_have_forgotten(
    system: System, wait_until: Callable[..., None]
) -> None:
    """The new server does not know the command id; nobody waits for the deadline."""
    script(system, "mortal", {"outcome": "never"})
    with LrcDevice(system.trl("subarray-01")) as device:
        invocation = device.invoke("On")
        wait_until(partial(has_taken, device.trl, invocation.command_id, "mortal"))
        mortal = server(system, "mortal")
        mortal.signal(signal.SIGKILL)
        assert mortal.wait(5.0)
        environment = {"TANGO_HOST": system.tango_host, "PATH": "/usr/bin:/bin"}
        again = subprocess.Popen(
            [
                *(sys.executable, "-m", "milonga.devices", "mortal"),
                *("-ORBendPoint", "giop:tcp:127.0.0.1:0"),
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            outcome = invocation.wait(15.0)

            assert outcome is not None
            # Where it takes more than DEAD_AFTER to start a server, nobody waits for it either.
            assert re.search(
                "lost/leaf/mortal: On is lost: (its server was started anew at"
                r"|no answer for \d+ s from its server, started at)",
                outcome.message,
            )
            assert device.invoke("Standby").wait(10.0) is not None
        finally:
            again.terminate()
            again.wait(10)


@pytest.mark.slow
def test_a_child_that_hangs_does_not_hold_up_the_others(system: System) -> None:
    """Its command is not even taken; the steady child's runs meanwhile."""
    with LrcDevice(system.trl("subarray-01")) as device:
        device.connect()
        with standing_still(server(system, "mortal")):
            outcome = device.invoke("On").wait(30.0)
            whole, steady = newest(device.trl), newest(system.trl("steady"))

        assert outcome is not None
        assert (steady["name"], steady["status"]) == ("On", "COMPLETED")
        began, ended = map(datetime.fromisoformat, (whole["started_time"], steady["finished_time"]))
        assert (ended - began).total_seconds() < CALL_TIMEOUT
        assert outcome.result_code is ResultCode.FAILED
        assert "lost/leaf/mortal" in outcome.message
