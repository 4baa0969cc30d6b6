"""What is known of a device's children without asking them."""

from typing import Any

import pytest

from milonga.devices._children import ChildLinks
from milonga.lrc import Sighting
from milonga.tasks import ChildSpec


def links(**more: Any) -> ChildLinks:
    """Return the links to one child, which was seen to be ON."""
    spec = ChildSpec(name="a", trl="lab/a/1", **more)
    known = ChildLinks([spec], lambda _spec, _sighting: None, 1.0)
    known._saw(spec, Sighting("lab/a/1", "State", "ON"))
    return known


def test_a_child_that_is_on_need_not_be_switched_on() -> None:
    """Unless it is to be sent all the same."""
    assert links().is_reached("lab/a/1", "On")
    assert not links().is_reached("lab/a/1", "Off")
    assert not links(skip_when_reached=False).is_reached("lab/a/1", "On")


@pytest.mark.parametrize(("attribute", "reached"), [("State", True), ("power", False)])
def test_state_alone_does_not_tell_where_another_attribute_is_to(
    attribute: str, reached: bool
) -> None:
    """Its State may be ON long before the attribute says what `until` wants."""
    known = links(until={"On": {"attribute": attribute, "reached": ["ON", "FULL"]}})
    assert known.is_reached("lab/a/1", "On") is reached
    assert known.confirmed_by("lab/a/1", "On") == f"{attribute} is ON or FULL"
    assert known.confirmed_by("lab/a/1", "Off") == ""
