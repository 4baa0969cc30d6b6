"""Many commands, one after the other and all at once: every end is told, and told once."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest
import tango
from tests.servers.plain_client import QUEUED, REJECTED, PlainClient, Recorder

from milonga.deploy import System, Topology

COMMANDS = 300

TOPOLOGY = """
name: throughput
subarrays:
  - {device: many/subarray/1, id: 1, server: shared, children: [alone, small, large]}
leaves:
  - {name: alone, device: many/leaf/0, server: alone, properties: {MaxQueuedTasks: 512}}
  - {name: small, device: many/leaf/1, server: shared}
  - {name: large, device: many/leaf/2, server: shared, properties: {MaxQueuedTasks: 512}}
"""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Run a leaf that is alone in its process, and two that share one."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        yield system


def test_a_client_that_waits_for_each_end_sees_them_all(system: System) -> None:
    """j.4: the original needs 100 ms for each of these."""
    with PlainClient(system.trl("alone")) as client:
        ids = []
        for number in range(COMMANDS):
            code, uid = client.call("Standby" if number % 2 else "On")
            assert code == QUEUED
            assert client.end(uid)["result"][0] == 0
            ids.append(uid)

        assert Counter(client.ended(uid) for uid in ids) == {1: COMMANDS}
        assert _finished(client) == ids[-100:]


@pytest.mark.parametrize("leaf", ["alone", "large"])
def test_a_burst_is_queued_and_every_end_is_seen_once(system: System, leaf: str) -> None:
    """j.3: also beside a device of the same class that has a shorter queue."""
    with (
        PlainClient(system.trl(leaf)) as client,
        Recorder(client.proxy, "longRunningCommandResult") as results,
    ):
        replies = [client.call("Configure", json.dumps({"n": n})) for n in range(COMMANDS)]
        assert {code for code, _ in replies} == {QUEUED}
        ids = [uid for _, uid in replies]
        for uid in ids:
            client.end(uid)
        results.wait_until(lambda events: events[-1][1][0] == ids[-1])

        assert Counter(client.ended(uid) for uid in ids) == {1: COMMANDS}
        assert [uid for uid in map(_uid, results.values) if uid in set(ids)] == ids
        assert _finished(client) == ids[-100:]
        client.wait_for_idle()


def test_two_devices_of_one_process_have_queues_of_their_own(system: System) -> None:
    """j.3: the attributes of both hold what the longer queue needs; each takes what it may."""
    with (
        PlainClient(system.trl("small")) as small,
        PlainClient(system.trl("large")) as large,
    ):
        for client in (small, large):
            client.proxy.script = json.dumps({"Scan": {"outcome": "never"}})
            assert _dimension(client.proxy, "lrcQueue") >= 2 * 512 + 2
        taken = {
            client: [client.call("Scan", "{}") for _ in range(40)] for client in (small, large)
        }

        assert Counter(code for code, _ in taken[small]) == {QUEUED: 33, REJECTED: 7}
        assert Counter(code for code, _ in taken[large]) == {QUEUED: 40}
        for client in (small, large):
            client.run("Abort")
            ids = [uid for code, uid in taken[client] if code == QUEUED]
            assert {client.end(uid)["status"] for uid in ids} == {3}
            assert Counter(client.ended(uid) for uid in ids) == {1: len(ids)}
            client.proxy.script = "{}"
            assert client.run("Scan", "{}")["status"] == 5


def _finished(client: PlainClient) -> list[str]:
    return [json.loads(text)["uid"] for text in client.proxy.lrcFinished]


def _uid(value: object) -> object:
    return value[0] if isinstance(value, tuple) and value else None


def _dimension(proxy: tango.DeviceProxy, attribute: str) -> int:
    return int(proxy.get_attribute_config(attribute).max_dim_x)
