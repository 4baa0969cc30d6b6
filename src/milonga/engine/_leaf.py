"""A plan as the work of a leaf in a task tree.

`PlanAction` has the form that `milonga.tasks` asks of the action of a leaf, and knows nothing of
it: it takes a context that it does not need and a function that takes updates.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from bluesky.utils import FailedStatus

from milonga.control_model import ResultCode, TaskStatus
from milonga.engine._desk import OnBusy
from milonga.engine._handle import PlanHandle, PlanState
from milonga.engine._outcome import Situation, meaning_of, situation_of
from milonga.engine._registry import PlanRegistry, PreparedPlan
from milonga.engine._run_engine import RunEngine
from milonga.errors import ArgumentError, EngineBusyError, EngineClosedError, PlanNotFound

__all__ = ["PlanAction", "PlanInvocation"]

_UPDATES = Callable[..., None]
_MOST_UIDS = 8
"""Runs that a result's message names; all are in its data."""


class PlanInvocation:
    """A plan on its way, for a leaf: reports what becomes of it. Safe across threads.

    Parameters
    ----------
    handle : PlanHandle
        The plan.
    on_update : callable
        Takes the keywords `status`, `progress`, `result` and `data`.
    prepared : PreparedPlan, optional
        The plan with its actions.
    """

    def __init__(
        self, handle: PlanHandle, on_update: _UPDATES, prepared: PreparedPlan | None = None
    ) -> None:
        self.handle = handle
        self.prepared = prepared
        self._on_update = on_update
        self._lock = threading.Lock()
        self._closed = False
        self._told = 0
        self._began = False
        handle.observe(self._observed)
        handle.ended.add_done_callback(lambda _: self._ended())
        self._observed(handle.state, handle.progress)

    @property
    def command_id(self) -> str | None:
        """The handle's id."""
        return self.handle.id

    def abort(self) -> None:
        """Ask the plan to end; returns at once."""
        self.handle.abort("command aborted")

    def close(self) -> None:
        """Report nothing more; idempotent."""
        with self._lock:
            self._closed = True

    def _observed(self, state: PlanState, progress: int) -> None:
        update: dict[str, Any] = {}
        with self._lock:
            if self._closed or state.is_final:
                return
            if not self._began and state not in {PlanState.QUEUED, PlanState.STARTING}:
                self._began = True
                update["status"] = TaskStatus.IN_PROGRESS
            if progress > self._told:
                self._told = update["progress"] = progress
        if update:
            self._on_update(**update)

    def _ended(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        situation = situation_of(self.handle)
        meaning = meaning_of(situation)
        update: dict[str, Any] = {
            "status": meaning.status,
            "result": (meaning.code, _message(self.handle, situation)),
            "data": {"run_start_uids": list(self.handle.uids), "plan": self.handle.name},
        }
        if meaning.code is ResultCode.OK:
            update["progress"] = 100
        self._on_update(**update)


def _message(handle: PlanHandle, situation: Situation) -> str:
    outcome = handle.outcome
    error = outcome.exception if outcome is not None else None
    why = handle.reason
    if error is not None and situation in {Situation.BROKEN, Situation.TIMED_OUT}:
        # a status that failed says less, in more words, than what it failed with
        cause = error.__cause__ if isinstance(error, FailedStatus) else None
        why = f"{type(cause or error).__name__}: {cause or error}"
        if cause is None and handle.reason and handle.reason != str(error):
            why = f"{why} ({handle.reason})"
    # "timed out: timeout" says nothing twice
    words = [situation.value if situation is not Situation.DONE else "completed"]
    if why and (error is not None or situation is not Situation.TIMED_OUT):
        words.append(f": {why}")
    return f"{''.join(words)}{_runs(handle.uids)}"


def _runs(uids: tuple[str, ...]) -> str:
    if not uids:
        return ""
    more = f" and {len(uids) - _MOST_UIDS} more" if len(uids) > _MOST_UIDS else ""
    return f"; runs: {', '.join(uids[:_MOST_UIDS])}{more}"


class _Refused:
    """The invocation of a plan that was never started."""

    command_id: str | None = None

    def abort(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is reported."""


class PlanAction:
    """Starts a plan of a registry as the work of a leaf.

    An instance is the action of a leaf of `milonga.tasks`: a call with a context and a function
    that takes updates returns an invocation at once. A plan that is unknown, has wrong arguments
    or finds the engine busy is reported as REJECTED.

    Parameters
    ----------
    engine : RunEngine
        Runs the plan.
    registry : PlanRegistry
        Knows it.
    name : str
        Which plan.
    argument : str or mapping, optional
        Its arguments, a JSON object.
    timeout : float, optional
        Seconds after which the plan is aborted.
    on_busy : {"reject", "queue", "replace"}, optional
        What to do if the engine has a plan.
    metadata : mapping, optional
        Metadata of the plan's runs, such as the id of the command.

    Examples
    --------
    >>> import threading
    >>> from bluesky.utils import Msg, MsgGenerator
    >>> def hello() -> MsgGenerator[None]:
    ...     yield Msg("null")
    >>> ended, told = threading.Event(), []
    >>> def on_update(**update):
    ...     told.append(update)
    ...     if "result" in update:
    ...         ended.set()
    >>> with RunEngine() as engine:
    ...     _ = PlanAction(engine, PlanRegistry([hello]), "hello")(None, on_update)
    ...     _ = ended.wait(5.0)
    >>> told[-1]["result"][1]
    'completed'
    """

    def __init__(
        self,
        engine: RunEngine,
        registry: PlanRegistry,
        name: str,
        argument: str | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        on_busy: OnBusy = "reject",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._name = name
        self._argument = argument
        self._timeout = timeout
        self._on_busy: OnBusy = on_busy
        self._metadata = dict(metadata or {})

    def __call__(self, _context: object, on_update: _UPDATES) -> PlanInvocation | _Refused:
        """Start the plan."""
        try:
            prepared = self._registry.prepare(self._name, self._argument)
            handle = self._engine.call(
                prepared.plan, timeout=self._timeout, on_busy=self._on_busy, **self._metadata
            )
        except (ArgumentError, EngineBusyError, EngineClosedError, PlanNotFound) as error:
            meaning = meaning_of(Situation.REJECTED)
            on_update(status=meaning.status, result=(meaning.code, str(error)))
            return _Refused()
        return PlanInvocation(handle, on_update, prepared)
