"""The observing state of a subarray."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milonga.control_model import (
    OBS_COMMANDS,
    OBS_TRANSITIONS,
    ObsState,
    ObsStateMachine,
    allowed_actions,
)
from milonga.errors import StateModelError

ACTIONS = sorted({action for _, action in OBS_TRANSITIONS} | {"component_obsfault"})


def machine_in(*actions: str) -> tuple[ObsStateMachine, list[str]]:
    """Make a machine and walk it."""
    seen: list[str] = []
    machine = ObsStateMachine(lambda state: seen.append(state.name))
    for action in actions:
        machine.perform(action)
    return machine, seen


ASSIGN = ("assign_invoked", "component_resourced", "assign_completed")
CONFIGURE = ("configure_invoked", "component_configured", "configure_completed")


def test_a_whole_observation() -> None:
    """lrc-protocol e.3: from EMPTY through a scan and back."""
    _, seen = machine_in(
        *ASSIGN,
        *CONFIGURE,
        "component_scanning",
        "component_not_scanning",
        "component_unconfigured",
        "release_invoked",
        "component_unresourced",
        "release_completed",
    )

    assert seen == [
        "RESOURCING",
        "IDLE",
        "CONFIGURING",
        "READY",
        "SCANNING",
        "READY",
        "IDLE",
        "RESOURCING",
        "EMPTY",
    ]


def test_a_configuration_that_configured_nothing_leads_back() -> None:
    """CONFIGURING without component_configured ends in IDLE."""
    machine, _ = machine_in(*ASSIGN, "configure_invoked", "configure_completed")

    assert machine.state is ObsState.IDLE


@pytest.mark.parametrize(
    ("before", "after"),
    [(("assign_invoked",), ObsState.EMPTY), (ASSIGN, ObsState.IDLE)],
    ids=["nothing assigned", "assigned"],
)
def test_a_reset_remembers_whether_anything_was_assigned(
    before: tuple[str, ...], after: ObsState
) -> None:
    """ObsReset leads to EMPTY if resourcing was interrupted before anything was assigned."""
    machine, _ = machine_in(*before, "abort_invoked", "abort_completed", "obsreset_invoked")

    machine.perform("obsreset_completed")

    assert machine.state is after


def test_restarting_can_be_aborted() -> None:
    """A weakness of the original, which is not copied."""
    machine, _ = machine_in(*ASSIGN, "component_obsfault", "restart_invoked")

    machine.perform("abort_invoked")

    assert machine.state is ObsState.ABORTING


def test_a_refused_command_leads_back_to_where_it_came_from() -> None:
    """Rejected at dequeue: nothing happened, also when the origin was FAULT."""
    machine, _ = machine_in(*ASSIGN, "component_obsfault", "obsreset_invoked")

    machine.revert()

    assert machine.state is ObsState.FAULT


def test_a_move_that_does_not_exist_names_those_that_do() -> None:
    """The error says what was asked, what was found and what is allowed."""
    machine, _ = machine_in()

    with pytest.raises(StateModelError, match=r"configure_invoked .* EMPTY; .*assign_invoked"):
        machine.perform("configure_invoked")


def test_every_transitional_state_can_be_aborted() -> None:
    """No state but the resting ones is without a way out."""
    for state in ("RESOURCING_EMPTY", "RESOURCING_IDLE", "CONFIGURING_IDLE", "CONFIGURING_READY"):
        assert {"abort_invoked", "aborted"} <= set(allowed_actions(OBS_TRANSITIONS, state))
    for state in ("RESETTING", "RESETTING_EMPTY", "RESTARTING", "SCANNING"):
        assert {"abort_invoked", "aborted"} <= set(allowed_actions(OBS_TRANSITIONS, state))


@given(st.lists(st.sampled_from(ACTIONS), max_size=30))
def test_from_everywhere_a_subarray_gets_back_to_empty(actions: list[str]) -> None:
    """Whatever happened: abort, restart, and the subarray is EMPTY."""
    seen: list[ObsState] = []
    machine = ObsStateMachine(seen.append)
    for action in actions:
        machine.perform_if_possible(action)

    machine.perform_if_possible("abort_invoked")
    machine.perform_if_possible("abort_completed")
    if machine.state is not ObsState.EMPTY:
        machine.perform("restart_invoked")
        machine.perform("restart_completed")

    assert machine.state is ObsState.EMPTY
    assert all(a is not b for a, b in itertools.pairwise(seen))


def test_the_commands_are_those_of_a_subarray() -> None:
    """lrc-protocol (c), the table of SKASubarray, without Abort."""
    assert {name: sorted(s.name for s in rule.allowed) for name, rule in OBS_COMMANDS.items()} == {
        "AssignResources": ["EMPTY", "IDLE"],
        "ReleaseResources": ["EMPTY", "IDLE"],
        "ReleaseAllResources": ["EMPTY", "IDLE"],
        "Configure": ["IDLE", "READY"],
        "Scan": ["READY"],
        "EndScan": ["SCANNING"],
        "End": ["IDLE", "READY"],
        "ObsReset": ["ABORTED", "FAULT"],
        "Restart": ["ABORTED", "FAULT"],
    }
