"""What the chart starts is a system that works, in whichever order its parts come up."""

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import tango

from milonga.control_model import ResultCode
from milonga.deploy import Process, Topology, register
from milonga.errors import CommandRejected, DeploymentError
from milonga.lrc import client

from ..free_ports import free_ports
from .chart_data import SMALL, Render
from .pods import LOOPBACK, Cluster

SERVERS = ["central", "Sub_1", "leaves.a", "leaves-a"]
TOPOLOGY = Topology.from_text(SMALL)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for a condition of other processes."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def probe(port: int, path: str) -> tuple[int, str]:
    """Ask as a kubelet does; 0 as long as nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def lives(port: int) -> bool:
    """Tell whether the probe of a pod's life is good."""
    return probe(port, "/livez")[0] == 200


class Release:
    """A release whose pods are processes here."""

    def __init__(self, render: Render, folder: Path) -> None:
        database, *health = free_ports(1 + len(SERVERS))
        self.health = dict(zip(SERVERS, health, strict=True))
        documents = render({"topology": SMALL, "database": {"port": database}})
        self.cluster = Cluster(documents, folder, self.health)
        self.tango_host = f"{LOOPBACK}:{database}"
        self.processes: dict[str, Process] = {}

    def start(self, name: str) -> Process:
        """Start a pod, or start it again."""
        self.processes[name] = self.cluster.process(name)
        self.processes[name].start()
        return self.processes[name]

    def trl(self, device: str) -> str:
        """Give the whole address of a device."""
        return f"tango://{self.tango_host}/{device}"

    def answers(self, device: str) -> bool:
        """Tell whether a device answers."""
        try:
            tango.DeviceProxy(self.trl(device)).ping()
        except tango.DevFailed:
            return False
        return True

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition as long as no pod has ended."""

        def met() -> bool:
            for process in self.processes.values():
                assert process.running, process.ended()
            return condition()

        wait_until(met, what)

    def command(self, name: str) -> ResultCode:
        """Send a command to the controller, and follow it to its end."""
        return client.run(self.trl("lab/control/0"), name, timeout=30.0).result_code


@pytest.fixture(scope="module")
def release(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Start the controller first and the database last, which is the worst order there is."""
    release = Release(render, tmp_path_factory.mktemp("cluster"))
    try:
        for name in SERVERS:
            release.start(name)
        for name in SERVERS:
            port = release.health[name]
            release.wait_until(partial(lives, port), f"{name} lives")
        status, text = probe(release.health["central"], "/readyz")
        assert status == 503
        assert "waiting for the Tango database" in json.loads(text)["waiting"]
        assert probe(release.health["central"], "/other")[0] == 404
        release.start("database")
        for entry in TOPOLOGY.devices:
            release.wait_until(partial(release.answers, entry.device), f"{entry.device} answers")
        yield release
    finally:
        for name in [*SERVERS, "database"]:
            if name in release.processes:
                release.processes[name].signal(signal.SIGTERM)
                if not release.processes[name].wait(10.0):
                    release.processes[name].signal(signal.SIGKILL)
                    release.processes[name].wait(10.0)


def test_a_command_goes_down_the_tree(release: Release) -> None:
    """The chart's arguments and variables, as local processes: On of the controller works."""
    assert release.cluster.names == ["database", *sorted(SERVERS)]

    assert release.command("On") is ResultCode.OK

    for name in SERVERS:
        assert release.processes[name].running, release.processes[name].tail()
    assert tango.DeviceProxy(release.trl("lab/leaf/a")).state() == tango.DevState.ON


def test_a_pod_that_was_killed_comes_back(release: Release) -> None:
    """With nothing done to the others, and nothing left to clean up."""
    release.processes["leaves.a"].signal(signal.SIGKILL)
    assert release.processes["leaves.a"].wait(10.0)

    again = release.start("leaves.a")
    release.wait_until(lambda: release.answers("lab/leaf/a"), "the leaf answers again")
    release.wait_until(lambda: reaches(release), "commands reach it")

    assert again.running


def reaches(release: "Release") -> bool:
    """Tell whether a command works; which of them may be called, depends on the last one."""
    for command in ("Off", "On"):
        with suppress(CommandRejected):
            return release.command(command) is ResultCode.OK
    return False


def test_each_server_registers_its_own_devices(release: Release) -> None:
    """All of them together are what `milonga register` writes, which then changes nothing."""
    database = tango.Database(*release.tango_host.split(":"))

    before = snapshot(database)
    register(TOPOLOGY, database)

    assert snapshot(database) == before
    assert all(database.get_device_info(entry.device).exported for entry in TOPOLOGY.devices)


def snapshot(database: tango.Database) -> dict[str, object]:
    """Give what a database knows of the topology's devices."""
    known: dict[str, object] = {}
    for entry in TOPOLOGY.devices:
        info = database.get_device_info(entry.device)
        found = database.get_device_property(entry.device, list(entry.properties))
        properties = {name: list(texts) for name, texts in found.items()}
        known[entry.device] = (info.ds_full_name, info.class_name, properties)
        assert properties == {name: list(texts) for name, texts in entry.properties.items()}
    return known


MOVING = """
name: moving
subarrays: [{device: move/subarray/01, id: 1, server: parents, children: [LEAVES]}]
leaves:
"""
LEAF = "  - {name: NAME, device: move/leaf/NAME, server: SERVER}\n"


def moving(**servers: str) -> Topology:
    """Describe leaves by the servers that they run in."""
    text = MOVING.replace("LEAVES", ", ".join(servers))
    for name, server in servers.items():
        text += LEAF.replace("NAME", name).replace("SERVER", server)
    return Topology.from_text(text)


def owners(database: tango.Database, *names: str) -> list[str | None]:
    """Give the servers that leaves are registered with."""
    found: list[str | None] = []
    for name in names:
        try:
            found.append(database.get_device_info(f"move/leaf/{name}").ds_full_name)
        except tango.DevFailed:
            found.append(None)
    return found


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_a_device_moves_between_servers_in_either_order(
    release: Release, order: tuple[str, str]
) -> None:
    """The server that had it lets go of it, the other takes it, whichever is first."""
    database = tango.Database(*release.tango_host.split(":"))
    old, new = moving(a="one", b="one", c="two"), moving(a="one", b="two", c="two")
    register(old, database)

    for server in (*order, *order):
        register(new, database, server=server)

    assert owners(database, "a", "b", "c") == [
        f"milonga-server/{server}" for server in ("one", "two", "two")
    ]
    assert list(database.get_device_class_list("milonga-server/one"))[::2].count("move/leaf/b") == 0
    register(moving(a="one", c="two"), database, server="two")
    assert owners(database, "b") == [None]


def test_a_server_does_not_touch_what_others_have(release: Release) -> None:
    """Devices of another topology are neither taken nor removed."""
    database = tango.Database(*release.tango_host.split(":"))
    theirs = Topology.from_text(SMALL.replace("name: small", "name: theirs").replace("lab/", "x/"))

    with pytest.raises(DeploymentError, match="somebody else"):
        register(theirs, database, server="leaves-a")

    assert snapshot(database)


def test_a_server_ends_when_it_is_told_to(release: Release) -> None:
    """While it waits for a database that never comes, and while it serves."""
    waiting = release.cluster.process("central")
    environment = {"TANGO_HOST": f"{LOOPBACK}:1", "PATH": "", "HOME": ""}
    lost = Process("lost", waiting.command, waiting.log.with_name("lost.log"), environment)
    lost.start()
    wait_until(lambda: "waiting: no Tango database" in lost.tail(), "it waits")
    lost.signal(signal.SIGTERM)
    assert lost.wait(10.0)

    served = release.processes["leaves-a"]
    served.signal(signal.SIGTERM)
    assert served.wait(10.0)

    assert (lost.returncode, served.returncode) == (130, 0)
