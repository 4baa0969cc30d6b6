"""How the work of an engine ends before its time: one exception for each way."""

from bluesky.run_engine import RunEngineResult
from bluesky.utils import RunEngineInterrupted

__all__ = [
    "PauseFailed",
    "PlanAborted",
    "PlanHalted",
    "PlanPaused",
    "PlanStopped",
    "PlanTimedOut",
    "RunEngineInterrupted",
]


class _Interruption(RunEngineInterrupted):
    """An interruption that says of which plan, why, and with which runs.

    Parameters
    ----------
    plan_name : str
        The plan.
    reason : str, optional
        What was given as reason.
    result : RunEngineResult, optional
        What the engine knew then.
    """

    did = "was interrupted"

    def __init__(
        self, plan_name: str, reason: str = "", result: RunEngineResult | None = None
    ) -> None:
        super().__init__(f"plan {plan_name!r} {self.did}" + (f": {reason}" if reason else ""))
        self.plan_name = plan_name
        self.reason = reason
        self.result = result

    @property
    def uids(self) -> tuple[str, ...]:
        """The runs that the plan had opened."""
        return self.result.run_start_uids if self.result is not None else ()


class PlanPaused(_Interruption):
    """The plan is paused and can be resumed."""

    did = "is paused"


class PlanStopped(_Interruption):
    """The plan was told to end, and that counts as success."""

    did = "was stopped"


class PlanAborted(_Interruption):
    """The plan was told to end, cleaned up, and counts as aborted."""

    did = "was aborted"


class PlanTimedOut(PlanAborted):
    """The plan was aborted because its time was over."""

    did = "timed out"


class PlanHalted(_Interruption):
    """The plan was ended without cleaning up."""

    did = "was halted"


class PauseFailed(_Interruption):
    """A pause was asked for where the plan cannot go on from, so the plan was aborted."""

    did = "could not be paused and was aborted"
