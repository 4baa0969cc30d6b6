"""How long a link remembers commands that are over, with the trees that they were part of."""

from types import SimpleNamespace
from typing import Any

import pytest

from milonga.lrc._invocation import Invocation
from milonga.lrc._traffic import LrcTraffic


@pytest.fixture
def traffic() -> LrcTraffic:
    """Return the traffic of a link that nobody listens at."""
    network = SimpleNamespace(call_later=lambda *_: SimpleNamespace(cancel=lambda: None))
    link: Any = SimpleNamespace(name="a/b/c", network=network, trl="a/b/c", start_known="")
    return LrcTraffic(link)


def run(traffic: LrcTraffic, *numbers: int) -> None:
    """Let commands be taken by the device, and be forgotten."""
    for number in numbers:
        invocation = Invocation(traffic, "On", None, lambda **_: None)
        traffic.resume_following(invocation, f"{number}_1_On")
        traffic.forget(invocation)


def test_only_so_many_commands_are_remembered(
    traffic: LrcTraffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a whole tree, so memory would grow with the commands of a busy parent."""
    monkeypatch.setattr(LrcTraffic, "RECENT_KEPT", 3)

    run(traffic, *range(10))

    assert traffic.statistics()["recent"] == 3


def test_commands_are_remembered_for_as_long_as_their_events_may_come(
    traffic: LrcTraffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next command that is over takes the old ones away."""
    run(traffic, 1, 2)
    assert traffic.statistics()["recent"] == 2
    monkeypatch.setattr(LrcTraffic, "RECENT_SECONDS", 0.0)

    run(traffic, 3)

    assert traffic.statistics()["recent"] == 1
