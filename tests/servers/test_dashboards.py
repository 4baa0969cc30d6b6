"""The generated Taranta dashboards against a running system, through TangoGQL.

TangoGQL is all that Taranta talks to: what a widget shows is a query or a subscription there, and
a button is a mutation.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from milonga.deploy import System, Topology, dashboards, examples_folder, write_dashboards
from milonga.errors import DeploymentError
from milonga.lrc.task_tree import read_document

from ..free_ports import free_port

tangogql = pytest.importorskip("tangogql", reason="TangoGQL is not installed: pip install tangogql")
websockets = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")

MID_CSP = examples_folder() / "mid-csp"
TOPOLOGY = Topology.load(MID_CSP / "topology.yaml")
BOARDS = dashboards(TOPOLOGY)
SUBARRAY = "mid-csp/subarray/01"

KINDS = {"LABEL", "ATTRIBUTE_DISPLAY", "COMMAND", "DEVICE_STATUS"}
DEVICE = """query($name: String!) { device(name: $name) {
  name connected state
  attributes { name value }
  commands { name intype outtype } } }"""
EXECUTE = """mutation($device: String!, $command: String!, $argin: ScalarTypes) {
  executeCommand(device: $device, command: $command, argin: $argin) { ok message output } }"""
LISTEN = """subscription($names: [String]!) { attributes(fullNames: $names) {
  fullName attribute value quality error { reason desc } } }"""


class Gateway:
    """A TangoGQL as its clients see it."""

    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20.0)
        self.socket = f"ws://127.0.0.1:{port}/socket"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Send a query or a mutation."""
        answer = self._http.post("/db", json={"query": query, "variables": variables}).json()
        assert not answer.get("errors"), answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def execute(self, device: str, command: str, argument: str | None = None) -> dict[str, Any]:
        """Call a command, as a button does."""
        told: dict[str, Any] = self.ask(EXECUTE, device=device, command=command, argin=argument)
        return told["executeCommand"]  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()


@pytest.fixture(scope="module")
def gateway(mid_csp: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run TangoGQL beside the system."""
    port = free_port()
    folder = tmp_path_factory.mktemp("tangogql")
    place = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    environment = os.environ | {"TANGO_HOST": mid_csp.tango_host, "TANGOGQL_NO_AUTH": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "tangogql.main:app", *place],
            cwd=folder,
            env=environment | {"TANGOGQL_ATTRIBUTE_POLL_PERIOD": "0.5"},
            stdout=log,
            stderr=log,
        )
    gateway = Gateway(port)
    try:
        _wait_until_listening(process, port, folder / "log")
        yield gateway
    finally:
        gateway.close()
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + 30.0
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        else:
            return


def widgets(kind: str) -> list[dict[str, Any]]:
    """Give the inputs of all widgets of a kind, of all boards."""
    return [
        widget["inputs"]
        for board in BOARDS.values()
        for widget in board["widget"]
        if widget["type"] == kind
    ]


def test_each_device_attribute_and_command_of_a_widget_exists_and_answers(
    gateway: Gateway,
) -> None:
    """A widget that names something else would stay empty."""
    shown = {
        (inputs["attribute"]["device"], inputs["attribute"]["attribute"])
        for inputs in widgets("ATTRIBUTE_DISPLAY")
    }
    buttons = {
        (part["device"], part["command"], part["acceptedType"], part["outtype"])
        for part in (inputs["command"] for inputs in widgets("COMMAND"))
    }
    lamps = {inputs["device"] for inputs in widgets("DEVICE_STATUS")}

    assert lamps == {entry.device for entry in TOPOLOGY.devices}
    found = {name: gateway.ask(DEVICE, name=name)["device"] for name in lamps}
    attributes = {
        (name, each["name"].lower()) for name, told in found.items() for each in told["attributes"]
    }
    commands = {
        (name, each["name"], each["intype"], each["outtype"])
        for name, told in found.items()
        for each in told["commands"]
    }
    assert all(told["connected"] for told in found.values())
    assert shown <= attributes
    assert buttons <= commands
    assert len(shown) > 50
    assert len(buttons) > 50
    values = {
        (name, each["name"].lower()): each["value"]
        for name, told in found.items()
        for each in told["attributes"]
    }
    spectra = {"lrcqueue", "lrcexecuting", "lrcfinished", "childrenoutofservice"}
    empty = {key for key in shown if values[key] is None}
    assert {name for _, name in empty} <= spectra | {
        "longrunningcommandprogress",
        "longrunningcommandresult",
    }


def test_values_arrive_over_the_websocket_while_a_command_runs(
    gateway: Gateway, mid_csp: System
) -> None:
    """A button's mutation runs On; then the tree and the progress are seen as they change."""
    answer = gateway.execute(SUBARRAY, "On")
    assert answer["ok"], answer
    uid = answer["output"][1][0]
    names = [f"{SUBARRAY}/{name}" for name in ("tasktree", "state", "lrcexecuting", "obsstate")]
    with websockets.connect(gateway.socket, subprotocols=["graphql-ws"]) as client:
        client.send(json.dumps({"type": "connection_init", "payload": {}}))
        assert json.loads(client.recv(10.0))["type"] == "connection_ack"
        payload = {"query": LISTEN, "variables": {"names": names}}
        client.send(json.dumps({"id": "1", "type": "start", "payload": payload}))
        _hear(client, lambda seen: seen.get("state") == ["ON"] or seen.get("state") == "ON")
        assign = (MID_CSP / "assignresources.json").read_text()
        assert gateway.execute(SUBARRAY, "AssignResources", assign)["ok"]
        _hear(client, lambda seen: _command(seen, "AssignResources").get("status") == "COMPLETED")
        configure = (MID_CSP / "configure.json").read_text()
        assert gateway.execute(SUBARRAY, "Configure", configure)["ok"]
        heard: list[dict[str, Any]] = []
        _hear(
            client,
            lambda seen: _command(seen, "Configure").get("status") == "COMPLETED",
            lambda seen: heard.append(_command(seen, "Configure")),
        )

    assert re.match(r"[\d._]+_On$", uid)
    running = [node for node in heard if node.get("status") == "IN_PROGRESS"]
    assert running
    assert any(node["waits_for"] for node in running)
    progress = [node.get("progress", 0) for node in heard if node]
    assert progress == sorted(progress)
    assert progress[-1] == 100


def _hear(client: Any, done: Any, note: Any = id) -> None:
    """Take what is told until it is what is waited for."""
    seen: dict[str, Any] = {}
    end = time.monotonic() + 20.0
    while not done(seen):
        told = json.loads(client.recv(max(0.1, end - time.monotonic())))
        if told["type"] != "data":
            continue
        news = told["payload"]["data"]["attributes"]
        if news["error"] is None:
            seen[news["attribute"].lower()] = news["value"]
            note(seen)


def _command(seen: dict[str, Any], name: str) -> dict[str, Any]:
    """Find a command in the tree that was told last."""
    text = seen.get("tasktree")
    if not text:
        return {}
    commands = read_document(text[0] if isinstance(text, list) else text)["commands"]
    return next((node for node in reversed(commands) if node["name"] == name), {})


def test_a_dry_run_is_a_button_too(gateway: Gateway) -> None:
    """Its answer is shown as it comes."""
    answer = gateway.execute(SUBARRAY, "DryRun", json.dumps({"command": "Restart"}))

    told = json.loads(answer["output"])
    assert not told["accepted"]
    assert told["refusals"][0]["kind"] == "state"


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_what_taranta_takes(name: str) -> None:
    """Unique ids, known kinds, names of attributes in lower case, nothing over anything else."""
    board = BOARDS[name]
    widgets = board["widget"]

    assert len({widget["id"] for widget in widgets}) == len(widgets)
    assert {widget["type"] for widget in widgets} <= KINDS
    for widget in widgets:
        attribute = widget["inputs"].get("attribute")
        assert attribute is None or attribute["attribute"].islower()
        for style in ("widgetCss", "btnCss"):
            assert ";" not in widget["inputs"].get(style, "")
    taken: set[tuple[int, int]] = set()
    for widget in widgets:
        place = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not taken & place
        taken |= place


def test_the_boards_are_those_of_the_system(tmp_path: Path) -> None:
    """One for each device that commands others, and for its plans if it has some."""
    files = write_dashboards(TOPOLOGY, tmp_path / "new" / "boards")

    assert [file.stem.removeprefix("mid-csp-") for file in files] == [
        "overview",
        "controller",
        "subarray-02",
        "subarray-01",
        "subarray-01-plans",
    ]
    assert json.loads(files[0].read_text()) == BOARDS[files[0].name]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """In one line."""
    (tmp_path / "file").write_text("")

    with pytest.raises(DeploymentError, match=r"dashboards: .*file.* cannot be written"):
        write_dashboards(TOPOLOGY, tmp_path / "file")
