"""What a device refuses, and what it takes only once: each has an answer, and leaves no trace."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tango
from tests.servers.plain_client import QUEUED, REJECTED, PlainClient

from milonga.deploy import System, Topology

EACH = 2000
"""Refusals of each of the five kinds."""

GROWTH_MB = 15

TOPOLOGY = """
name: refusals
subarrays:
  - {device: refusals/subarray/1, id: 1, server: one, children: [leaf]}
leaves:
  - {name: leaf, device: refusals/leaf/0, server: one}
"""

REPEATING_CLIENT = """
import json, sys, tango
proxy = tango.DeviceProxy(sys.argv[1])
print(json.dumps([[int(code[0]), text[0]] for code, text in
    (proxy.command_inout(sys.argv[2], sys.argv[3]) for _ in range(5))]))
"""


class Devices:
    """A subarray and its leaf, in one process, as seen by their clients."""

    def __init__(self, system: System, subarray: PlainClient, leaf: PlainClient) -> None:
        self.subarray = subarray
        self.leaf = leaf
        self.server = next(process for process in system.processes if process.name == "one")

    def script(self, **outcomes: object) -> None:
        """Tell the leaf what becomes of its commands."""
        self.leaf.proxy.script = json.dumps(outcomes)

    def memory(self) -> float:
        """Return what the server has in memory, in MB."""
        pages = int(Path(f"/proc/{self.server.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.fixture(scope="module")
def running() -> Iterator[Devices]:
    """Run the devices."""
    with System(Topology.from_text(TOPOLOGY)) as system, ExitStack() as stack:
        clients = [
            stack.enter_context(PlainClient(system.trl(name))) for name in ("subarray-01", "leaf")
        ]
        clients[0].wait_for_state("OFF")
        yield Devices(system, *clients)


@pytest.fixture
def devices(running: Devices) -> Iterator[Devices]:
    """Return the devices; afterwards a usual command must work as ever."""
    yield running
    running.script()
    running.subarray.wait_for_idle()
    if running.subarray.proxy.state() is not tango.DevState.OFF:
        running.subarray.run("Off")
    for command in ("On", "Off"):
        end = running.subarray.run(command)
        assert (end["status"], end["result"][0]) == (5, 0)
        assert running.subarray.proxy.state().name == command.upper()


@pytest.mark.slow
def test_ten_thousand_refusals_leave_no_record_and_no_memory(devices: Devices) -> None:
    """j.1, j.2: the original was of no use after 67 of them."""
    kinds = (_refused_by_full_queue, _bad_argument, _refused_by_script, _wrong_state, _aborted)
    for kind in kinds:  # warm-up: buffers and tables get their size
        kind(devices, EACH // 5)
    before = devices.memory()

    for kind in kinds:
        kind(devices, EACH)

    growth = devices.memory() - before
    print(f"{len(kinds) * EACH} refusals: {before:.1f} MB {growth:+.1f} MB")  # noqa: T201
    assert growth < GROWTH_MB
    for client in (devices.subarray, devices.leaf):
        assert client.proxy.lrcQueue == client.proxy.lrcExecuting == ()
        assert len(client.proxy.lrcFinished) <= 100
        assert len(client.proxy.longRunningCommandStatus) <= 132
        assert "STAGING" not in client.proxy.longRunningCommandStatus


@pytest.mark.parametrize(
    ("command", "command_id", "answer"),
    [
        ("CheckLongRunningCommandStatus", "", "NOT_FOUND"),
        ("CheckLongRunningCommandStatus", "1_2_On", "NOT_FOUND"),
        ("CheckLongRunningCommandStatus", "no id at all \xff", "NOT_FOUND"),
        ("CommandTree", "1_2_On", "{}"),
    ],
)
def test_an_unknown_id_is_said_to_be_unknown(
    devices: Devices, command: str, command_id: str, answer: str
) -> None:
    """(c): a question is never an error."""
    assert devices.subarray.proxy.command_inout(command, command_id) == answer


def test_an_unknown_command_cannot_be_aborted(devices: Devices) -> None:
    """AbortCommand names the id that it does not know."""
    assert devices.leaf.call("AbortCommand", "1_2_On") == (
        REJECTED,
        "No command with id '1_2_On' is known",
    )


def test_an_argument_of_the_wrong_type_is_tangos_to_refuse(devices: Devices) -> None:
    """A number for a text, and nothing for a text."""
    number = tango.DeviceData()
    number.insert(tango.CmdArgType.DevLong, 7)
    for argument in (number, tango.DeviceData()):
        for client in (devices.subarray, devices.leaf):
            known = client.proxy.lrcFinished
            with pytest.raises(tango.DevFailed):
                client.proxy.command_inout("Configure", argument)
            assert client.proxy.lrcFinished == known


@pytest.mark.parametrize("through", ["AssignResources", "SubmitCommand"])
def test_an_argument_that_is_too_long_is_refused_with_its_length(
    devices: Devices, through: str
) -> None:
    """One MiB is enough for everybody."""
    argument = json.dumps({"x": "y" * (1 << 20)})
    if through == "SubmitCommand":
        request = json.dumps({"command": "AssignResources", "argument": argument})
    else:
        request = argument

    code, text = devices.subarray.call(through, request)

    assert code == REJECTED
    assert f"argument has {len(argument)} characters; expected at most {1 << 20}" in text


def test_text_that_tango_cannot_send_is_written_with_escapes(devices: Devices) -> None:
    """Tango's texts are Latin-1: in an answer, in a result, and in what was assigned."""
    devices.script(On={"outcome": "refused", "message": "☃ is melting"})
    assert devices.leaf.call("On") == (REJECTED, "\\u2603 is melting")

    code, text = devices.subarray.call("AssignResources", '{"subarray_id": "\\u2603"}')
    assert (code, "subarray_id: found '\\u2603'" in text) == (REJECTED, True), text

    devices.script(Standby={"outcome": "failed", "message": "☃ has melted"})
    assert devices.leaf.run("Standby")["result"] == [3, "☃ has melted"]
    assert devices.leaf.proxy.longRunningCommandResult[1] == '[3, "\\u2603 has melted"]'

    utf_8 = '{"names": ["☃"]}'.encode()
    (code,), (uid,) = devices.subarray.proxy.command_inout("AssignResources", utf_8)
    assert code == QUEUED
    assert devices.subarray.end(uid)["status"] == 5
    assert len(devices.subarray.proxy.assignedResources) == 1
    devices.subarray.run("ReleaseAllResources")
    with pytest.raises(UnicodeError):  # what a client has not encoded never gets out of it
        devices.subarray.call("AssignResources", "☃")


@pytest.mark.parametrize(
    ("request_text", "told"),
    [
        ("", "value: found ''"),
        ("[]", "SubmitCommand: value: found []"),
        ("{}", "SubmitCommand: command: found {}"),
        ('{"command": "Explode"}', "command: found 'Explode'; expected one of On, Off"),
        ('{"command": "On", "lrc_key": 5}', "lrc_key: found 5"),
        ('{"command": "On", "lrc_key": ""}', "lrc_key: found 0 characters; expected 1 to 200"),
        ('{"command": "On", "what": 1}', "what: found 1"),
    ],
)
def test_a_wrong_request_is_rejected_by_the_name_of_its_field(
    devices: Devices, request_text: str, told: str
) -> None:
    """SubmitCommand checks what it gets before anything happens."""
    code, text = devices.subarray.call("SubmitCommand", request_text)

    assert (code, told in text) == (REJECTED, True), text


# Calls with a key


@pytest.fixture(params=["in the argument", "in a request"])
def keyed(request: pytest.FixtureRequest) -> Callable[[str, int], tuple[str, str]]:
    """Return what makes command and argument of a keyed AssignResources, in each form."""

    def make(key: str, number: int) -> tuple[str, str]:
        argument = {"subarray_id": 1, "number": number}
        if request.param == "in the argument":
            return "AssignResources", json.dumps(argument | {"lrc_key": key})
        return "SubmitCommand", json.dumps(
            {"command": "AssignResources", "argument": argument, "lrc_key": key}
        )

    return make


@pytest.mark.parametrize("repeat", ["one client", "five threads", "two processes"])
def test_a_call_that_is_repeated_with_its_key_is_done_once(
    devices: Devices,
    keyed: Callable[[str, int], tuple[str, str]],
    repeat: str,
    request: pytest.FixtureRequest,
) -> None:
    """Equal ids, and the leaf below saw one command."""
    done = len(_assignments(devices))
    command, argument = keyed(request.node.name, 1)
    devices.script(AssignResources={"duration": 0.1})

    replies = REPEATS[repeat](devices.subarray.proxy, command, argument)

    ((code, uid),) = set(replies)
    assert (code, len(replies)) == (QUEUED, 10 if repeat == "two processes" else 5)
    assert devices.subarray.end(uid)["status"] == 5
    assert devices.subarray.ended(uid) == 1
    assert len(_assignments(devices)) == done + 1
    assert devices.subarray.call(command, argument) == (QUEUED, uid), "also when it has ended"
    code, text = devices.subarray.call(*keyed(request.node.name, 2))
    assert code == REJECTED
    assert "which was used for another command or argument; expected a new key" in text
    assert len(_assignments(devices)) == done + 1
    devices.subarray.run("ReleaseAllResources")


def test_a_refused_call_may_be_tried_again_with_its_key(devices: Devices) -> None:
    """Its key is not used up."""
    devices.script(Standby={"outcome": "refused", "message": "not yet"})
    request = json.dumps({"command": "Standby", "lrc_key": "again"})
    assert devices.leaf.call("SubmitCommand", request) == (REJECTED, "not yet")
    devices.script()

    code, uid = devices.leaf.call("SubmitCommand", request)

    assert code == QUEUED
    assert devices.leaf.end(uid)["status"] == 5


def test_who_called_and_in_which_transaction_can_be_read_at_every_level(devices: Devices) -> None:
    """The parent shows the client, the leaf shows the parent; both show the transaction."""
    argument = {"transaction_id": "txn-7"}
    _, uid = devices.subarray.call("AssignResources", json.dumps(argument))
    devices.subarray.end(uid)

    entry = devices.subarray.finished(uid)
    assert entry["transaction_id"] == "txn-7"
    assert entry["client"]["pid"] == os.getpid()
    assert entry["client"]["host"]
    below = _assignments(devices)[-1]
    assert below["transaction_id"] == "txn-7"
    assert below["client"]["pid"] == devices.server.pid
    request = {"command": "ReleaseAllResources", "transaction_id": "txn-8"}
    _, uid = devices.subarray.call("SubmitCommand", json.dumps(request))
    devices.subarray.end(uid)
    assert devices.subarray.finished(uid)["transaction_id"] == "txn-8"


def _whole_name(proxy: tango.DeviceProxy) -> str:
    """Return the locator with the database, which another process may not know."""
    return f"tango://{proxy.get_db_host()}:{proxy.get_db_port()}/{proxy.dev_name()}"


def _assignments(devices: Devices) -> list[dict[str, object]]:
    entries = map(json.loads, devices.leaf.proxy.lrcFinished)
    return [entry for entry in entries if entry["name"] == "AssignResources"]


def _one_client(proxy: tango.DeviceProxy, command: str, argument: str) -> list[tuple[int, str]]:
    replies = [proxy.command_inout(command, argument) for _ in range(5)]
    return [(int(code[0]), str(text[0])) for code, text in replies]


def _five_threads(proxy: tango.DeviceProxy, command: str, argument: str) -> list[tuple[int, str]]:
    replies: list[tuple[int, str]] = []
    together = threading.Barrier(5)

    def call() -> None:
        own = tango.DeviceProxy(_whole_name(proxy))
        together.wait()
        (code,), (text,) = own.command_inout(command, argument)
        replies.append((int(code), str(text)))

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


def _two_processes(proxy: tango.DeviceProxy, command: str, argument: str) -> list[tuple[int, str]]:
    arguments = [sys.executable, "-c", REPEATING_CLIENT, _whole_name(proxy), command, argument]
    clients = [subprocess.Popen(arguments, stdout=subprocess.PIPE) for _ in range(2)]
    return [
        (code, text)
        for client in clients
        for code, text in json.loads(client.communicate(timeout=60)[0])
    ]


REPEATS: dict[str, Callable[[tango.DeviceProxy, str, str], list[tuple[int, str]]]] = {
    "one client": _one_client,
    "five threads": _five_threads,
    "two processes": _two_processes,
}


# Kinds of refusals


def _refused_by_full_queue(devices: Devices, count: int) -> None:
    devices.script(Configure={"outcome": "never"})
    for _ in range(33):
        assert devices.leaf.call("Configure", "{}")[0] == QUEUED
    full = (REJECTED, "Input queue supports a maximum of 32 commands")
    for _ in range(count):
        assert devices.leaf.call("Configure", "{}") == full
    devices.leaf.run("Abort")
    devices.leaf.wait_for_idle()


def _bad_argument(devices: Devices, count: int) -> None:
    for _ in range(count):
        assert devices.subarray.call("AssignResources", '{"subarray_id": 0}')[0] == REJECTED


def _refused_by_script(devices: Devices, count: int) -> None:
    devices.script(Configure={"outcome": "refused"}, End={"outcome": "rejected"})
    for number in range(count):
        if number % 10:
            assert devices.leaf.call("Configure", "{}") == (REJECTED, "Configure was refused")
        else:
            assert devices.leaf.run("End")["status"] == 6


def _wrong_state(devices: Devices, count: int) -> None:
    for _ in range(count):
        with pytest.raises(tango.DevFailed):
            devices.subarray.call("EndScan")


def _aborted(devices: Devices, count: int) -> None:
    devices.script(Configure={"outcome": "never"})
    for _ in range(0, count, 20):
        ids = [devices.leaf.call("Configure", "{}")[1] for _ in range(20)]
        assert devices.leaf.proxy.command_inout("AbortCommand", ids[-1])[0][0] == 0
        devices.leaf.run("Abort")
        for uid in ids:
            assert devices.leaf.end(uid)["status"] == 3
            del devices.leaf.news[uid]
        devices.leaf.wait_for_idle()
