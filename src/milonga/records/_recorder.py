"""The way by which running commands get into the store."""

import functools
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Protocol, Self

from milonga.control_model import HealthState, ResultCode
from milonga.records._rows import (
    MAX_PARAMETERS,
    MAX_TEXT,
    Durability,
    NewTask,
    Row,
    RowKind,
    shorten,
)
from milonga.records._store import RecordStore
from milonga.records._words import Phase, Situation
from milonga.records._writer import RecorderSettings, RecorderStatistics, Writer, settle

__all__ = ["Recorder"]

CallLater = Callable[[float, Callable[[], None]], "_Cancellable"]
Told = Callable[[Durability], object]


class _Cancellable(Protocol):
    def cancel(self) -> object: ...


class Recorder:
    """Takes what happens to tasks, and writes it in a thread of its own.

    Every method returns at once and never raises for what can go wrong with a database: a command
    does not fail because nobody can write it down. `open` and `finish` give a receipt, for whoever
    must not show a thing before it is durable (IN-02). One recorder serves a whole server.

    Parameters
    ----------
    store : RecordStore
        Where to.
    owner : str, optional
        Name of the server, the same after each restart; what its earlier self left open is closed
        as LOST. Without it tasks belong to nobody, and nobody closes them.
    settings : RecorderSettings, optional
        The bounds.
    call_later : callable, optional
        Timer for `patience`: ``call_later(seconds, function)`` gives an object with ``cancel()``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from milonga.records import NewTask, ProcessingTask, RecordStore, Situation
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with RecordStore(pathlib.Path(folder) / "records.db") as store:
    ...         with Recorder(store) as recorder:
    ...             _ = recorder.open(NewTask(uid="17_1_On", task_name="On"))
    ...             recorder.finish("17_1_On", Situation.DONE).result(timeout=10)
    <Durability.DURABLE: 'committed'>
    """

    def __init__(
        self,
        store: RecordStore,
        owner: str = "",
        settings: RecorderSettings | None = None,
        *,
        call_later: CallLater | None = None,
    ) -> None:
        self.store = store
        self._clock = store.clock
        self._call_later = call_later
        self._writer = Writer(store, owner, settings or RecorderSettings())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_away(self) -> bool:
        """Whether the store did not answer when it was tried last."""
        return self._writer.is_away

    def statistics(self) -> RecorderStatistics:
        """Return the counters."""
        return self._writer.statistics()

    def open(
        self, task: NewTask, then: Told | None = None, *, patience: float | None = None
    ) -> Future[Durability]:
        """Make the record of a task that is about to be queued (IN-01).

        A `uid` that is there already is left as it is.

        Parameters
        ----------
        task : NewTask
            The task.
        then, patience : optional
            As in `finish`.
        """
        receipt = self._receipt(then, patience)
        self._writer.put(
            Row(
                RowKind.OPEN,
                task.uid,
                task.columns(),
                self._clock(),
                parent_uid=task.parent_uid,
                receipt=receipt,
                urgent=then is not None or patience is not None,
            )
        )
        return receipt

    def change(
        self,
        uid: str,
        *,
        situation: Situation | None = None,
        again: bool = False,
        progress: float | None = None,
        message: str | None = None,
        health: HealthState | None = None,
        command_id: str | None = None,
        deadline_at: datetime | None = None,
        parameters: str | None = None,
        data: Any = None,
    ) -> None:
        """Write down what changed of a task that goes on; what is None has not changed.

        Parameters
        ----------
        uid : str
            Which task.
        situation : Situation, optional
            RUNNING or PAUSED, or ACCEPTED.
        again : bool, optional
            Whether it only goes on, and has begun before.
        progress : float, optional
            Between the record's `progress_start` and `progress_target`.
        message, health, command_id, deadline_at, parameters, data : optional
            New values of these columns.

        Raises
        ------
        ValueError
            If the situation is final: that takes `finish`.
        """
        now = self._clock()
        values: dict[str, Any] = {
            "progress_value": progress,
            "message": shorten(message, MAX_TEXT),
            "health_state": health.name if health is not None else None,
            "command_id": shorten(command_id, 500),
            "deadline_at": deadline_at,
            "parameters": shorten(parameters, MAX_PARAMETERS),
            "data": data,
        }
        if situation is not None:
            if situation.is_final:
                raise ValueError(f"found {situation.name}, which is final; use finish()")
            values["phase"] = situation.words.phase.value
            values["running_at"] = now if situation is Situation.RUNNING and not again else None
        kept = {name: value for name, value in values.items() if value is not None}
        self._writer.put(Row(RowKind.CHANGE, uid, kept, now))

    def finish(
        self,
        uid: str,
        situation: Situation,
        message: str = "",
        *,
        error: str = "",
        result_code: ResultCode | None = None,
        health: HealthState | None = None,
        data: Any = None,
        then: Told | None = None,
        patience: float | None = None,
    ) -> Future[Durability]:
        """Write down how a task ended; the first to do so is right (QE-09).

        Parameters
        ----------
        uid : str
            Which task.
        situation : Situation
            How it ended.
        message, error : str, optional
            The text of the result, and the trace of what went wrong.
        result_code, health : optional
            What the command reports, if it is not what the situation says.
        data : JSON value, optional
            New value of this column.
        then : callable, optional
            Called once with the `Durability`, in the recorder's thread or, when the store is known
            not to answer, in this one. It must return soon.
        patience : float, optional
            Seconds after which a slow store counts as one that does not answer. Needs `call_later`.

        Returns
        -------
        Future of Durability
            Resolved after the commit, or when there is no hope for one soon.

        Raises
        ------
        ValueError
            If the situation is not final.
        """
        if not situation.is_final:
            raise ValueError(f"found {situation.name}, which is not final; use change()")
        words = situation.words
        code = words.result_code if result_code is None else result_code
        state = words.health if health is None else health
        values: dict[str, Any] = {
            "task_status": words.status.value,
            "cause": words.cause.value if words.cause else None,
            "phase": Phase.FINISHED.value,
            "result_code": code.name,
            "health_state": state.name if state is not None else None,
            "message": shorten(message, MAX_TEXT),
            "error": shorten(error, MAX_TEXT),
        }
        if situation is Situation.DONE:
            values["progress_value"] = 100.0
        if data is not None:
            values["data"] = data
        receipt = self._receipt(then, patience)
        urgent = then is not None or patience is not None
        self._writer.put(
            Row(RowKind.FINISH, uid, values, self._clock(), receipt=receipt, urgent=urgent)
        )
        return receipt

    def log(self, uid: str, text: str, level: str = "INFO") -> None:
        """Append a line to the log of a task, which may be over."""
        values = {"text": shorten(text, MAX_TEXT), "level": shorten(level, 16)}
        self._writer.put(Row(RowKind.LOG, uid, values, self._clock()))

    def note(self, uid: str, data: Any) -> None:
        """Give the column `data` of a task, which may be over, a new value; its end stands."""
        self._writer.put(Row(RowKind.NOTE, uid, {"data": data}, self._clock()))

    def add_run(self, uid: str, run_uid: str) -> None:
        """Note the uid of a run that a task made, so that the task is found by it (IN-03)."""
        values = {"run_uid": shorten(run_uid, 64)}
        self._writer.put(Row(RowKind.RUN, uid, values, self._clock()))

    def add_step(self, uid: str, step_id: str, href: str, ui_href: str = "") -> None:
        """Note that a task waits for a person (QE-05).

        Parameters
        ----------
        uid : str
            Which task.
        step_id : str
            Name of the step.
        href, ui_href : str
            Where the answer goes, and where a person gives it.
        """
        values = {
            "step_id": shorten(step_id, 500),
            "href": shorten(href, 500),
            "ui_href": shorten(ui_href, 500),
        }
        self._writer.put(Row(RowKind.STEP, uid, values, self._clock()))

    def clear_step(self, uid: str) -> None:
        """Note that a task waits at its step no more (QE-06)."""
        self._writer.put(Row(RowKind.CLEAR, uid, {}, self._clock()))

    def keep(self, plugin_id: str, **values: Any) -> None:
        """Keep JSON values of a device by name, as `PluginState` has them; None forgets one.

        Parameters
        ----------
        plugin_id : str
            The device's name.
        **values
            What to keep.
        """
        for key, value in values.items():
            kept = {"plugin_id": plugin_id, "key": key, "value": value}
            self._writer.put(Row(RowKind.STATE, plugin_id, kept, self._clock()))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was handed over before is committed; return whether it is.

        After `close`, which says so itself, it is False at once.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait.
        """
        receipt: Future[Durability] = Future()
        self._writer.put(Row(RowKind.MARK, "", {}, self._clock(), receipt=receipt, urgent=True))
        try:
            return receipt.result(timeout) is Durability.DURABLE
        except TimeoutError:
            return False

    def close(self, timeout: float = 5.0) -> bool:
        """Write what waits, and end the thread; return whether all was written.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a store that does not answer.
        """
        return self._writer.close(timeout)

    def _receipt(self, then: Told | None, patience: float | None) -> Future[Durability]:
        receipt: Future[Durability] = Future()
        if then is not None:
            receipt.add_done_callback(lambda done: then(done.result()))
        if patience is not None and self._call_later is not None:
            timer = self._call_later(
                patience, functools.partial(settle, receipt, Durability.BUFFERED)
            )
            receipt.add_done_callback(lambda _: timer.cancel())
        return receipt
