"""What a plan would do is found out without doing it."""

import threading
from collections.abc import Generator
from typing import Any

from bluesky import plan_stubs as bps
from bluesky.utils import Msg

from milonga.engine import ForeseenCall, foresee
from milonga.engine.plan_stubs import invoke, invoke_all
from milonga.engine.plans import live, scan

Plan = Generator[Msg, Any, Any]


class Thing:
    """A motor or a detector that nobody must touch."""

    parent = None

    def __init__(self, name: str) -> None:
        self.name = name
        self._methods = {"read", "set" if name == "motor" else "trigger"}
        self.hints: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_methods", ()):
            return self._touched
        raise AttributeError(name)

    def _touched(self, *_: object) -> None:
        raise AssertionError(f"{self.name} was touched")


def test_a_scan_is_listed_in_its_order_and_what_comes_again_is_counted() -> None:
    """Positions are those that the motor would get."""
    found = foresee(scan([Thing("det")], Thing("motor"), 0.0, 1.0, 3))  # type: ignore[arg-type]

    assert found.more == ""
    assert [(each.target, each.command, each.argument, each.times) for each in found.calls] == [
        ("motor", "set", "0.0", 1),
        ("det", "trigger", None, 3),
        ("motor", "set", "0.5", 1),
        ("motor", "set", "1.0", 1),
    ]


def test_commands_to_children_are_listed_with_their_arguments() -> None:
    """A plan that looks at their outcome gets a good one."""

    def plan() -> Plan:
        yield from invoke_all(["cbf", "pst"], "Configure", "{}")
        status = yield from invoke("cbf", "Scan")
        assert status.outcome is not None

    assert foresee(plan()).calls == (
        ForeseenCall("cbf", "Configure", "{}", is_child=True),
        ForeseenCall("pst", "Configure", "{}", is_child=True),
        ForeseenCall("cbf", "Scan", None, is_child=True),
    )


def test_what_cannot_be_foreseen_is_said() -> None:
    """Plans without end, with too many calls, that need a reading, or that block."""
    never = threading.Event()

    def many() -> Plan:
        for number in range(1000):
            yield from bps.abs_set(Thing("motor"), number)

    def reading() -> Plan:
        value = yield Msg("read", Thing("det"))  # type: ignore[no-untyped-call]
        yield from bps.abs_set(Thing("motor"), value["det"]["value"])

    def blocking() -> Plan:
        yield from invoke("cbf", "Scan")
        never.wait(20.0)

    endless = foresee(live([Thing("det")]))  # type: ignore[list-item]
    blocked = foresee(blocking(), 0.01)
    never.set()

    assert endless.more
    assert "more than 50" in foresee(many()).more
    assert "depends on what devices say (TypeError" in foresee(reading()).more
    assert "next message" in blocked.more
    assert [call.command for call in blocked.calls] == ["Scan"]


def test_a_plan_that_cleans_up_is_left_alone() -> None:
    """Its cleanup has messages as well, of which none is carried out."""

    def plan() -> Plan:
        try:
            while True:
                yield from bps.trigger(Thing("det"))
        finally:
            yield from bps.abs_set(Thing("motor"), 0)

    found = foresee(plan())

    assert [call.command for call in found.calls] == ["trigger"]
    assert "goes on" in found.more
