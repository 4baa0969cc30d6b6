"""Metrics and probes of real servers: what they count, and whether they tell the truth."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tango
from prometheus_client.parser import text_string_to_metric_families

from milonga.control_model import TaskStatus
from milonga.deploy import Topology
from milonga.lrc import LrcDevice
from milonga.testing import FaultySystem

HERE = Path(__file__).parent
LIMIT = 10.0
"""Seconds in which a probe has to notice."""

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


def topology() -> Topology:
    """Return a subarray over a leaf that can be blocked; the subarray has a plan that blocks."""
    own: dict[str, Any] = {
        "command": ["{python}", str(HERE / "blocking_server.py")],
        "tango_name": "blocking-server",
        "classes": ["BlockingLeaf"],
    }
    environment = {"MILONGA_HEALTH_PORT": "0", "PYTHONPATH": str(HERE)}
    data = {
        "name": "monitored",
        "defaults": {"timeout": 20.0},
        "subarrays": [
            {
                "device": "mon/subarray/1",
                "id": 1,
                "server": "parents",
                "children": ["good", "bad"],
                "plans": ["site_plans:blocking"],
            }
        ],
        "leaves": [
            {"name": "good", "device": "mon/good/1", "server": "leaves"},
            {"name": "bad", "device": "mon/bad/1", "server": "own", "class": "BlockingLeaf"},
        ],
        "servers": {
            "parents": {"environment": environment},
            "own": own | {"environment": environment},
        },
    }
    return Topology.from_text(json.dumps(data))


class Monitored:
    """A running system, and the probes and metrics of its servers."""

    def __init__(self, system: FaultySystem) -> None:
        self.system = system

    def url(self, server: str, path: str) -> str:
        """Return where a server answers, as its log tells."""
        log = (self.system.log_folder / f"{server}.log").read_text(encoding="utf-8")
        found = re.search(r"metrics and probes at (http://\S+)", log)
        assert found, log
        return found[1] + path

    def probe(self, server: str, path: str) -> tuple[int, str]:
        """Return status and text of a probe."""
        try:
            url = self.url(server, path)
            with urllib.request.urlopen(url, timeout=5.0) as answer:  # noqa: S310 - our own
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_ready(self, server: str) -> bool:
        """Tell whether a server is ready."""
        return self.probe(server, "/readyz")[0] == 200

    def scrape(self, server: str) -> Scrape:
        """Return the metrics of a server, read by the official parser."""
        status, text = self.probe(server, "/metrics")
        assert status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, server: str, name: str, **labels: str) -> float | None:
        """Return one sample."""
        return self.scrape(server).get((name, frozenset(labels.items())))


@pytest.fixture(scope="module")
def monitored() -> Iterator[Monitored]:
    """Run the system."""
    with FaultySystem(topology()) as system:
        yield Monitored(system)


def test_commands_are_counted_by_outcome(monitored: Monitored) -> None:
    """Two that worked and one that failed, with their durations."""
    trl = monitored.system.trl("subarray-01")
    leaf = tango.DeviceProxy(monitored.system.trl("good"))
    with LrcDevice(trl) as subarray:
        for script in ("{}", '{"Standby": {"outcome": "failed"}}', "{}"):
            leaf.script = script
            for command in ("On", "Standby"):
                assert subarray.invoke(command).wait(20.0) is not None

    def count(command: str, outcome: str) -> float | None:
        labels = {"device": "mon/subarray/1", "command": command, "outcome": outcome}
        return monitored.value("parents", "milonga_commands_total", **labels)

    assert (count("On", "ok"), count("Standby", "ok"), count("Standby", "failed")) == (3, 2, 1)
    labels = {"device": "mon/subarray/1", "command": "On"}
    assert monitored.value("parents", "milonga_command_seconds_count", **labels) == 3


def test_commands_that_are_refused_are_counted_and_have_no_duration(monitored: Monitored) -> None:
    """When they are called: by the state, by the argument, and by their name."""
    proxy = tango.DeviceProxy(monitored.system.trl("subarray-01"))
    wanted = {"device": "mon/subarray/1", "outcome": "rejected"}

    def rejected(command: str) -> float:
        labels = wanted | {"command": command}
        return monitored.value("parents", "milonga_commands_total", **labels) or 0.0

    before = rejected("AssignResources"), rejected("RunPlan"), rejected("unknown")
    proxy.AssignResources("[1]")
    proxy.RunPlan('{"plan": "none"}')
    proxy.SubmitCommand('{"command": "Dance"}')
    after = rejected("AssignResources"), rejected("RunPlan"), rejected("unknown")

    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]
    labels = {"device": "mon/subarray/1", "command": "RunPlan"}
    assert not monitored.value("parents", "milonga_command_seconds_count", **labels)


def test_what_only_grows_is_a_counter_and_what_is_so_now_a_gauge(monitored: Monitored) -> None:
    """So that a rate can be made of the one, and an alarm of the other."""
    _, text = monitored.probe("parents", "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    child = {"device": "mon/subarray/1", "child": "mon/good/1"}

    for name in ("milonga_reports", "milonga_child_events", "milonga_records"):
        assert families[name].type == "counter"
    for name in ("milonga_pushes_waiting", "milonga_child_links", "milonga_records_waiting"):
        assert families[name].type == "gauge"
    counted = {sample.labels["what"] for sample in families["milonga_child_events"].samples}
    now = {sample.labels["what"] for sample in families["milonga_child_links"].samples}
    assert counted >= {"events", "lost", "looks"}
    assert now >= {"outstanding", "watched"}
    assert not counted & now
    events = monitored.value("parents", "milonga_child_events_total", what="events", **child)
    assert events is not None


def test_children_are_up_and_down(monitored: Monitored, wait_until: Callable[..., None]) -> None:
    """A child whose server is killed is down, and up when it is back."""

    def up(child: str) -> float | None:
        labels = {"device": "mon/subarray/1", "child": child}
        return monitored.value("parents", "milonga_child_up", **labels)

    wait_until(lambda: (up("mon/good/1"), up("mon/bad/1")) == (1, 1))

    monitored.system.kill("leaves")
    wait_until(lambda: up("mon/good/1") == 0, 30.0)
    assert up("mon/bad/1") == 1

    monitored.system.restart("leaves")
    wait_until(lambda: up("mon/good/1") == 1, 30.0)


def test_a_blocked_worker_is_not_ready_but_alive(
    monitored: Monitored, wait_until: Callable[..., None]
) -> None:
    """Readiness turns bad in time, says why, as do the metrics, and turns good again."""
    wait_until(lambda: monitored.is_ready("own"))
    leaf = tango.DeviceProxy(monitored.system.trl("bad"))
    began = time.monotonic()

    leaf.Block()

    wait_until(lambda: not monitored.is_ready("own"), LIMIT)
    assert time.monotonic() - began < LIMIT
    _, why = monitored.probe("own", "/readyz")
    assert re.search(r"mon/bad/1: the thread that starts and ends commands: stuck for \d", why)
    lag = monitored.value("own", "milonga_worker_lag_seconds", device="mon/bad/1")
    assert lag is not None
    assert lag > 2.5
    assert monitored.probe("own", "/livez") == (200, "ok\n")
    assert monitored.is_ready("parents")

    leaf.Free()

    wait_until(lambda: monitored.is_ready("own"), LIMIT)
    assert monitored.value("own", "milonga_worker_lag_seconds", device="mon/bad/1") == 0.0


def test_a_plan_that_blocks_the_event_loop_is_told(
    monitored: Monitored, wait_until: Callable[..., None], tmp_path: Path
) -> None:
    """The server whose engines stand still is not ready as long as they do."""
    gate = tmp_path / "gate"
    wait_until(lambda: monitored.is_ready("parents"))
    request = json.dumps({"plan": "blocking", "arguments": {"gate": str(gate)}})
    with LrcDevice(monitored.system.trl("subarray-01")) as subarray:
        plan = subarray.invoke("RunPlan", request)

        wait_until(lambda: not monitored.is_ready("parents"), LIMIT)
        status, why = monitored.probe("parents", "/readyz")
        lag = monitored.value("parents", "milonga_engine_loop_lag_seconds")
        gate.touch()
        outcome = plan.wait(30.0)

    assert "the event loop of all engines: blocked by a plan for" in why, status
    assert lag is not None
    assert lag > 2.5
    assert outcome is not None
    assert outcome.status is TaskStatus.COMPLETED
    wait_until(lambda: monitored.is_ready("parents"), LIMIT)
    assert (monitored.value("parents", "milonga_engine_loop_worst_lag_seconds") or 0.0) > 2.5
    assert monitored.value("parents", "milonga_engine_loop_blocked_total") == 1
