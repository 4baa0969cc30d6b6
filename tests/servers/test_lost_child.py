"""A child that dies, restarts or hangs while a command runs."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.deploy import Process, System, Topology
from milonga.lrc import LrcDevice

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


def server(system: System, name: str) -> Process:
    """Return the process of a server."""
    return next(process for process in system.processes if process.name == name)


def script(system: System, leaf: str, what: dict[str, object]) -> None:
    """Tell a leaf what to do with every command."""
    tango.DeviceProxy(system.trl(leaf)).script = json.dumps({"*": what})


@pytest.mark.slow
def test_a_child_that_dies_is_a_failed_subtask_with_a_name(system: System) -> None:
    """TR-14: within the limit, not at the deadline; the other child's result is kept."""
    script(system, "mortal", {"outcome": "never"})
    with LrcDevice(system.trl("subarray-01")) as device:
        invocation = device.invoke("On")
        assert invocation.wait(1.0) is None
        server(system, "mortal").signal(signal.SIGKILL)

        outcome = invocation.wait(18.0)

        assert outcome is not None
        assert outcome.status in {TaskStatus.COMPLETED, TaskStatus.FAILED}
        assert outcome.result_code is not ResultCode.OK
        assert "lost/leaf/mortal: On is lost: no answer for" in outcome.message
        assert outcome.seconds < 16.0


def test_a_child_that_restarts_is_found_to_have_forgotten(system: System) -> None:
    """The new server does not know the command id; nobody waits for the deadline."""
    script(system, "mortal", {"outcome": "never"})
    with LrcDevice(system.trl("subarray-01")) as device:
        invocation = device.invoke("On")
        assert invocation.wait(0.5) is None
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
    mortal = server(system, "mortal")
    with LrcDevice(system.trl("subarray-01")) as device:
        device.connect()
        mortal.signal(signal.SIGSTOP)
        try:
            start = time.monotonic()
            invocation = device.invoke("On")
            steady = tango.DeviceProxy(system.trl("steady"))
            while steady.state() is not tango.DevState.ON:
                assert time.monotonic() - start < 2.0
                time.sleep(0.02)

            outcome = invocation.wait(19.0)
        finally:
            mortal.signal(signal.SIGCONT)

        assert outcome is not None
        assert outcome.result_code is ResultCode.FAILED
        assert "lost/leaf/mortal" in outcome.message
