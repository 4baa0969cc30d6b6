"""A command that is a task tree, as a job of the command server."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._command_context import carried
from milonga.lrc import Job, Reporter
from milonga.tasks import BaseTask, ExecutionContext, lrc_payload

if TYPE_CHECKING:
    from milonga.devices._command_records import CommandRecord

__all__ = ["Ticket", "TreeJob"]

RUNS_NAMED = 8
"""How many runs a command's message names."""


class Ticket:
    """What a command's tree is told of its command once that is accepted.

    Parameters
    ----------
    argument : str, optional
        What the command was called with.
    """

    command_id: str = ""
    _job: Job | None = None

    def __init__(self, argument: str | None = None) -> None:
        self.argument = argument

    def note(self, command_id: str, job: Job) -> None:
        """Take the command's id, and the job that knows where the command comes from."""
        self.command_id = command_id
        self._job = job

    @property
    def transaction_id(self) -> str | None:
        """What the client called the transaction that the command is part of."""
        origin = self._job.origin if self._job is not None else None
        return origin.transaction_id if origin is not None else None


class TreeJob:
    """Runs a task tree and passes on what its root tells. Safe across threads.

    Parameters
    ----------
    make : callable
        Makes the root of the tree, given what to call at its completion and at its progress.
    context : ExecutionContext
        What the tree works with.
    on_payload : callable, optional
        Gets the root's completion payload before the report is made from it.
    ticket : Ticket, optional
        Has what the leaves have to know of the command.
    """

    def __init__(
        self,
        make: Callable[[Callable[..., None], Callable[..., None]], BaseTask],
        context: ExecutionContext,
        on_payload: Callable[[Mapping[str, object]], None] | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        self.ticket = ticket or Ticket()
        self.task = make(self._completed, self._progressed)
        self.task.on_extended = self._extended
        self._context = context
        self._on_payload = on_payload
        self._report: Reporter | None = None
        self._lock = threading.Lock()
        self._aborted_early = False
        self.payload: Mapping[str, object] = {}
        self.record: CommandRecord | None = None

    @property
    def has_worked(self) -> bool:
        """Whether the command has had its effect, at least on some of the children."""
        result = self.payload.get("result")
        code = result[0] if isinstance(result, tuple | list) else None
        if self.payload.get("status") is not TaskStatus.COMPLETED:
            return False
        return code == ResultCode.OK or self.payload.get("health_state") == "DEGRADED"

    def limit(self, seconds: float) -> None:
        """Allow the tree so many seconds, instead of what its command map says."""
        self.task.timeout = seconds

    def start(self, report: Reporter) -> None:
        """Start the tree; on the device's scheduler."""
        with self._lock:
            self._report = report
            aborted = self._aborted_early
        if aborted:
            report(status=TaskStatus.ABORTED)
        else:
            self.task.start(carried(self._context))

    def abort(self) -> None:
        """Ask everything that runs to end; also before the start."""
        with self._lock:
            started = self._report is not None
            self._aborted_early = not started
        if started:
            self.task.abort()

    def _completed(self, **payload: object) -> None:
        self.payload = payload
        if self._on_payload is not None:
            self._on_payload(payload)
        # no progress: the end says it, and on the wire a finished command shows none
        result = self._with_findings(self._with_runs(payload.get("result")))
        self._pass_on({"status": payload.get("status"), "result": result})

    def _with_findings(self, result: object) -> object:
        """Say in the message what the command's analyses have found, where that does not do so."""
        if not isinstance(result, tuple | list):
            return result
        *code, message = result
        found = [(leaf.name, leaf.details.get("summary")) for leaf in self.task.leaves()]
        told = [f"{name}: {text}" for name, text in found if text and text not in str(message)]
        return (*code, "; ".join((str(message), *told))) if told else result

    def _with_runs(self, result: object) -> object:
        """Name the runs of the command's plans in its message, where that does not do so."""
        runs = [run for leaf in self.task.leaves() for run in leaf.details.get("run_uids", ())]
        if not runs or not isinstance(result, tuple | list):
            return result
        *code, message = result
        if all(run in str(message) for run in runs[:RUNS_NAMED]):
            return result
        more = f" and {len(runs) - RUNS_NAMED} more" if len(runs) > RUNS_NAMED else ""
        return (*code, f"{message}; runs: {', '.join(runs[:RUNS_NAMED])}{more}")

    def _progressed(self, **payload: object) -> None:
        self._pass_on({"progress": payload.get("progress")})

    def _extended(self, seconds: float) -> None:
        """Ask who called for as much more time as the tree was given here."""
        if self._report is not None:
            self._report(extend=seconds)

    def _pass_on(self, payload: Mapping[str, object]) -> None:
        if self._report is not None:
            self._report(**lrc_payload(payload))  # type: ignore[arg-type]
