"""The analyses that a device allows, each run in a process of its own as a leaf of a command."""

import importlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._named_lines import NamedModel, read_named_lines
from milonga.devices._record_service import RecordService
from milonga.devices._tree_job import Ticket
from milonga.errors import ArgumentError, CommandMapError
from milonga.lrc import network
from milonga.records import (
    MAX_ATTACHED,
    AnalysisExecutor,
    AnalysisOutput,
    DescribedAnalysis,
    RunningAnalysis,
    attach_analysis,
    encode,
    node_uid,
)
from milonga.tasks import AnalysisRequest, AnalysisStarter

__all__ = ["AnalysisDesk", "AnalysisEntry", "read_analyses"]

_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_FUNCTION = rf"^{_DOTTED}:{_DOTTED}$"

OnUpdate = Callable[..., None]


class AnalysisEntry(NamedModel):
    """An analysis that may be run.

    Parameters
    ----------
    name : str
        What command maps and clients call it.
    target : str
        The function, as ``module:function``; it is imported only in its own process.
    parameters_model : str, optional
        Pydantic model of its parameters, as ``module:Model``; it is imported here.
    python_path : sequence of str, optional
        Folders in which modules are looked for first.
    timeout : float, optional
        Seconds that it may take; default: 600.
    environment : sequence of str, optional
        Names of environment variables that it needs beside the usual ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]+$", max_length=100)]
    target: Annotated[str, Field(pattern=_FUNCTION)]
    parameters_model: Annotated[str, Field(pattern=_FUNCTION)] | None = None
    python_path: tuple[str, ...] = ()
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    environment: tuple[str, ...] = ()


def read_analyses(lines: Iterable[str]) -> dict[str, AnalysisEntry]:
    """Read the property Analyses: one JSON object a line.

    Raises
    ------
    CommandMapError
        If a line is no such object, or two have the same name; names line and field.

    Examples
    --------
    >>> list(read_analyses(['{"name": "peak", "target": "milonga.analyses:fit_peak"}']))
    ['peak']
    """
    return read_named_lines("Analyses", AnalysisEntry, lines)


class AnalysisDesk:
    """Runs the analyses of one device. Safe across threads.

    Parameters
    ----------
    entries : mapping
        The analyses that are allowed, by name.
    service : RecordService or None
        Keeps what comes of them.
    documents : callable
        Returns the folder of the documents of runs, or None if there is none.
    call_soon : callable
        Runs a function on the thread that starts and ends commands.
    logger : logging.Logger
        The device's.
    publish : callable
        Gets what came of an analysis, as JSON, when it has ended.

    Raises
    ------
    CommandMapError
        If the model of an analysis's parameters cannot be had.
    """

    def __init__(
        self,
        entries: Mapping[str, AnalysisEntry],
        service: RecordService | None,
        documents: Callable[[], Path | None],
        call_soon: Callable[[Callable[[], None]], None],
        logger: logging.Logger,
        publish: Callable[[str], None],
    ) -> None:
        self._entries = entries
        self._models = {name: _model_of(entry) for name, entry in entries.items()}
        self.service = service
        self._documents = documents
        self.call_soon = call_soon
        self.logger = logger
        self.publish = publish

    def starters(self, ticket: Ticket) -> Mapping[str, AnalysisStarter]:
        """Return what starts the analyses as steps of a command, by name."""
        return {name: partial(self._start, name, ticket) for name in self._entries}

    def _start(
        self, name: str, ticket: Ticket, request: AnalysisRequest, on_update: OnUpdate
    ) -> "AnalysisRun":
        entry, model = self._entries[name], self._models[name]
        executor = AnalysisExecutor(
            name,
            entry.target,
            parameters_model=model,
            environment=entry.environment,
            python_path=entry.python_path,
            timeout=entry.timeout,
        )
        uid = node_uid(ticket.command_id, *request.path)
        run = AnalysisRun(self, uid, on_update, request.runs)
        executor.add_hook("TASK_LOG", run.said)
        executor.add_hook("TASK_FILE", run.attached)
        executor.add_hook("TASK_LINK", run.linked)
        try:
            run.running = executor.start(self._parameters(request, model), run.updated, uid=run.uid)
        except ArgumentError as error:
            text = f"{name}: {error}"
            on_update(status=TaskStatus.REJECTED, result=(ResultCode.REJECTED, text))
        return run

    def _parameters(
        self, request: AnalysisRequest, model: type[BaseModel] | None
    ) -> dict[str, Any]:
        """Add what the plans of the command have made, where that is wanted and not given."""
        parameters: dict[str, Any] = dict(request.parameters)
        folder = self._documents()
        made: dict[str, Any] = {"runs": list(request.runs)} if request.runs else {}
        if request.runs and folder is not None:
            made["documents"] = [str(folder / f"{uid}.jsonl") for uid in request.runs]
        if model is not None:
            made = {key: value for key, value in made.items() if key in model.model_fields}
        return made | parameters


class AnalysisRun:
    """An analysis on its way, as the invocation of its leaf. Safe across threads.

    Parameters
    ----------
    desk : AnalysisDesk
        Whose it is.
    uid : str
        Unique name of its record.
    on_update : callable
        Takes the updates of the leaf.
    runs : tuple of str
        The runs that it is about.
    """

    command_id: str | None = None
    running: RunningAnalysis | None = None

    def __init__(
        self, desk: AnalysisDesk, uid: str, on_update: OnUpdate, runs: tuple[str, ...]
    ) -> None:
        self.uid = uid
        self._desk = desk
        self._on_update = on_update
        self._runs = runs
        self._lock = threading.Lock()
        self._files: list[Mapping[str, Any]] = []
        self._links: list[Mapping[str, Any]] = []
        self._details: dict[str, Any] = {}

    def abort(self) -> None:
        """Ask for the end of the analysis."""
        if self.running is not None:
            self.running.abort()

    def close(self) -> None:
        """Do nothing: the process is watched until it has ended."""

    def details(self) -> dict[str, Any]:
        """Return what the snapshot of the leaf shows of the analysis."""
        with self._lock:
            return dict(self._details)

    # From the thread that watches the processes

    def said(self, _: DescribedAnalysis, text: Any) -> None:
        """Take a line for the log."""
        self._note(said=str(text)[:1000])
        if self._desk.service is not None:
            self._desk.service.recorder.log(self.uid, str(text))

    def attached(self, _: DescribedAnalysis, contents: Any) -> None:
        """Take a file."""
        if isinstance(contents, dict):
            # Of more than may be attached only the number is of interest, not the bytes.
            room = len(self._files) < MAX_ATTACHED
            self._files.append(contents if room else {"name": contents.get("name")})

    def linked(self, _: DescribedAnalysis, contents: Any) -> None:
        """Take a link."""
        if isinstance(contents, dict):
            self._links.append(contents)

    def updated(self, **update: Any) -> None:
        """Report on the device's thread; the end, once the results are stored."""
        report = partial(self._desk.call_soon, partial(self._on_update, **update))
        result = update.get("result")
        if result is None:
            report()
            return
        self._note(summary=str(result[1]) if isinstance(result, tuple) else "")

        def keep_and_report() -> None:
            try:
                self._keep()
                self._show()
            finally:
                report()

        if network().run(keep_and_report, in_background=True) is None:
            report()

    def _keep(self) -> None:
        """Store what came of it; what cannot be stored does not undo the analysis."""
        service, running = self._desk.service, self.running
        if service is None or running is None:
            return
        output = AnalysisOutput(tuple(self._files), tuple(self._links))
        try:
            service.recorder.flush(STORE_PATIENCE)
            attached = attach_analysis(
                *(service.store, service.files, self.uid, running.description, output),
                run=self._runs[-1] if self._runs else None,
            )
        except Exception as error:
            self._desk.logger.exception("the results of %s could not be stored", self.uid)
            service.recorder.log(self.uid, f"results could not be stored: {error}", "ERROR")
            return
        self._note(
            outputs=[
                {
                    "name": file.file_name,
                    "type": file.file_type,
                    "href": service.files.get_task_file_url(file, external=False),
                }
                for file in attached.files
            ],
            **({"refusals": list(attached.refusals)} if attached.refusals else {}),
        )
        for refusal in attached.refusals:
            service.recorder.log(self.uid, f"not stored: {refusal}", "ERROR")

    def _show(self) -> None:
        """Publish what came of it."""
        if self.running is None:
            return
        result = self.running.description.task_result
        details = self.details()
        told = {
            "uid": self.uid,
            "name": result.task_name,
            "status": result.task_status.name,
            "summary": details.get("summary", ""),
            "schemas": result.schemas,
            "payload": _if_short(result.payload),
            "runs": self._runs,
            "outputs": details.get("outputs", []),
            "refusals": details.get("refusals", []),
            "finished": datetime.now(UTC).isoformat(),
        }
        self._desk.publish(json.dumps(told, default=str))

    def _note(self, **details: Any) -> None:
        with self._lock:
            self._details = self._details | details


STORE_PATIENCE = 2.0
"""Seconds for which results wait until the record that they belong to is there."""


MAX_PAYLOAD = 4096
"""Characters of a payload that is shown; a longer one is in the record, as payload.json."""


def _if_short(payload: Any) -> Any:
    try:
        told = encode(payload)
        return told if len(json.dumps(told)) <= MAX_PAYLOAD else None
    except (TypeError, ValueError, RecursionError):
        return None


def _model_of(entry: AnalysisEntry) -> type[BaseModel] | None:
    if entry.parameters_model is None:
        return None
    where = f"Property Analyses, {entry.name}: parameters_model: found {entry.parameters_model!r}"
    module, _, name = entry.parameters_model.partition(":")
    before = list(sys.path)
    sys.path[:0] = entry.python_path
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise CommandMapError(
            f"{where}, which cannot be used: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path[:] = before
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise CommandMapError(f"{where}, expected a pydantic model")
    return found
