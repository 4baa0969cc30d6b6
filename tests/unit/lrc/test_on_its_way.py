"""Commands on their way at a device: whoever waits for one is told its end, whatever happens."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ProtocolError
from milonga.lrc import ChildDevice, Invocation
from milonga.lrc._kept import KeptDevices
from milonga.lrc._network import MAX_CALLERS, Network
from milonga.lrc._reading import CommandNews
from milonga.lrc._resuming import Resumption
from milonga.lrc._traces import Trace
from milonga.lrc._traffic import LrcTraffic, _include_2

from .reached import V2, Device, reached


@pytest.fixture
def network() -> Iterator[Network]:
    """Give a network that is closed in the end."""
    network = Network()
    yield network
    network.close()


def test_a_command_that_cannot_be_sent_in_an_odd_way_has_failed(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller waited for ever."""

    def odd(*_: object) -> None:
        raise ZeroDivisionError("odd")

    child = reached(network, Device(), *V2)
    monkeypatch.setattr(LrcTraffic, "send", odd)
    invocation = child.start("On")
    outcome = invocation.wait(30.0)
    assert outcome is not None
    assert (outcome.status, outcome.result_code) == (TaskStatus.FAILED, ResultCode.FAILED)
    assert outcome.message == "a/b/c: On could not be sent: ZeroDivisionError: odd"
    with pytest.raises(ProtocolError, match="ZeroDivisionError: odd"):
        child.invoke("On")


def test_a_command_that_cannot_be_searched_for_in_an_odd_way_is_lost(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the answer of somebody else's device may be."""

    def odd(*_: object) -> None:
        raise ZeroDivisionError("odd")

    child = reached(network, Device(), *V2)
    monkeypatch.setattr(Resumption, "_found", odd)
    outcome = child.resume(Trace("On", datetime.now(UTC))).wait(30.0)
    assert outcome is not None
    assert outcome.result_code is ResultCode.UNKNOWN
    assert "is lost: the search for it failed: ZeroDivisionError: odd" in outcome.message


@pytest.mark.parametrize(
    ("versions", "included"),
    [((1, 2), True), ((2, 2), True), ((1, 1), False), ((3, 4), False)]
    + [(odd, False) for odd in (None, (), (2,), (1, 2, 3), ("x", "y"), 2)],
)
def test_a_device_that_says_oddly_what_it_speaks_does_not_speak_version_2(
    versions: object, included: bool
) -> None:
    """It may still speak version 1."""
    assert _include_2(versions) is included


def end_of(command_id: str) -> CommandNews:
    """Return the event that tells the end of a command."""
    return CommandNews(command_id, TaskStatus.COMPLETED, result=[0, "done"])


def test_both_calls_that_got_the_same_id_are_told_its_end(network: Network) -> None:
    """A repeated `lrc_key` gets the first id again; the first call was then forgotten."""
    child = reached(network, Device(), *V2)
    calls = [child.start("On") for _ in range(2)]
    assert all(call.wait_accepted(30.0) for call in calls)
    assert child.statistics()["outstanding"] == 2
    child._link.lrc._route(end_of("1.0_2_On"))
    assert all(call.is_done for call in calls)
    assert child.statistics()["outstanding"] == 0
    assert not child.is_busy


def test_one_of_two_calls_with_the_same_id_can_be_left(network: Network) -> None:
    """The other is still followed; by looks as well."""
    device = Device()
    child = reached(network, device, *V2)
    left, kept = calls = [child.start("On") for _ in range(2)]
    assert all(call.wait_accepted(30.0) for call in calls)
    left.close()
    assert child.statistics()["outstanding"] == 1
    entry = {"uid": "1.0_2_On", "name": "On", "status": "COMPLETED", "result": [0, "done"]}
    device.tables["lrcFinished"] = (json.dumps(entry),)
    outcome = kept.wait(30.0)
    assert outcome is not None
    assert outcome.is_ok
    assert not left.is_done


def test_a_command_whose_end_is_told_as_its_id_is_noted_is_not_kept(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counted as being on its way for ever."""
    child = reached(network, Device(), *V2)
    accepted = Invocation.accepted

    def end_first(invocation: Invocation, command_id: str) -> None:
        child._link.lrc._route(end_of(command_id))
        accepted(invocation, command_id)

    monkeypatch.setattr(Invocation, "accepted", end_first)
    invocation = child.start("On")
    assert invocation.wait_accepted(30.0)
    assert invocation.wait(30.0) is not None
    assert child.statistics()["outstanding"] == 0


def test_a_command_that_nobody_follows_when_it_is_taken_is_not_kept(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was not taken in the time that its caller had for it."""
    device, may_answer, forgotten = Device(), threading.Event(), threading.Semaphore(0)
    forget = LrcTraffic.forget

    def forget_and_say(traffic: LrcTraffic, invocation: Invocation) -> None:
        forget(traffic, invocation)
        forgotten.release()

    monkeypatch.setattr(LrcTraffic, "forget", forget_and_say)
    device.reply = lambda name: may_answer.wait(30.0) and [[2], [f"1.0_2_{name}"]]
    child = reached(network, device, *V2)
    child.start("On").close()
    assert forgotten.acquire(timeout=30.0), "when it was closed, with no id yet"
    may_answer.set()
    assert forgotten.acquire(timeout=30.0), "when it had got its id"
    assert child._link.lrc.outstanding() == []


def test_who_waits_for_a_command_is_told_when_the_link_is_closed(network: Network) -> None:
    """They waited for ever, and the device was looked at for as long."""
    child = reached(network, Device(), *V2)
    told: list[dict[str, object]] = []
    invocation = child.start("On", None, lambda **news: told.append(news), signs=True)
    assert invocation.wait_accepted(30.0)
    child.close()
    outcome = invocation.wait(30.0)
    assert outcome is not None
    assert (outcome.status, outcome.result_code) == (TaskStatus.FAILED, ResultCode.UNKNOWN)
    assert outcome.message == "a/b/c: On is lost: the link to the device was closed"
    assert {"lost": True} in told
    assert child.statistics()["outstanding"] == 0


def test_a_command_that_is_taken_when_its_link_is_closed_already_is_told_so(
    network: Network,
) -> None:
    """Nobody would look for it any more."""
    device, is_called, may_answer = Device(), threading.Event(), threading.Event()

    def late(name: str) -> object:
        is_called.set()
        may_answer.wait(30.0)
        return [[2], [f"1.0_2_{name}"]]

    device.reply = late
    child = reached(network, device, *V2)
    invocation = child.start("On")
    assert is_called.wait(30.0)
    child.close()
    may_answer.set()
    outcome = invocation.wait(30.0)
    assert outcome is not None
    assert outcome.command_id == "1.0_2_On"
    assert outcome.message.endswith("the link to the device was closed")


def test_a_link_that_others_use_goes_on_when_one_closes_it(network: Network) -> None:
    """Also for the commands of the one that did."""
    first, second = (reached(network, Device(), *V2) for _ in range(2))
    invocation = first.start("On")
    assert invocation.wait_accepted(30.0)
    first.close()
    assert not invocation.is_done
    second._link.lrc._route(end_of("1.0_2_On"))
    assert invocation.is_done


def test_a_kept_device_to_which_a_command_is_being_sent_is_not_closed(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was the first to go once there were too many, as if it were idle."""
    may_answer = threading.Event()

    def make(trl: str, **_: object) -> ChildDevice:
        device = Device()
        if trl == "a/b/slow":
            device.reply = lambda name: may_answer.wait(30.0) and [[2], [f"1.0_2_{name}"]]
        return reached(network, device, *V2, name=trl)

    monkeypatch.setattr("milonga.lrc._kept.child_device", make)
    kept = KeptDevices(limit=2)
    with kept.lent("a/b/slow") as slow:
        invocation = slow.start("On")
    with kept.lent("a/b/1") as lent, kept.lent("a/b/2"), kept.lent("a/b/3"):
        assert not lent.is_closed
        assert not slow.is_closed
        assert slow.is_busy
        may_answer.set()
        assert invocation.wait_accepted(30.0)
        invocation.close()
    with kept.lent("a/b/4"):
        assert slow.is_closed
    kept.close()


def test_devices_that_hang_when_they_are_looked_at_hold_up_no_command(network: Network) -> None:
    """With as many of them as there may be calls, a command to another one waited for seconds."""
    may_answer, looked_at = threading.Event(), threading.Semaphore(0)

    def hang(_names: object) -> list[SimpleNamespace]:
        looked_at.release()
        may_answer.wait(60.0)
        return [SimpleNamespace(value=()) for _ in range(3)]

    for number in range(MAX_CALLERS):
        hung = Device()
        hung.read_attributes = hang  # type: ignore[assignment, method-assign]
        reached(network, hung, *V2, name=f"a/hung/{number}").start("On")
    for _ in range(MAX_CALLERS):
        assert looked_at.acquire(timeout=30.0)
    healthy = reached(network, Device(), *V2)
    assert healthy.start("On").wait_accepted(30.0)
    may_answer.set()


def test_a_network_that_is_closed_makes_no_thread_any_more() -> None:
    """Nobody would end it."""
    network = Network()
    network.close()
    network.call_later(0.0, lambda: None)
    assert network._scheduler is None
