"""Traces and logs of one command, across the processes that it goes through."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers.trace_collector import Span, TraceCollector

from milonga.deploy import System, Topology

PLAN = {"plan": "milonga.engine.plans:count", "arguments": {"detectors": ["detector"], "num": 1}}


def topology(environment: dict[str, str]) -> Topology:
    """Return a controller over two subarrays, one after the other; On runs a plan as well."""
    servers = ("parents", "leaves", "instruments")
    data: dict[str, Any] = {
        "name": "traced",
        "controller": {"device": "traced/control/1", "server": "parents"},
        "subarrays": [
            {
                "device": f"traced/subarray/{n}",
                "id": n,
                "server": "parents",
                "children": [f"leaf-{n}"],
                "plans": [PLAN["plan"]],
            }
            for n in (1, 2)
        ],
        "leaves": [
            {"name": f"leaf-{n}", "device": f"traced/leaf/{n}", "server": "leaves"} for n in (1, 2)
        ],
        "plan_devices": [
            {"name": "detector", "device": "traced/detector/1", "type": "detector"}
            | {"server": "instruments"}
        ],
        "command_map": {
            "controller": {"On": {"tasks": {"subarray-01": {}, "subarray-02": {}}}},
            "subarray": {"On": {"tasks": {"leaf": {"target": "*"}, "look": PLAN}}},
        },
        "servers": {name: {"environment": environment} for name in servers},
    }
    return Topology.from_text(json.dumps(data))


@pytest.fixture(scope="module")
def collector() -> Iterator[TraceCollector]:
    """Receive traces."""
    with TraceCollector() as running:
        yield running


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the servers' logs."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def traced(collector: TraceCollector, logs: Path) -> Iterator[System]:
    """Run a system with telemetry and JSON logs."""
    environment = collector.environment | {"MILONGA_LOG_FORMAT": "json"}
    with System(topology(environment), log_folder=logs) as system:
        yield system


@pytest.fixture(scope="module")
def command_id(traced: System, collector: TraceCollector) -> str:
    """Call On as a client that sends traces too; return the id of the command."""
    request = json.dumps({"command": "On", "transaction_id": "txn-7"})
    client = (
        "import json, tango; from milonga.lrc import client;"
        f"device = tango.DeviceProxy({traced.trl('controller')!r});"
        f"print(device.SubmitCommand({request!r})[1][0])"
    )
    more = {"PYTANGO_TELEMETRY_CLIENT_SERVICE_NAME": "the client"}
    done = subprocess.run(
        [sys.executable, "-c", client],
        env=os.environ | collector.environment | more,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def above(span: Span, spans: dict[str, Span]) -> list[Span]:
    """Return a span and all that it is part of, from below."""
    found = [span]
    while found[-1].parent_id in spans:
        found.append(spans[found[-1].parent_id])
    return found


def test_one_trace_from_the_client_to_the_leaves_and_the_plan(
    collector: TraceCollector, command_id: str, wait_until: Callable[..., None]
) -> None:
    """Each command is a span below that of the command which caused it, and the client's call."""

    def commands() -> dict[str, Span]:
        return {s.name: s for s in collector.spans() if "milonga.command_id" in s.attributes}

    wait_until(lambda: "traced/control/1 On" in commands(), 30.0)
    top = commands()["traced/control/1 On"]

    def spans() -> dict[str, Span]:
        return {s.span_id: s for s in collector.spans() if s.trace_id == top.trace_id}

    def is_complete() -> bool:
        known = spans()
        services = {span.service for span in known.values()}
        here = {"the client", "DetectorSimulator"} <= services and len(commands()) >= 5
        return here and all(s.parent_id in known for s in known.values() if s.parent_id)

    wait_until(is_complete, 30.0)
    for number in (1, 2):
        leaf = commands()[f"traced/leaf/{number} On"]
        names = [span.name for span in above(leaf, spans()) if "milonga.device" in span.attributes]
        expected = [f"traced/leaf/{number} On", f"traced/subarray/{number} On", top.name]
        assert names == expected
        assert above(leaf, spans())[-1].service == "the client"

    def over_exposures() -> set[str]:
        known = spans()
        exposures = [s for s in known.values() if s.name == "DetectorSimulator.Start"]
        return {
            span.name
            for exposure in exposures
            for span in above(exposure, known)
            if "milonga.device" in span.attributes
        }

    commands_with_plans = {"traced/subarray/1 On", "traced/subarray/2 On", top.name}
    wait_until(lambda: over_exposures() == commands_with_plans, 30.0)
    assert top.attributes["milonga.command_id"] == command_id
    assert top.attributes["milonga.result_code"] == "OK"
    assert top.attributes["milonga.transaction_id"] == "txn-7"


def test_json_logs_name_device_command_and_transaction(
    logs: Path, command_id: str, wait_until: Callable[..., None]
) -> None:
    """What the engine logs on its own thread is told as part of the subarray's command."""

    def lines() -> list[dict[str, Any]]:
        *whole, _ = (logs / "parents.log").read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in whole if line.startswith("{")]

    def of_plans() -> list[dict[str, Any]]:
        found = (line for line in lines() if line["logger"].startswith("bluesky"))
        return [line for line in found if "command_id" in line]

    wait_until(lambda: {line["device"] for line in of_plans()} >= DEVICES, 30.0)
    line = of_plans()[0]
    assert line["command_id"].endswith("_On")
    assert line["level"] == "INFO"
    assert len(line["trace_id"]) == 32
    assert any(f"{command_id} QUEUED, called by" in line["message"] for line in lines())


DEVICES = {"traced/subarray/1", "traced/subarray/2"}
