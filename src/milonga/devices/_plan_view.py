"""What clients see of a device's engine, whether it has one or not."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["EngineView", "actions_text"]


@dataclass(frozen=True)
class EngineView:
    """What clients see of the engine."""

    engineState: str = "idle"  # noqa: N815 - the names of the Tango attributes
    planProgress: int = 0  # noqa: N815
    runningPlan: str = ""  # noqa: N815
    actions: str = "[]"
    lastRunUid: str = ""  # noqa: N815
    planProblem: str = ""  # noqa: N815
    documentsWaiting: int = 0  # noqa: N815
    documentsLost: int = 0  # noqa: N815


class Action(Protocol):
    """Something that an operator can do while a plan runs."""

    name: str
    description: str
    togglable: bool
    toggle_states: tuple[str, str]

    @property
    def state_label(self) -> str:
        """The label of the state in which it is."""


def actions_text(actions: Iterable[Action]) -> str:
    """Write actions as clients get them: a JSON array."""
    return json.dumps(
        [
            {
                "name": action.name,
                "description": action.description,
                "togglable": action.togglable,
                "toggle_states": list(action.toggle_states),
                "state": action.state_label if action.togglable else "",
            }
            for action in actions
        ]
    )
