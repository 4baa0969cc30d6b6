"""What `compose` is asked for."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from milonga.tasks._command_map import CommandSpec
from milonga.tasks._confirm import StepAsker
from milonga.tasks._context import LeafAction
from milonga.tasks._internal import InternalMethod
from milonga.tasks._kinds import Tolerance
from milonga.tasks._late import AnalysisStarter
from milonga.tasks._parts import ChildSpec, PolicySpec

__all__ = ["PlanFactory", "StateReader", "Wants", "tolerance_of"]

StateReader = Callable[[ChildSpec, str], object]

PlanFactory = Callable[[str | None, Callable[[], tuple[str, ...]]], LeafAction]
"""Makes the action of a PLAN leaf of its JSON argument; raises a `MilongaError` to refuse it.

The second argument returns the names of the nodes on the way down to the leaf.
"""


@dataclass(frozen=True)
class Wants:
    """What `compose` was asked for, see there."""

    command: str
    argument: str | None
    methods: Mapping[str, InternalMethod]
    plans: Mapping[str, PlanFactory]
    analyses: Mapping[str, AnalysisStarter]
    ask: StepAsker | None
    spec: CommandSpec
    is_available: Callable[[ChildSpec], bool] | None
    state_of: StateReader | None
    logger: logging.Logger | None
    obs_mode: Any

    def hindrance(self, child: ChildSpec) -> str:
        """Return why a child cannot take the command, or an empty text."""
        if self.is_available is not None and not self.is_available(child):
            return "not available"
        allowed = self.spec.allowed_states
        if allowed is None or self.state_of is None:
            return ""
        state = self.state_of(child, allowed.attr_name)
        state_name = str(getattr(state, "name", state)).upper()
        if state_name in allowed.values:
            return ""
        expected = ", ".join(sorted(allowed.values))
        return f"{allowed.attr_name} found {state_name}, expected one of {expected}"


def tolerance_of(optional: bool, policy: PolicySpec | None) -> Tolerance:
    """Return which unhappy outcome of a node does not stop a sequence."""
    if optional:
        return Tolerance.FAILURE
    has_quorum = policy is not None and policy.quorum is not None
    return Tolerance.PARTIAL if has_quorum else Tolerance.NOTHING
