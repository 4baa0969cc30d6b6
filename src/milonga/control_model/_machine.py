"""A state machine whose moves are data and whose state changes in one place."""

from collections.abc import Mapping

from milonga.errors import StateModelError

__all__ = ["Transitions", "allowed_actions", "next_state"]

Transitions = Mapping[tuple[str, str], str]


def next_state(table: Transitions, state: str, action: str) -> str:
    """Look up where `action` leads from `state`.

    Raises
    ------
    StateModelError
        If the table has no such move.

    Examples
    --------
    >>> next_state({("OFF", "power_on"): "ON"}, "OFF", "power_on")
    'ON'
    """
    try:
        return table[state, action]
    except KeyError:
        expected = ", ".join(allowed_actions(table, state)) or "none"
        raise StateModelError(
            f"Action {action} is not allowed in state {state}; allowed there: {expected}"
        ) from None


def allowed_actions(table: Transitions, state: str) -> list[str]:
    """List the actions that `table` has for `state`, sorted."""
    return sorted(action for origin, action in table if origin == state)
