"""A plan on its way, for the leaf of a command's tree."""

from typing import Any

from milonga.devices._plan_book import PlanBook
from milonga.devices._plan_calls import Calls
from milonga.engine import PlanHandle, PlanInvocation, PlanState, PreparedPlan

__all__ = ["PlanRun"]


class PlanRun:
    """A plan on its way, as the invocation of a leaf.

    Parameters
    ----------
    handle, prepared : PlanHandle, PreparedPlan
        The plan.
    calls : Calls
        The commands that plans have given to children.
    book : PlanBook, optional
        Where it is written down that the plan is paused.
    """

    command_id: str | None = None

    def __init__(
        self, handle: PlanHandle, prepared: PreparedPlan, calls: Calls, book: PlanBook | None
    ) -> None:
        self.handle = handle
        self.prepared = prepared
        self._calls = calls
        self._book = book
        self._is_paused = False
        self.invocation: PlanInvocation | None = None
        handle.observe(self._observed)

    def _observed(self, state: PlanState, _progress: int) -> None:
        was_paused, self._is_paused = self._is_paused, state is PlanState.PAUSED
        if self._book is None or was_paused is self._is_paused:
            return
        if self._is_paused:
            self._book.paused()
        elif not state.is_final:
            self._book.resumed()

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

    @property
    def commands_on_their_way(self) -> int:
        """How many commands to children have not ended."""
        return self._calls.running(self.handle.id)
