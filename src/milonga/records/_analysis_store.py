"""Write down analyses, and find the newest value of a parameter (LD-01 to LD-08)."""

import hashlib
from typing import Any

from sqlalchemy import Connection, insert, select

from milonga.errors import ArgumentError
from milonga.records._analysis import DescribedAnalysis
from milonga.records._analysis_model import (
    Analysis,
    AnalysisHeaderRow,
    AnalysisParameter,
    AnalysisSetting,
)
from milonga.records._codec import (
    FORMAT_VERSION,
    Attachments,
    decode,
    description_from_json,
    encode,
)
from milonga.records._environment import recorded_environment
from milonga.records._events import insert_ignoring
from milonga.records._flatten import flatten
from milonga.records._store import RecordStore
from milonga.records._task_model import ProcessingTask
from milonga.records._types import canonical_json

__all__ = ["HEADER_NAMES", "read_analysis", "read_latest_parameter", "record_analysis"]

HEADER_NAMES = ("header", "lute_config")
"""The parameters under which a header is found, which many analyses share."""

_RESULT = "result."


def record_analysis(
    store: RecordStore,
    description: DescribedAnalysis,
    *,
    uid: str | None = None,
    run: str | int | None = None,
    files: Attachments | None = None,
) -> int:
    """Write down an analysis with its parameters and result, and return its number.

    Parameters
    ----------
    store : RecordStore
        The store.
    description : DescribedAnalysis
        The analysis.
    uid : str, optional
        The task that it belongs to.
    run : str or int, optional
        The run that it is about; default: ``run`` in the header.
    files : Attachments, optional
        Where arrays and large values go.

    Raises
    ------
    ArgumentError
        If the analysis has no parameters, as it never began (LD-06).
    """
    parameters = description.parameters()
    name = description.task_result.task_name
    if parameters is None:
        raise ArgumentError(f"analysis {name}: found no parameters, expected one that has begun")
    header: Any = next((parameters.pop(key) for key in HEADER_NAMES if key in parameters), {})
    about = str(run if run is not None else (header or {}).get("run", ""))
    # Files have transactions of their own, so they are written before the one of the analysis.
    leaves = [
        {"name": key, "value": encode(value, files), "type": type(value).__name__}
        for key, value in flatten(parameters).items()
    ]
    result = description.task_result
    row = {
        "task_name": result.task_name,
        "run": about,
        "task_status": result.task_status.name,
        "valid": result.is_valid,
        "summary": encode(result.summary, files),
        "payload": encode(result.payload, files),
        "impl_schemas": result.impl_schemas,
        "parameters_type": type(description.task_parameters).__name__,
        "uid": uid,
        "format_version": FORMAT_VERSION,
        "created_at": store.clock(),
    }
    shown_header = {"content": encode(header, files)}
    with store.writing() as transaction:
        return _insert(transaction.connection, row, leaves, shown_header, _setting(description))


def _setting(description: DescribedAnalysis) -> dict[str, Any]:
    return {
        "environment": recorded_environment(description.task_env),
        "poll_interval": description.poll_interval,
        "communicators": list(description.communicator_desc),
    }


def _insert(
    connection: Connection,
    row: dict[str, Any],
    leaves: list[dict[str, Any]],
    header: dict[str, Any],
    setting: dict[str, Any],
) -> int:
    shared = {
        "header_id": _shared(connection, AnalysisHeaderRow, header),
        "setting_id": _shared(connection, AnalysisSetting, setting),
        "task_id": connection.scalar(
            select(ProcessingTask.id).where(ProcessingTask.uid == row["uid"])
        ),
    }
    analysis = insert(Analysis).returning(Analysis.id)
    number = int(connection.execute(analysis, row | shared).scalar_one())
    if leaves:
        found_by = {key: row[key] for key in ("task_name", "run", "valid")}
        own = [leaf | found_by | {"analysis_id": number} for leaf in leaves]
        connection.execute(insert(AnalysisParameter), own)
    return number


def _shared(connection: Connection, model: Any, content: dict[str, Any]) -> int:
    """Return the number of the row with this content; make it if there is none (LD-04, D-5)."""
    sha256 = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    connection.execute(insert_ignoring(connection, model), {"sha256": sha256, **content})
    return int(connection.execute(select(model.id).where(model.sha256 == sha256)).scalar_one())


def read_latest_parameter(
    store: RecordStore,
    task_name: str,
    param: str,
    valid_only: bool = True,
    for_run: str | int | None = None,
    *,
    files: Attachments | None = None,
) -> Any:
    """Return the newest value of a parameter, or None (LD-07).

    Parameters
    ----------
    store : RecordStore
        The store.
    task_name, param : str
        The analysis, and the flattened name of the parameter; ``result.summary``,
        ``result.payload``, ``result.task_status`` and ``result.impl_schemas`` are there as well.
    valid_only : bool, optional
        Whether to look only at analyses that were completed.
    for_run : str or int, optional
        The run that they are about; default: any.
    files : Attachments, optional
        Where arrays and large values are.
    """
    if param.startswith(_RESULT):
        model: Any = Analysis
        value = getattr(Analysis, param.removeprefix(_RESULT), None)
        number, conditions = Analysis.id, [Analysis.task_name == task_name]
        if value is None:
            return None
    else:
        model, value, number = (
            AnalysisParameter,
            AnalysisParameter.value,
            AnalysisParameter.analysis_id,
        )
        conditions = [model.task_name == task_name, model.name == param]
    if for_run is not None:
        conditions.append(model.run == str(for_run))
    # One step into the index for each validity: a search for both could not use its order.
    newest: tuple[int, Any] | None = None
    with store.reading() as session:
        for valid in (True,) if valid_only else (True, False):
            query = select(number, value).where(*conditions, model.valid.is_(valid))
            row = session.execute(query.order_by(number.desc()).limit(1)).one_or_none()
            if row is not None and (newest is None or row[0] > newest[0]):
                newest = (row[0], row[1])
    return decode(newest[1], files) if newest is not None else None


def read_analysis(
    store: RecordStore, number: int, files: Attachments | None = None
) -> DescribedAnalysis | None:
    """Return an analysis by its number, or None; its parameters have their flattened names."""
    with store.reading() as session:
        row = session.get(Analysis, number)
        if row is None:
            return None
        own = select(AnalysisParameter.name, AnalysisParameter.value)
        rows = session.execute(own.where(AnalysisParameter.analysis_id == number))
        parameters = {str(row.name): row.value for row in rows}
        header = session.get_one(AnalysisHeaderRow, row.header_id).content
        setting = session.get_one(AnalysisSetting, row.setting_id)
        return description_from_json(
            {
                "version": row.format_version,
                "task_result": {
                    "version": row.format_version,
                    "task_name": row.task_name,
                    "task_status": row.task_status,
                    "summary": row.summary,
                    "payload": row.payload,
                    "impl_schemas": row.impl_schemas,
                },
                "task_parameters": parameters | ({"header": header} if header else {}),
                "task_env": setting.environment,
                "poll_interval": setting.poll_interval,
                "communicator_desc": setting.communicators,
            },
            files,
        )
