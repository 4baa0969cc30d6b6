"""Run analyses: validate, start, follow, and tell whoever wants to hear of it."""

import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ArgumentError
from milonga.records._analysis import DescribedAnalysis, TaskResult
from milonga.records._analysis_loop import AnalysisLoop, shared_loop
from milonga.records._analysis_process import Order, RunningAnalysis
from milonga.records._codec import Attachments
from milonga.records._environment import process_environment, recorded_environment
from milonga.records._parameters import validated
from milonga.records._words import AnalysisStatus

__all__ = ["ANALYSIS_EVENTS", "AnalysisExecutor", "Refused"]

_logger = logging.getLogger(__name__)

ANALYSIS_EVENTS = (
    *("TASK_STARTED", "TASK_PROGRESS", "TASK_LOG", "TASK_RESULT", "TASK_FILE", "TASK_LINK"),
    *("TASK_DONE", "TASK_FAILED", "TASK_CANCELLED", "TASK_TIMEDOUT"),
)
"""What hooks can be added for; of the last four, each analysis has one."""

MESSAGE_PERIOD = 1.0
"""Seconds between two updates with what an analysis says; hooks get every line."""

MAX_MESSAGE = 1000

Hook = Callable[[DescribedAnalysis, Any], object]
OnUpdate = Callable[..., None]


class Refused:
    """The work of a leaf that never began."""

    command_id: str | None = None

    def abort(self) -> None:
        """Do nothing: it is over."""

    def close(self) -> None:
        """Do nothing: nobody listens."""


class AnalysisExecutor:
    """Runs an analysis in a process of its own (LX-14).

    Each executor has its own hooks, several for an event; what a hook raises is logged and hurts
    nobody. All processes are watched by one thread, in which hooks and updates are called, so they
    must return soon.

    Parameters
    ----------
    task_name : str
        Name of the analysis.
    target : str
        The callable, as ``module:name``; see ``milonga/records/_analysis_child.py`` for what it
        gets. It is imported in the process, never here.
    parameters_model : type, optional
        Pydantic model of its keyword arguments; a ``header`` is validated and recorded, and not
        passed on.
    environment : iterable of str, optional
        Names of environment variables that the process gets beside the usual ones. Their names
        are in the description, their values are not.
    python_path : iterable of str, optional
        Folders in which modules are looked for first.
    poll_interval : float, optional
        Kept in the description. Nothing is polled: it is the upper bound that others work with.
    timeout : float, optional
        Seconds that an analysis may take; the header's ``task_timeout`` bounds it as well.
    abort_grace, kill_grace : float, optional
        Seconds between the wish to end, or a failure, and SIGTERM, and between that and SIGKILL.
    impl_schemas : str, optional
        Schemas of the result, divided by ``;``.
    files : Attachments, optional
        Where large results are.
    loop : AnalysisLoop, optional
        Watches the processes; default: one for all executors.
    """

    def __init__(
        self,
        task_name: str,
        target: str,
        *,
        parameters_model: type[BaseModel] | None = None,
        environment: Iterable[str] = (),
        python_path: Iterable[str] = (),
        poll_interval: float = 0.05,
        timeout: float | None = None,
        abort_grace: float = 1.0,
        kill_grace: float = 1.0,
        impl_schemas: str | None = None,
        files: Attachments | None = None,
        loop: AnalysisLoop = shared_loop,
    ) -> None:
        module, _, name = target.partition(":")
        if not (module and name):
            raise ValueError(f"target: found {target!r}, expected 'module:name'")
        self.task_name = task_name
        self._target = target
        self._model = parameters_model
        self._environment = tuple(environment)
        self._python_path = tuple(python_path)
        self._poll_interval = poll_interval
        self._timeout = timeout
        self._graces = (abort_grace, kill_grace)
        self._schemas = impl_schemas
        self._files = files
        self._loop = loop
        self._hooks: dict[str, list[Hook]] = defaultdict(list)

    def add_hook(self, event: str, hook: Hook) -> None:
        """Call `hook` with the description and the contents of each event of this name.

        Raises
        ------
        ValueError
            If there is no such event.
        """
        if event not in ANALYSIS_EVENTS:
            raise ValueError(
                f"event: found {event!r}, expected one of {', '.join(ANALYSIS_EVENTS)}"
            )
        self._hooks[event].append(hook)

    def describe(self, parameters: Mapping[str, Any]) -> DescribedAnalysis:
        """Validate parameters, and return the analysis as it is before it begins.

        Raises
        ------
        ArgumentError
            If they are not valid.
        """
        return DescribedAnalysis(
            TaskResult(self.task_name, AnalysisStatus.PENDING, "", None, self._schemas),
            validated(self._model, parameters),
            recorded_environment(os.environ, self._environment),
            self._poll_interval,
            ["json frames on an inherited socket pair"],
        )

    def start(
        self,
        parameters: Mapping[str, Any],
        on_update: OnUpdate | None = None,
        *,
        uid: str = "",
        timeout: float | None = None,
    ) -> RunningAnalysis:
        """Start an analysis; return at once.

        Parameters
        ----------
        parameters : mapping
            Its keyword arguments.
        on_update : callable, optional
            Called with the keywords of a subtask's updates.
        uid : str, optional
            Name of the task.
        timeout : float, optional
            Seconds that it may take, in place of the executor's.

        Raises
        ------
        ArgumentError
            If the parameters are not valid.
        """
        description = self.describe(parameters)
        plain = description.parameters() or {}
        header = plain.pop("header", None)
        order = Order(
            target=self._target,
            parameters=plain,
            environment=process_environment(os.environ, self._environment),
            python_path=self._python_path,
            timeout=_shortest(timeout or self._timeout, header),
            abort_grace=self._graces[0],
            kill_grace=self._graces[1],
            files=self._files,
        )
        tell = partial(self._told, on_update, _Gate(MESSAGE_PERIOD))
        running: RunningAnalysis
        running = RunningAnalysis(
            description,
            order,
            uid,
            lambda event, contents: tell(running, event, contents),
            self._loop,
        )
        self._loop.add(running)
        return running

    def leaf_action(
        self, parameters: Mapping[str, Any], *, uid: str = "", timeout: float | None = None
    ) -> Callable[[object, OnUpdate], RunningAnalysis | Refused]:
        """Return the analysis as the action of a leaf of a task tree.

        The action takes the leaf's context, of which it needs nothing, and the function that takes
        updates. It does not raise: parameters that are not valid are a rejection.
        """

        def begin(_: object, on_update: OnUpdate) -> RunningAnalysis | Refused:
            try:
                return self.start(parameters, on_update, uid=uid, timeout=timeout)
            except ArgumentError as error:
                refusal = (ResultCode.REJECTED, str(error))
                on_update(status=TaskStatus.REJECTED, result=refusal)
                return Refused()

        return begin

    def _told(
        self,
        on_update: OnUpdate | None,
        gate: "_Gate",
        running: RunningAnalysis,
        event: str,
        contents: Any,
    ) -> None:
        for hook in self._hooks[event]:
            try:
                hook(running.description, contents)
            except Exception:
                _logger.exception("a hook of analysis %s for %s failed", self.task_name, event)
        if on_update is None or (event == "TASK_LOG" and not gate.opens()):
            return
        update = _update_of(running, event, contents)
        if update:
            on_update(**update)


class _Gate:
    """Lets something through once in a while."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._next = 0.0

    def opens(self) -> bool:
        """Tell whether it is time again."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._period
        return True


def _update_of(running: RunningAnalysis, event: str, contents: Any) -> dict[str, Any]:
    match event:
        case "TASK_STARTED":
            return {"status": TaskStatus.IN_PROGRESS}
        case "TASK_PROGRESS" if isinstance(contents, int | float) and math.isfinite(contents):
            return {"progress": max(0, min(100, int(contents)))}
        case "TASK_LOG":
            return {"message": str(contents)[:MAX_MESSAGE]}
        case "TASK_DONE" | "TASK_FAILED" | "TASK_CANCELLED" | "TASK_TIMEDOUT":
            return running.outcome()
    return {}


def _shortest(timeout: float | None, header: Any) -> float | None:
    bounds = [timeout, header.get("task_timeout") if isinstance(header, dict) else None]
    return min((bound for bound in bounds if bound is not None), default=None)
