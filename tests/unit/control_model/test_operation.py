"""Operational state and admin mode as tables."""

from milonga.control_model import (
    ADMIN_MODE_TRANSITIONS,
    STATE_OF_COMMUNICATION,
    STATE_OF_POWER,
    AdminMode,
    CommunicationStatus,
    PowerState,
)


def test_every_admin_mode_can_be_left_for_offline() -> None:
    """lrc-protocol e.2: OFFLINE may be written from any mode."""
    assert ADMIN_MODE_TRANSITIONS[AdminMode.OFFLINE] == set(AdminMode)


def test_online_is_not_reached_from_a_place_that_is_not_fitted() -> None:
    """lrc-protocol e.2: only by way of OFFLINE."""
    assert AdminMode.NOT_FITTED not in ADMIN_MODE_TRANSITIONS[AdminMode.ONLINE]
    assert AdminMode.OFFLINE in ADMIN_MODE_TRANSITIONS[AdminMode.ONLINE]


def test_every_power_and_communication_has_an_entry() -> None:
    """NO_SUPPLY, which the original leaves out, included."""
    assert set(STATE_OF_POWER) == set(PowerState)
    assert set(STATE_OF_COMMUNICATION) == set(CommunicationStatus)
