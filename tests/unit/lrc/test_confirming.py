"""What is held back of a command's news until an attribute agrees."""

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import Expectation, Invocation
from milonga.lrc._confirming import Confirmation
from milonga.lrc._network import Network

OK = (ResultCode.OK, "done")
NO = (ResultCode.FAILED, "no power")
COMPLETED = TaskStatus.COMPLETED


class Device:
    """A device whose State a test sets, and which sends no events; link and carrier in one."""

    name = "lab/a/1"

    def __init__(self) -> None:
        self.network = Network()
        self.watches = self
        self.state: Any = "OFF"
        self.is_watched = True
        self.reads = 0
        self.forgotten = 0

    def known(self, attribute: str) -> object:
        """Return what is known of the State."""
        return self.state if self.is_watched else None

    def watch(self, *_: object) -> SimpleNamespace:
        """Send no events."""
        return SimpleNamespace(close=lambda: None)

    def fresh_proxy(self) -> "Device":
        """Return what reads come from."""
        return self

    def read_attribute(self, name: str) -> SimpleNamespace:
        """Return the State."""
        self.reads += 1
        return SimpleNamespace(value=self.state)

    def labels(self, name: str) -> tuple[str, ...]:
        """Return no labels."""
        return ()

    def forget(self, invocation: Invocation) -> None:
        """Count who stops following."""
        self.forgotten += 1


@pytest.fixture
def device() -> Iterator[Device]:
    """Give a device that is OFF."""
    device = Device()
    yield device
    device.network.close()


def sent(device: Device, told: list[dict[str, Any]], **expected: Any) -> Invocation:
    """Return a command on its way, whose news go to `told`."""
    invocation = Invocation(device, "On", None, lambda **news: told.append(news))  # type: ignore[arg-type]
    expectation = Expectation(**({"timeout": 30.0} | expected))
    confirmation = Confirmation(device, invocation, expectation, 0.01)  # type: ignore[arg-type]
    confirmation.before_call()
    invocation.confirmation = confirmation
    return invocation


@pytest.mark.parametrize(
    "news",
    [
        [{"status": COMPLETED, "result": OK}],
        [{"result": OK}, {"status": COMPLETED}],
        [{"status": COMPLETED}, {"result": OK}],
        [{"status": COMPLETED, "result": OK}] * 3,
    ],
    ids=["together", "result first", "status first", "again and again"],
)
def test_a_success_is_told_once_when_the_state_agrees(
    device: Device, news: list[dict[str, Any]]
) -> None:
    """In whatever order a device of either protocol version tells it."""
    told: list[dict[str, Any]] = []
    invocation = sent(device, told)

    for one in news:
        invocation.update(**one)
    assert told == []
    assert invocation.details()["until"].startswith("State is ON")
    device.state = "ON"

    assert invocation.wait(10.0) is not None
    assert [one["status"] for one in told] == [COMPLETED]
    assert told[0].get("result", OK) == OK
    assert invocation.details() == {}


@pytest.mark.parametrize(
    ("news", "end"),
    [
        ([{"status": COMPLETED, "result": NO}], {"status": COMPLETED, "result": NO}),
        ([{"result": NO}, {"status": COMPLETED}], {"status": COMPLETED, "result": NO}),
        ([{"status": COMPLETED}, {"result": NO}], {"status": COMPLETED, "result": NO}),
        (
            [{"status": COMPLETED, "result": OK}, {"status": TaskStatus.FAILED, "result": NO}],
            {"status": TaskStatus.FAILED, "result": NO},
        ),
        (
            [{"status": TaskStatus.REJECTED, "result": NO}],
            {"status": TaskStatus.REJECTED, "result": NO},
        ),
    ],
)
def test_what_is_no_success_is_told_at_once(
    device: Device, news: list[dict[str, Any]], end: dict[str, Any]
) -> None:
    """Also if it comes while a success is held, as when the device is lost."""
    told: list[dict[str, Any]] = []
    invocation = sent(device, told)
    for one in news:
        invocation.update(**one)
    assert told == [end]
    assert device.forgotten == 1


def test_a_state_that_never_agrees_is_a_failure_with_all_names(device: Device) -> None:
    """Device, attribute, what was found and what was wanted."""
    invocation = sent(device, [], timeout=0.05)
    invocation.update(COMPLETED, result=OK)
    outcome = invocation.wait(10.0)
    assert outcome is not None
    assert (outcome.status, outcome.result_code) == (TaskStatus.FAILED, ResultCode.FAILED)
    assert re.fullmatch(
        r"lab/a/1: On was done by its result, but State is OFF \d+\.\d+ s later; expected ON",
        outcome.message,
    )


def test_a_state_of_failure_ends_it_before_the_bound_unless_it_was_there_before(
    device: Device,
) -> None:
    """A device that is brought out of FAULT may leave it a moment after its result."""
    device.state = "FAULT"
    invocation = sent(device, [])
    invocation.update(COMPLETED, result=OK)
    assert invocation.wait(0.1) is None
    device.state = "ON"
    assert invocation.wait(10.0) is not None

    device.state = "OFF"
    failing = sent(device, [])
    device.state = "FAULT"
    failing.update(COMPLETED, result=OK)
    outcome = failing.wait(10.0)
    assert outcome is not None
    assert "State is FAULT" in outcome.message


def test_a_last_look_reads_once_more(device: Device) -> None:
    """When the time of who waits is up."""
    invocation = sent(device, [])
    invocation.update(COMPLETED, result=OK)
    invocation.look_again()
    outcome = invocation.wait(10.0)
    assert outcome is not None
    assert outcome.status is TaskStatus.FAILED


def test_a_state_of_failure_from_before_is_none_where_nobody_watches(device: Device) -> None:
    """The first read after the command was taken for a change, and the command had failed."""
    device.state, device.is_watched = "FAULT", False
    invocation = sent(device, [])
    reads = device.reads
    invocation.update(COMPLETED, result=OK)
    while device.reads < reads + 3:
        assert invocation.wait(0.01) is None
    device.state = "ON"
    outcome = invocation.wait(30.0)
    assert outcome is not None
    assert outcome.is_ok


def test_a_state_that_is_watched_is_not_read_before_the_command(device: Device) -> None:
    """Nor is any before a safety command, which waits for nothing."""
    sent(device, [])
    assert device.reads == 0
    device.is_watched = False
    confirmation = sent(device, []).confirmation
    assert confirmation is not None
    assert device.reads == 1
    confirmation.before_call(may_read=False)
    assert device.reads == 1
