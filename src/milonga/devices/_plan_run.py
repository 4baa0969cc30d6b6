"""A plan on its way, for the leaf of a command's tree."""

from typing import Any

from milonga.devices._plan_calls import Calls
from milonga.engine import PlanHandle, PlanInvocation, PreparedPlan

__all__ = ["NeverRan", "PlanRun"]


class PlanRun:
    """A plan on its way, as the invocation of a leaf."""

    command_id: str | None = None

    def __init__(self, handle: PlanHandle, prepared: PreparedPlan, calls: Calls) -> None:
        self.handle = handle
        self.prepared = prepared
        self._calls = calls
        self.invocation: PlanInvocation | None = None

    def abort(self) -> None:
        """Ask the plan to end."""
        self.handle.abort("the command was aborted")

    def close(self) -> None:
        """Report nothing more."""
        if self.invocation is not None:
            self.invocation.close()

    def details(self) -> dict[str, Any]:
        """Return the plan's runs and the commands that it has given to children."""
        return {
            "run_uids": list(self.handle.uids),
            "children": self._calls.snapshots(self.handle.id),
        }


class NeverRan:
    """The invocation of a plan that the engine refused."""

    command_id: str | None = None

    def abort(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is reported."""
