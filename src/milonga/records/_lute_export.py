"""Write analyses as an SQLite file with LUTE's tables (LD-08).

One table for each task with a column for each parameter is what LUTE's tools read. Milonga does
not work with it; it is written on demand.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from milonga.records._analysis_model import (
    Analysis,
    AnalysisHeaderRow,
    AnalysisParameter,
    AnalysisSetting,
)
from milonga.records._flatten import flatten
from milonga.records._store import RecordStore

__all__ = ["export_lute"]

MAX_COLUMNS = 1900
"""Columns of a table; SQLite takes 2000. Parameters beyond are left out."""

_RESULTS = ("task_status", "summary", "payload", "impl_schemas")


def export_lute(store: RecordStore, path: Path) -> int:
    """Write all analyses to a new file, and return how many.

    Parameters
    ----------
    store : RecordStore
        The store.
    path : Path
        The file, which must not be there yet.

    Raises
    ------
    FileExistsError
        If it is there.
    """
    path.touch(exist_ok=False)
    with closing(sqlite3.connect(path)) as file, store.reading() as session, file:
        _write_shared(session, file)
        names = session.scalars(select(Analysis.task_name).distinct()).all()
        return sum(_write_task(session, file, name) for name in sorted(names))


def _write_shared(session: Session, file: sqlite3.Connection) -> None:
    headers = session.scalars(select(AnalysisHeaderRow).order_by(AnalysisHeaderRow.id))
    _write_table(file, "gen_cfg", [{"id": row.id, **flatten(row.content or {})} for row in headers])
    settings = session.scalars(select(AnalysisSetting).order_by(AnalysisSetting.id))
    rows = [
        {
            "id": row.id,
            "env": ";".join(f"{name}={value}" for name, value in row.environment.items()),
            "poll_interval": row.poll_interval,
            "communicator_desc": ";".join(row.communicators),
        }
        for row in settings
    ]
    _write_table(file, "exec_cfg", rows)


def _write_task(session: Session, file: sqlite3.Connection, name: str) -> int:
    rows = []
    analyses = session.scalars(
        select(Analysis).where(Analysis.task_name == name).order_by(Analysis.id)
    )
    for analysis in analyses.all():
        own = select(AnalysisParameter.name, AnalysisParameter.value).where(
            AnalysisParameter.analysis_id == analysis.id
        )
        rows.append(
            {
                "id": analysis.id,
                "timestamp": analysis.created_at.isoformat(sep=" "),
                "gen_cfg_id": analysis.header_id,
                "exec_cfg_id": analysis.setting_id,
                **{f"result.{key}": getattr(analysis, key) for key in _RESULTS},
                "valid_flag": int(analysis.valid),
                **{str(row.name): row.value for row in session.execute(own)},
            }
        )
    _write_table(file, name, rows)
    return len(rows)


def _write_table(file: sqlite3.Connection, name: str, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))[:MAX_COLUMNS]
    if not columns:
        return
    listed = ", ".join(map(_quoted, columns))
    places = ", ".join("?" * len(columns))
    file.execute(f"CREATE TABLE {_quoted(name)} ({listed})")
    file.executemany(
        f"INSERT INTO {_quoted(name)} ({listed}) VALUES ({places})",  # noqa: S608 - quoted
        [[_cell(row, column) for column in columns] for row in rows],
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _cell(row: Mapping[str, Any], column: str) -> Any:
    value = row.get(column)
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)
