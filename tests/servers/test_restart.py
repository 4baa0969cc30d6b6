"""A controller whose process is killed, and what it knows when it is back."""

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tango
from sqlalchemy import create_engine, text

from milonga.control_model import ObsState, ResultCode
from milonga.deploy import Process, System, Topology
from milonga.lrc import LrcDevice

from ..postgresql import NoPostgreSQL, running_server

Rows = Callable[[str], list[dict[str, Any]]]

LEAVES = 16
KILLS = int(os.environ.get("MILONGA_KILL_POINTS", "4"))
"""How many random moments are tried; the release was tried with 50."""

LONGEST = 0.9
"""Seconds that the slowest leaf takes."""

SLOWEST = f"leaf-{LEAVES - 1:02}"
"""The leaf that is told never to end where something must still run."""

FAIL_RESET = (5, 12)
"""Leaves at which Reset fails, so that an outcome that was made up would be seen."""


def duration_at(number: int) -> float:
    """Return the seconds that a command takes at a leaf."""
    return 0.1 + 0.05 * number


def topology() -> Topology:
    """Return a controller over two subarrays over sixteen leaves, in three processes."""
    leaves = [
        {
            "name": f"leaf-{number:02}",
            "device": f"kill/leaf/{number:02}",
            "server": "leaves",
            "script": {
                "*": {"duration": duration_at(number), "steps": 2},
                "Reset": {
                    "duration": duration_at(number),
                    "outcome": "failed" if number in FAIL_RESET else "ok",
                },
            },
        }
        for number in range(LEAVES)
    ]
    names = [str(leaf["name"]) for leaf in leaves]
    half = LEAVES // 2
    subarrays = [
        {"device": "kill/subarray/01", "id": 1, "server": "middle", "children": names[:half]},
        {"device": "kill/subarray/02", "id": 2, "server": "middle", "children": names[half:]},
    ]
    return Topology.from_text(
        json.dumps(
            {
                "name": "kill",
                "controller": {"device": "kill/control/0", "server": "top"},
                "subarrays": subarrays,
                "leaves": leaves,
            }
        )
    )


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """Choose where records are kept; give the URL."""
    if request.param == "sqlite":
        yield f"sqlite:///{Path(os.environ['MILONGA_DATA']) / 'records.db'}"
        return
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running_server())
        except NoPostgreSQL as error:
            pytest.skip(f"no PostgreSQL: {error}")
        os.environ["MILONGA_RECORDS"] = server.url()
        stack.callback(os.environ.pop, "MILONGA_RECORDS")
        yield server.url()


@pytest.fixture(scope="module")
def rows(store: str) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Read the records of a command's tree, as they are on disk."""
    engine = create_engine(store)

    def rows(uid: str) -> list[dict[str, Any]]:
        query = text("SELECT * FROM processing_task WHERE uid = :u OR uid LIKE :b ORDER BY id")
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
            found = connection.execute(query, {"u": uid, "b": f"{uid}/%"})
            return [dict(row) for row in found.mappings()]

    yield rows
    engine.dispose()


@pytest.fixture(scope="module")
def system(store: str) -> Iterator[System]:
    """Run the system."""
    with System(topology()) as system:
        yield system


def server(system: System, name: str) -> Process:
    """Return the process of a server."""
    return next(process for process in system.processes if process.name == name)


def kill_and_restart(process: Process, before_restart: Any = lambda: None) -> None:
    """End a process without a word, and start it again."""
    process.signal(signal.SIGKILL)
    assert process.wait(5.0)
    before_restart()
    process.start()


def finished(trl: str) -> dict[str, dict[str, Any]]:
    """Return what a device says of ended commands, by id; empty while it does not answer."""
    try:
        entries = tango.DeviceProxy(trl).read_attribute("lrcFinished").value or ()
    except tango.DevFailed:
        return {}
    return {entry["uid"]: entry for entry in map(json.loads, entries)}


def end_of(trl: str, uid: str, process: Process, seconds: float = 30.0) -> dict[str, Any]:
    """Wait until a device, of this process, tells how a command has ended."""
    deadline = time.monotonic() + seconds
    while True:
        assert process.running, process.ended()
        entry = finished(trl).get(uid)
        if entry is not None:
            return entry
        assert time.monotonic() < deadline, f"{uid} has not ended in {seconds} s"
        time.sleep(0.05)


def executes(trl: str, command: str) -> bool:
    """Tell whether a device runs a command."""
    entries = tango.DeviceProxy(trl).lrcExecuting or ()
    return command in {json.loads(entry)["name"] for entry in entries}


@contextlib.contextmanager
def never_ending(trl: str) -> Iterator[None]:
    """Have commands at a leaf never end, unless somebody aborts them."""
    before = tango.DeviceProxy(trl).script
    tango.DeviceProxy(trl).script = json.dumps({"*": {"outcome": "never"}})
    try:
        yield
    finally:
        tango.DeviceProxy(trl).script = before


def ready(trl: str, seconds: float = 30.0) -> tango.DeviceProxy:
    """Wait until a device has its children, and takes commands."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(tango.DevFailed):
            proxy = tango.DeviceProxy(trl)
            if proxy.state() not in {tango.DevState.UNKNOWN, tango.DevState.INIT}:
                return proxy
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Truth:
    """What the leaves themselves know of a command that a test sends."""

    def __init__(self, system: System) -> None:
        self._leaves = {
            f"kill/leaf/{number:02}": system.trl(f"leaf-{number:02}") for number in range(LEAVES)
        }
        self._before = {device: set(finished(trl)) for device, trl in self._leaves.items()}

    def commands(self, name: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Return what each leaf says of the commands of a name that are new, by device and id."""
        return {
            device: {
                uid: entry
                for uid, entry in finished(trl).items()
                if uid not in self._before[device] and entry["name"] == name
            }
            for device, trl in self._leaves.items()
        }


def assert_tree_is_true(
    rows: Rows, uid: str, name: str, truth: Truth, system: System, forgotten: float = 0.0
) -> list[dict[str, Any]]:
    """Compare the records of a command, down to the leaves, with what its children say.

    Returns the rows of the leaves' commands. What ended in the first `forgotten` seconds the
    leaves need not know any more.
    """
    at_leaves = truth.commands(name)
    assert all(len(commands) <= 1 for commands in at_leaves.values()), "something was sent twice"
    tree = rows(uid)
    assert all(row["finished_at"] is not None for row in tree)
    below = []
    for row in tree[1:]:
        if row["command_id"] is None:
            assert row["task_status"] != "SUCCESS" or not row["device"]
            continue
        subarray = finished(system.trl(f"subarray-{row['device'][-2:]}"))
        told = subarray[row["command_id"]]
        assert row["result_code"] == ResultCode(told["result"][0]).name
        leaves = [leaf for leaf in rows(row["command_id"]) if leaf["device"] in at_leaves]
        assert len(leaves) == LEAVES // 2
        below += leaves
    for leaf in below:
        assert leaf["finished_at"] is not None
        said = at_leaves[leaf["device"]].get(leaf["command_id"])
        if said is not None:
            assert leaf["result_code"] == ResultCode(said["result"][0]).name
        elif duration_at(int(leaf["device"][-2:])) > forgotten:
            assert leaf["task_status"] != "SUCCESS", "an outcome that nobody has told"
    return below


COMMANDS = ("On", "Reset", "Standby", "Reset")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_controller_knows_what_became_of_its_command(
    system: System, rows: Rows, number: int
) -> None:
    """A-17: all nodes are on disk, what went on is joined, and nothing is sent twice."""
    moment = random.Random(number).uniform(0.0, LONGEST + 0.3)  # noqa: S311 - not a secret
    controller, top = system.trl("controller"), server(system, "top")
    command = COMMANDS[number % len(COMMANDS)]
    fails = FAIL_RESET if command == "Reset" else ()
    ready(controller)
    truth = Truth(system)
    with LrcDevice(controller) as device:
        uid = str(device.invoke(command).command_id)
    time.sleep(moment)

    def look() -> None:
        tree = rows(uid)
        assert [row["uid"].removeprefix(uid) for row in tree] == [
            "",
            "/children",
            "/children/subarray-01",
            "/children/subarray-02",
        ]
        for row in tree:
            if row["finished_at"] is not None and not fails:
                assert row["task_status"] == "SUCCESS", "nothing has ended badly yet"

    kill_and_restart(top, look)

    end = end_of(controller, uid, top)
    below = assert_tree_is_true(rows, uid, command, truth, system)
    root, *nodes = rows(uid)
    code, message = end["result"]
    assert root["result_code"] == ResultCode(code).name
    sent = [row["command_id"] for row in nodes if row["device"]]
    if None in sent:  # killed before it had told both: what was not sent is aborted, with a text
        assert code != ResultCode.OK
        assert "was not sent before the restart" in message
        return
    assert len(below) == LEAVES
    failed = {row["device"] for row in below if row["task_status"] != "SUCCESS"}
    assert failed == {f"kill/leaf/{number:02}" for number in fails}
    assert (code == ResultCode.OK) is not bool(fails), message


@pytest.mark.slow
@pytest.mark.parametrize("names", [("top", "middle"), ("top", "middle", "leaves")], ids="-".join)
def test_servers_that_are_killed_together_know_what_can_be_known(
    system: System, rows: Rows, names: tuple[str, ...], wait_until: Callable[..., None]
) -> None:
    """A-17: what the leaves still know is joined; what nobody knows any more is LOST, and why."""
    controller, killed = system.trl("controller"), [server(system, name) for name in names]
    proxy = ready(controller)
    command = "Standby" if proxy.state() is tango.DevState.ON else "On"
    truth = Truth(system)
    slowest = system.trl(SLOWEST)
    if "leaves" in names:  # its new process takes the script of the topology again
        tango.DeviceProxy(slowest).script = json.dumps({"*": {"outcome": "never"}})
    began = time.monotonic()
    with LrcDevice(controller) as device:
        uid = str(device.invoke(command).command_id)
    if "leaves" in names:
        wait_until(lambda: executes(slowest, command))
    time.sleep(0.4)
    for process in reversed(killed):
        process.signal(signal.SIGKILL)
    forgotten = time.monotonic() - began if "leaves" in names else 0.0
    for process in killed:
        assert process.wait(5.0)
    for process in reversed(killed):
        process.start()

    end = end_of(controller, uid, killed[0], 60.0)
    below = assert_tree_is_true(rows, uid, command, truth, system, forgotten)
    code, message = end["result"]
    if "leaves" not in names:
        assert (end["status"], code) == ("COMPLETED", ResultCode.OK), message
        return
    lost = [row for row in below if row["task_status"] == "LOST"]
    assert lost
    assert all(row["message"] for row in lost)
    assert rows(uid)[0]["task_status"] == "LOST"
    assert code == ResultCode.UNKNOWN
    assert "lost" in message.lower()


@pytest.mark.slow
def test_a_controller_that_is_told_to_end_leaves_no_loose_end(
    system: System, rows: Rows, wait_until: Callable[..., None]
) -> None:
    """A-17: SIGTERM in mid-command drains within a bound; everything has a final state."""
    controller, top = system.trl("controller"), server(system, "top")
    proxy = ready(controller)
    if proxy.state() is tango.DevState.ON:
        with LrcDevice(controller) as device:
            assert device.invoke("Standby").wait(20.0)
    slowest = system.trl(SLOWEST)
    with never_ending(slowest):
        with LrcDevice(controller) as device:
            uid = str(device.invoke("On").command_id)
            wait_until(lambda: executes(slowest, "On"))
            second = "Standby" if proxy.state() is tango.DevState.OFF else "Off"
            queued = str(device.invoke(second).command_id)
        began = time.monotonic()
        top.signal(signal.SIGTERM)
        assert top.wait(10.0)
        seconds = time.monotonic() - began

    for command in (uid, queued):
        tree = rows(command)
        assert tree
        assert all(row["finished_at"] is not None for row in tree)
        assert tree[0]["cause"] == "ABORTED"
    assert seconds < 8.0

    top.start()
    assert end_of(controller, uid, top)["status"] == "ABORTED", (
        "it is still known after the restart"
    )


@pytest.mark.slow
def test_a_killed_subarray_finishes_its_configuration(system: System, rows: Rows) -> None:
    """A-17: the observing state and what is assigned survive, and Configure leads to READY."""
    trl, middle = system.trl("subarray-02"), server(system, "middle")
    proxy = ready(trl)
    with LrcDevice(trl) as device:
        if proxy.state() is not tango.DevState.ON:
            assert device.invoke("On").wait(20.0)
        assigned = device.invoke("AssignResources", '{"receptors": ["dish-1"]}').wait(20.0)
        assert assigned is not None
        assert assigned.is_ok, assigned.message
        uid = str(device.invoke("Configure", "{}").command_id)
    time.sleep(0.3)

    kill_and_restart(middle)

    end = end_of(trl, uid, middle)
    assert (end["status"], end["result"][0]) == ("COMPLETED", ResultCode.OK), end["result"]
    proxy = ready(trl)
    assert proxy.read_attribute("obsState").value == ObsState.READY
    assert proxy.read_attribute("assignedResources").value == ("dish-1",)
    assert [row["cause"] for row in rows(uid)] == [None] * len(rows(uid))


def test_a_device_tells_of_its_records(system: System, store: str) -> None:
    """QA-01, QA-08: commands for the record of one task, a page of them, and why one failed."""
    controller = system.trl("controller")
    proxy = ready(controller)
    with LrcDevice(controller) as device:
        if proxy.state() is not tango.DevState.ON:
            assert device.invoke("On").wait(20.0)
        outcome = device.invoke("Standby").wait(20.0)
    assert outcome is not None

    record = json.loads(proxy.GetTask(outcome.command_id))
    page = json.loads(proxy.QueryTasks('{"command": "Standby", "limit": 1}'))
    why = json.loads(proxy.ExplainTask(outcome.command_id))

    assert (record["device"], record["command"], record["status"]) == (
        "kill/control/0",
        "Standby",
        "SUCCESS",
    )
    assert record["issuer"]
    assert len(page["tasks"]) == 1
    assert why["task"]["uid"] == outcome.command_id
    assert proxy.recordStore.partition(":")[0].startswith(store.partition(":")[0])
    assert proxy.recordStoreAway is False
    with pytest.raises(tango.DevFailed, match="RecordNotFound"):
        proxy.GetTask("no such task")
    with pytest.raises(tango.DevFailed, match="RecordNotFound"):
        proxy.GetTask("9" * 30)
    with pytest.raises(tango.DevFailed, match="status: found 'GREEN'"):
        proxy.QueryTasks('{"status": "GREEN"}')
