"""What happens to clients that come in the moment in which a server is starting.

That moment lasts a millisecond, or much longer on a busy machine; here as long as a test wants.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import tango

from milonga.deploy import Database, Process, Topology, register
from milonga.lrc import client

from ..free_ports import free_port
from .plain_client import look_until

TOPOLOGY = Topology.from_text(
    """
name: starting
subarrays:
  - {device: starting/subarray/1, id: 1, server: parents, children: [patient, deaf]}
leaves:
  - {name: patient, device: starting/leaf/patient, server: patient}
  - {name: deaf, device: starting/leaf/deaf, server: deaf}
"""
)
LOOPBACK = "127.0.0.1"


@dataclass
class Place:
    """Two databases with one file, and a folder for logs."""

    quick: str
    slow: str
    folder: Path

    def trl(self, device: str) -> str:
        """Give the address of a device as its clients know it."""
        return f"tango://{self.quick}/{device}"

    def let_on(self, name: str) -> None:
        """Let a server go on from the moment in which its own device is known, but not ready."""
        (self.folder / name).touch()

    def server(self, name: str) -> Process:
        """Make the process of a server, which knows the slow database."""
        command = [sys.executable, "-m", "milonga.devices", name]
        environment = os.environ | {"TANGO_HOST": self.slow, "MILONGA_DATA": str(self.folder)}
        endpoint = ["-ORBendPoint", f"giop:tcp:{LOOPBACK}:0"]
        return Process(name, [*command, *endpoint], self.folder / f"{name}.log", environment)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run a slow database for servers, and a quick one with the same file for their clients."""
    folder = tmp_path_factory.mktemp("starting")
    file = folder / "tango.db"
    quick = Database(folder, file=file)
    port = free_port()
    program = [sys.executable, str(Path(__file__).with_name("slow_database.py"))]
    arguments = ["--host", LOOPBACK, "--port", str(port), "2"]
    environment = os.environ | {
        "PYTANGO_DATABASE_NAME": str(file),
        "SLOW_DATABASE_GATES": str(folder),
    }
    slow = Process("slow", [*program, *arguments], folder / "slow.log", environment)
    try:
        quick.start()
        slow.start()
        attempt(lambda: tango.Database(LOOPBACK, str(port)))
        register(TOPOLOGY, tango.Database(*quick.tango_host.split(":")))
        yield Place(quick.tango_host, f"{LOOPBACK}:{port}", folder)
    finally:
        end(slow)
        quick.stop()


@pytest.fixture
def run(place: Place) -> Iterator[Callable[[str], Process]]:
    """Start a server, and end it with the test."""
    running: list[Process] = []

    def start(name: str) -> Process:
        running.append(place.server(name))
        running[-1].start()
        return running[-1]

    yield start
    for process in running:
        end(process)


def end(process: Process) -> None:
    """End a process, however it is."""
    process.signal(signal.SIGTERM)
    if not process.wait(10.0):
        process.signal(signal.SIGKILL)
        process.wait(10.0)


def attempt(action: Callable[[], object], seconds: float = 30.0) -> None:
    """Do something as soon as Tango lets it be done."""
    end = time.monotonic() + seconds
    while True:
        try:
            action()
        except tango.DevFailed:
            assert time.monotonic() < end, f"not within {seconds:g} s"
            time.sleep(0.02)
        else:
            return


def test_a_client_waits_for_a_server_that_is_starting(
    place: Place, run: Callable[[str], Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls as soon as the device answers, and neither fails nor spoils the server's events."""
    monkeypatch.setattr("milonga.lrc._starting.PATIENCE", 20.0)
    trl = place.trl("starting/leaf/patient")
    server = run("patient")
    attempt(lambda: tango.DeviceProxy(trl).ping())

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(client.run, trl, "On", timeout=20.0)
        look_until(
            lambda: "not initialised" in server.log.read_text(), "it does not come too early"
        )
        place.let_on("patient")

    assert outcome.result().is_ok
    assert "starts anew" not in server.log.read_text()


def test_a_server_whose_events_were_spoilt_starts_anew(
    place: Place, run: Callable[[str], Process]
) -> None:
    """By a client of somebody else, who subscribes as soon as Tango lets it."""
    device = "starting/leaf/deaf"
    server = run("deaf")
    admin = place.trl("dserver/milonga-server/deaf")
    wish = [device, "_lrcEvent", "subscribe", "change", "5"]
    attempt(lambda: tango.DeviceProxy(admin).command_inout("ZmqEventSubscriptionChange", wish))
    place.let_on("deaf")
    pid = server.pid

    look_until(lambda: has_started_anew(server), "it goes on as it is")
    assert client.run(place.trl(device), "On", timeout=20.0).is_ok

    assert (server.running, server.pid) == (True, pid)


def has_started_anew(server: Process) -> bool:
    """Tell whether a server has said that it starts anew, and then, as Tango does, that it runs."""
    _, anew, then = server.log.read_text().partition("starts anew")
    return bool(anew) and "Ready to accept request" in then
