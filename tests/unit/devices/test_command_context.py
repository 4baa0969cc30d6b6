"""What goes with a command through threads, and what logs make of it."""

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from milonga.control_model import TaskStatus
from milonga.devices._command_context import CommandFacts, accompany, carried, current_command
from milonga.devices._logging import JsonFormatter, SkaFormatter, chosen_formatter
from milonga.errors import MonitoringError
from milonga.lrc import Job, Origin
from milonga.tasks import ExecutionContext

UID = "1.5_7_On"
FACTS = CommandFacts("lab/a/1", UID, "txn-7")


def no_tracer() -> Any:
    """Fail: telemetry is off."""
    raise AssertionError("telemetry is off")


def in_another_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread that knows nothing of the caller's context."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def accompanied(start: Callable[..., None]) -> Job:
    """Return a job that was submitted with an id."""
    job = Job("On", start, origin=Origin("localhost", 1, transaction_id="txn-7"))
    accompany(job, "lab/a/1", no_tracer)
    job.on_submitted(UID)
    return job


def test_a_command_is_known_where_it_starts_and_ends() -> None:
    """In whatever thread that is; the caller's own thread knows nothing of it."""
    seen: list[CommandFacts | None] = []
    job = accompanied(lambda _report: seen.append(current_command()))
    job.on_ended = lambda *_: seen.append(current_command())
    accompany(job, "lab/a/1", no_tracer)
    job.on_submitted(UID)

    in_another_thread(lambda: job.start(lambda **_: None))
    in_another_thread(lambda: job.on_ended(TaskStatus.COMPLETED, None))

    assert seen == [FACTS, FACTS]
    assert current_command() is None


def test_steps_that_others_start_are_in_the_command_too() -> None:
    """The event that ends a step comes on a thread of its own, and starts the next step."""
    seen: list[CommandFacts | None] = []
    done = threading.Event()

    class Runtime:
        def call_soon(self, function: Callable[[], None]) -> None:
            threading.Thread(target=function).start()

        def call_later(self, delay: float, function: Callable[[], None]) -> Any:
            raise AssertionError("not used")

    class Caller:
        def invoke(self, *_: Any) -> Any:
            raise AssertionError("not used")

    context: list[ExecutionContext] = []
    job = accompanied(
        lambda _report: context.append(carried(ExecutionContext(Runtime(), Caller())))
    )
    job.start(lambda **_: None)

    def step() -> None:
        seen.append(current_command())
        done.set()

    in_another_thread(lambda: context[0].runtime.call_soon(step))

    assert done.wait(5.0)
    assert seen == [FACTS]


def test_a_json_line_names_the_command() -> None:
    """Device, command and transaction are keys; a text is not needed to find them."""
    record = logging.LogRecord(
        "milonga.device.lab/a/1", logging.INFO, __file__, 1, "moved %d", (5,), None
    )
    lines: list[str] = []
    job = accompanied(lambda _report: lines.append(JsonFormatter().format(record)))

    job.start(lambda **_: None)
    told = json.loads(lines[0])

    assert told["message"] == "moved 5"
    assert (told["device"], told["command_id"], told["transaction_id"]) == ("lab/a/1", UID, "txn-7")
    assert told["level"] == "INFO"
    assert told["time"].endswith("+00:00")
    assert "command_id" not in json.loads(JsonFormatter().format(record))


def test_an_exception_stays_on_its_line() -> None:
    """A traceback has many lines; the record has one."""
    error = OSError("no beam")
    about = (OSError, error, None)
    record = logging.LogRecord("site", logging.ERROR, __file__, 1, "it failed", (), about)

    line = JsonFormatter().format(record)

    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("OSError: no beam")


def test_the_environment_chooses_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """SKA's lines unless it says otherwise; a wrong name is told."""
    monkeypatch.delenv("MILONGA_LOG_FORMAT", raising=False)
    assert isinstance(chosen_formatter(), SkaFormatter)
    monkeypatch.setenv("MILONGA_LOG_FORMAT", "json")
    assert isinstance(chosen_formatter(), JsonFormatter)
    monkeypatch.setenv("MILONGA_LOG_FORMAT", "xml")
    with pytest.raises(MonitoringError, match="found 'xml', expected one of ska, json"):
        chosen_formatter()
