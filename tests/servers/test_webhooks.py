"""Webhooks of a device: a receiver on loopback that refuses for a while, then accepts."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import tango

from milonga.control_model import ResultCode
from milonga.deploy import Process, System, Topology
from milonga.lrc import Invocation, LrcDevice
from milonga.webhooks import SIGNATURE_HEADER, verify

SECRET = "between you and me"
TOPOLOGY = f"""
name: hooked
controller: {{device: hooked/control/0, server: top}}
subarrays: [{{device: hooked/subarray/1, id: 1, server: low, children: [leaf]}}]
leaves: [{{name: leaf, device: hooked/leaf/1, server: low, script: {{"*": {{duration: 0.03}}}}}}]
servers:
  top: {{environment: {{MILONGA_WEBHOOK_SECRET: {SECRET}}}}}
command_map:
  controller:
    Standby: {{tasks: {{ask: {{prompt: "Go on?"}}}}}}
"""
LONG = 60.0
"""Seconds for what waits for a lease or a back-off to run out."""


class Receiver:
    """An HTTP server that refuses until it is told to accept."""

    def __init__(self) -> None:
        self.accepts = False
        self.refused = 0
        self.events: list[dict[str, Any]] = []
        self.unsigned: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            """Notes requests."""

            def do_POST(self) -> None:
                """Take a message, or refuse it."""
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                header = self.headers.get(SIGNATURE_HEADER, "")
                self.send_response(receiver.take(urlsplit(self.path).query, body, header))
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def take(self, query: str, body: bytes, header: str) -> int:
        """Keep a message; return the answer's status."""
        if not verify(SECRET.encode(), body, header, time.time()):
            self.unsigned.append(header)
        if not self.accepts:
            self.refused += 1
            return 503
        event = json.loads(body)
        assert parse_qs(query)["event"] == [event["event"]]
        self.events.append(event)
        return 204

    def of(self, uid: str) -> list[dict[str, Any]]:
        """Return what was accepted about a task; what came twice counts once."""
        seen = {event["sequence"]: event for event in self.events if event["uid"] == uid}
        return list(seen.values())

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Run a controller whose Standby asks."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        yield system


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver that refuses."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def proxy(system: System, wait_until: Callable[..., None]) -> tango.DeviceProxy:
    """Return the controller, once it has found its child."""
    proxy = tango.DeviceProxy(system.trl("controller"))
    wait_until(lambda: proxy.state() not in {tango.DevState.UNKNOWN, tango.DevState.DISABLE})
    return proxy


def asking(device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]) -> str:
    """Start the command that asks; return its id once it waits."""
    if proxy.state() is tango.DevState.STANDBY:
        ended(device.invoke("On"))
    uid = str(device.invoke("Standby").command_id)
    wait_until(lambda: json.loads(record(proxy, uid) or "{}").get("phase") == "PAUSED")
    return uid


def ended(invocation: Invocation) -> None:
    """Wait for a command's good end."""
    outcome = invocation.wait(20.0)
    assert outcome is not None
    assert outcome.is_ok, outcome.message


def subscribed(proxy: tango.DeviceProxy, uid: str, receiver: Receiver, **wish: Any) -> None:
    """Subscribe to a task."""
    proxy.SubscribeTask(json.dumps({"uid": uid, "webhookHref": receiver.url} | wish))


def cleared(proxy: tango.DeviceProxy, uid: str) -> None:
    """Answer the command's question."""
    (code,), (text,) = proxy.ClearStep(json.dumps({"task": uid}))
    assert code == ResultCode.OK, text


def test_a_receiver_that_refused_hears_of_everything_in_order(
    system: System, proxy: tango.DeviceProxy, receiver: Receiver, wait_until: Callable[..., None]
) -> None:
    """QW-01 to QW-06: each event once or more, in order, signed; the end comes last."""
    with LrcDevice(system.trl("controller")) as device:
        uid = asking(device, proxy, wait_until)
        subscribed(proxy, uid, receiver)
        cleared(proxy, uid)
        wait_until(lambda: receiver.refused >= 4, LONG)
        assert receiver.events == []
        receiver.accepts = True
        wait_until(lambda: any(event["event"] == "status" for event in receiver.of(uid)), LONG)

    events = receiver.of(uid)
    sequences = [event["sequence"] for event in events]
    assert sequences == sorted(sequences)
    assert {event["event"] for event in events} >= {"steps", "status"}
    status = [event for event in events if event["event"] == "status"]
    assert [event["status"] for event in status] == ["SUCCESS"]
    assert events[-1] == status[0]
    assert receiver.unsigned == []


def test_only_what_was_asked_for_is_told(
    system: System, proxy: tango.DeviceProxy, receiver: Receiver, wait_until: Callable[..., None]
) -> None:
    """QA-06, QA-07: a second subscription is none; one that is ended tells nothing."""
    receiver.accepts = True
    with LrcDevice(system.trl("controller")) as device:
        uid = asking(device, proxy, wait_until)
        for _ in range(2):
            subscribed(proxy, uid, receiver, event="status")
        subscribed(proxy, uid, receiver, event="steps")
        wish = {"uid": uid, "webhookHref": receiver.url, "event": "steps"}
        proxy.UnsubscribeTask(json.dumps(wish))
        cleared(proxy, uid)
        wait_until(lambda: receiver.of(uid) != [], LONG)

    assert [event["event"] for event in receiver.of(uid)] == ["status"]


def test_a_stranger_is_not_called(proxy: tango.DeviceProxy, system: System) -> None:
    """QW-06: refused when it subscribes, with what is allowed."""
    with LrcDevice(system.trl("controller")) as device:
        invocation = device.invoke("Reset" if proxy.state() is tango.DevState.ON else "On")
        ended(invocation)
    for href, text in (
        ("http://192.0.2.1/hook", "found host '192.0.2.1', expected a loopback address"),
        ("http://user:pw@127.0.0.1/", "found a URL with credentials"),
        ("file:///etc/passwd", "URL"),
    ):
        wish = json.dumps({"uid": invocation.command_id, "webhookHref": href})
        with pytest.raises(tango.DevFailed, match=text):
            proxy.SubscribeTask(wish)


def test_subscriptions_and_messages_survive_a_restart(
    system: System, proxy: tango.DeviceProxy, receiver: Receiver, wait_until: Callable[..., None]
) -> None:
    """QW-05, IN-09: the server is killed while it waits for a person and for the receiver."""
    with LrcDevice(system.trl("controller")) as device:
        uid = asking(device, proxy, wait_until)
    subscribed(proxy, uid, receiver)
    top = server(system, "top")
    top.signal(signal.SIGKILL)
    assert top.wait(5.0)
    top.start()
    wait_until(lambda: json.loads(record(proxy, uid) or "{}").get("finishedAt") is not None, LONG)
    receiver.accepts = True
    wait_until(lambda: any(event["event"] == "status" for event in receiver.of(uid)), LONG)

    (status,) = [event for event in receiver.of(uid) if event["event"] == "status"]
    assert status["status"] == "FAILURE"
    told = json.loads(proxy.GetTask(uid))
    assert told["cause"] == "ABORTED"
    assert "waited for a person when the device server ended" in told["message"]
    assert [step["cleared"] for step in told["steps"]] == [True]
    assert receiver.unsigned == []


def server(system: System, name: str) -> Process:
    """Return the process of a server."""
    return next(process for process in system.processes if process.name == name)


def record(proxy: tango.DeviceProxy, uid: str) -> str:
    """Return a record; empty while the device is away."""
    try:
        return str(proxy.GetTask(uid))
    except tango.DevFailed:
        return ""
