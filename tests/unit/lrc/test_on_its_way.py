"""Commands on their way at a device: whoever waits for one is told its end, whatever happens."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ProtocolError
from milonga.lrc._network import Network
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
