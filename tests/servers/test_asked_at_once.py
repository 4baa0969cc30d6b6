"""Records that are asked for in the moment in which their command was accepted."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tango

from milonga.deploy import System, Topology

TOPOLOGY = """
name: hurry
records: {durable: false}
subarrays: [{device: hurry/subarray/1, id: 1, server: one, children: [leaf]}]
leaves:
  - name: leaf
    device: hurry/leaf/0
    server: one
    script: {"*": {duration: 0.05}}
"""
"""No command waits for its record, so that each is asked for before it is written."""


@pytest.fixture
def subarray(wait_until: Callable[..., None]) -> Iterator[tango.DeviceProxy]:
    """Run a subarray, which has found its child."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        proxy = tango.DeviceProxy(system.trl("subarray-01"))
        wait_until(lambda: proxy.state() not in {tango.DevState.UNKNOWN, tango.DevState.DISABLE})
        yield proxy


def get(subarray: tango.DeviceProxy, uid: str) -> Any:
    """Read the record."""
    return json.loads(subarray.GetTask(uid))["uid"]


def query(subarray: tango.DeviceProxy, _: str) -> Any:
    """Read the newest record."""
    return json.loads(subarray.QueryTasks('{"limit": 1}'))["tasks"][0]["uid"]


def explain(subarray: tango.DeviceProxy, uid: str) -> Any:
    """Ask what the command waits for."""
    return json.loads(subarray.ExplainTask(uid))["task"]["uid"]


def subscribe(subarray: tango.DeviceProxy, uid: str) -> Any:
    """Have a hook called."""
    wish = {"uid": uid, "webhookHref": "http://127.0.0.1:9/"}
    return json.loads(subarray.SubscribeTask(json.dumps(wish)))["uid"]


def test_whoever_was_told_an_id_finds_its_record(
    subarray: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """QA-01, QW-01: an answer has all that came before the question."""
    for question in [get, query, explain, subscribe] * 2:
        for command in ("On", "Off"):
            _, (uid,) = subarray.command_inout(command)
            assert question(subarray, uid) == uid
            wait_until(lambda: not subarray.lrcQueue and not subarray.lrcExecuting)
            wait_until(lambda name=command: subarray.state().name == name.upper())
