"""What becomes of a plain command that nobody waits for any more, as one whose time is up."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tango

from milonga.lrc import ChildDevice
from milonga.lrc._network import Network
from milonga.tracking import AbortAnswer

from .reached import Device, reached


class Busy(Network):
    """A network on which aborts are sent only when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.aborts: list[Callable[[], None]] = []

    def run_abort(self, function: Callable[[], None]) -> Any:
        """Keep it for `send_aborts`."""
        self.aborts.append(function)
        return True

    def send_aborts(self) -> None:
        """Send what waits."""
        aborts, self.aborts = self.aborts, []
        for abort in aborts:
            abort()


@pytest.fixture
def network() -> Iterator[Busy]:
    """Give a network that is closed in the end."""
    network = Busy()
    yield network
    network.close()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Return a device whose plain commands do not return until they may."""
    device = Device()
    device.may_return.clear()
    monkeypatch.setattr(tango, "DeviceProxy", lambda _trl: device)
    return device


def give_up(network: Busy, child: ChildDevice, command: str) -> Any:
    """Begin a command and do with it what a leaf does whose time is up."""
    invocation = child.start(command)
    assert invocation.wait_accepted(30.0)
    invocation.abort()
    invocation.close()
    network.send_aborts()
    return invocation


def test_a_command_given_up_while_it_waits_for_its_turn_is_never_sent(
    network: Busy, device: Device
) -> None:
    """It was sent as soon as the device was free, minutes after its deadline."""
    child = reached(network, device)
    holding = child.start("Hold")
    assert holding.wait_accepted(30.0)
    given_up = give_up(network, child, "Move")
    last = child.start("Stop")
    assert last.wait_accepted(30.0)
    device.may_return.set()
    assert last.wait(30.0) is not None
    assert device.calls == ["Hold", "Stop"]
    assert given_up.abort_answer is AbortAnswer.ACK


def test_a_command_given_up_while_it_runs_is_stopped(network: Busy, device: Device) -> None:
    """The device was told nothing, and its answer was reported as ACK."""
    child = reached(network, device)
    running = threading.Event()
    called = device.command_inout_asynch

    def call(name: str, argument: Any) -> str:
        running.set()
        return called(name, argument)

    device.command_inout_asynch = call  # type: ignore[method-assign]
    invocation = child.start("Move")
    assert running.wait(30.0)
    invocation.abort()
    invocation.close()
    network.send_aborts()
    assert device.calls == ["Move", "Stop"]
    assert invocation.abort_answer is AbortAnswer.ACK


def test_a_command_given_up_while_its_device_is_connected_to_is_not_begun(
    network: Busy, device: Device
) -> None:
    """Whoever gave it up does not wait for that."""
    child = reached(network, device)
    told: list[dict[str, object]] = []

    def give_up_at_once(**news: object) -> None:
        told.append(news)
        if "command_id" in news:
            invocation_made.wait(30.0)
            made[0].abort()
            made[0].close()

    invocation_made = threading.Event()
    made = [child.start("Move", None, give_up_at_once)]
    invocation_made.set()
    assert made[0].wait_accepted(30.0)
    last = child.start("Hold")
    device.may_return.set()
    assert last.wait(30.0) is not None
    network.send_aborts()
    assert "Move" not in device.calls
