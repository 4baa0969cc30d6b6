"""Metrics and probes, over real HTTP."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from milonga.errors import MonitoringError
from milonga.monitoring import Check, Monitor, MonitorServer, Pulse, Sample, serve_if_wanted


@pytest.fixture
def monitor() -> Monitor:
    """Give a monitor of its own."""
    return Monitor()


@pytest.fixture
def get(monitor: Monitor) -> Iterator[Callable[[str], tuple[int, str]]]:
    """Ask the monitor by HTTP."""
    with MonitorServer(monitor) as server:

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{server.port}{path}", timeout=10
                ) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        yield get


def values(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Read what Prometheus would."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_commands_are_counted_by_outcome_with_their_durations(
    monitor: Monitor, get: Callable[[str], tuple[int, str]]
) -> None:
    """Prometheus' own client can read what is told."""
    monitor.command_ended("lab/a/1", "On", "ok", 0.05)
    monitor.command_ended("lab/a/1", "On", "ok", 2.0)
    monitor.command_ended("lab/a/1", "On", "rejected")

    status, text = get("/metrics")

    found = values(text)
    assert status == 200
    assert found["milonga_commands_total", ("On", "lab/a/1", "ok")] == 2
    assert found["milonga_commands_total", ("On", "lab/a/1", "rejected")] == 1
    assert found["milonga_command_seconds_count", ("On", "lab/a/1")] == 2
    assert found["milonga_command_seconds_bucket", ("On", "lab/a/1", "0.1")] == 1


def test_sources_are_asked_when_somebody_asks(
    monitor: Monitor, get: Callable[[str], tuple[int, str]]
) -> None:
    """Nothing is gathered ahead; what breaks hides nothing else; who is removed is silent."""

    def broken() -> Iterator[Sample]:
        raise RuntimeError("broken")

    monitor.add_source("broken", broken)
    monitor.add_source("a", lambda: [Sample("children", "Children.", 3, (("device", "a"),))])
    monitor.add_source("b", lambda: [Sample("children", "Children.", 4, (("device", "b"),))])
    monitor.remove("b")

    found = values(get("/metrics")[1])

    assert found["children", ("a",)] == 3
    assert ("children", ("b",)) not in found


def test_a_probe_says_what_is_wrong(
    monitor: Monitor, get: Callable[[str], tuple[int, str]]
) -> None:
    """Readiness and liveness are two things; a check that fails is no good sign."""
    problem = ""
    monitor.add_check("store", "store", Check.READY, lambda: problem)
    monitor.add_check("loop", "loop", Check.READY | Check.LIVE, lambda: "")
    assert get("/readyz") == (200, "ok\n")

    problem = "does not answer"
    assert get("/readyz") == (503, "store: does not answer\n")
    assert get("/livez") == (200, "ok\n")

    monitor.add_check("loop", "loop", Check.READY | Check.LIVE, lambda: str(1 / 0))
    assert get("/livez") == (503, "loop: the check failed: ZeroDivisionError\n")
    monitor.remove("loop")
    problem = ""
    assert get("/readyz?verbose") == (200, "ok\n")
    assert get("/nothing")[0] == 404


def test_a_thread_that_is_stuck_is_noticed_and_so_is_its_recovery() -> None:
    """A blocked worker turns readiness bad, and good again when it goes on."""
    now = [0.0]
    free = threading.Event()
    calls: list[Callable[[], None]] = []

    def work() -> None:
        while not free.is_set() or calls:
            if free.is_set() and calls:
                calls.pop(0)()
            time.sleep(0.001)

    pulse = Pulse(calls.append, lambda: now[0])
    pulse.PATIENCE = 0.01  # type: ignore[misc]
    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert pulse.lag() == 0.0  # not a second has passed
        now[0] = 5.0
        assert pulse.lag() == 5.0
        assert len(calls) == 1, "one question at a time"
    finally:
        free.set()
        thread.join(10)
    assert pulse.lag() == 0.0 or calls


def test_a_thread_that_works_has_no_lag() -> None:
    """The answer comes from the thread itself."""
    assert Pulse(lambda function: function()).lag() == 0.0


@pytest.mark.parametrize("port", ["http", "-1", "70000"])
def test_a_wrong_port_is_refused_with_what_was_expected(
    monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    """The text names the variable, what was found and what was expected."""
    monkeypatch.setenv("MILONGA_HEALTH_PORT", port)
    with pytest.raises(MonitoringError, match=f"MILONGA_HEALTH_PORT: found '{port}', expected a"):
        serve_if_wanted()


def test_nothing_is_served_unless_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop needs no port for it."""
    monkeypatch.delenv("MILONGA_HEALTH_PORT", raising=False)
    assert serve_if_wanted() is None


def test_a_port_that_is_taken_is_an_error(monitor: Monitor) -> None:
    """The text names the address."""
    with (
        MonitorServer(monitor) as server,
        pytest.raises(MonitoringError, match=f"127.0.0.1:{server.port}"),
    ):
        MonitorServer(monitor, port=server.port)
