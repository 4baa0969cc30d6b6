"""Write steps that wait for a person, as rows that the recorder was given (QE-05, QE-06)."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, insert, select, update

from milonga.records._step_model import Step, next_step_id
from milonga.records._tables import table_of
from milonga.records._task_model import ProcessingTask

__all__ = ["clear_steps", "insert_step"]

_STEP, _TASK = table_of(Step), table_of(ProcessingTask)


def insert_step(connection: Connection, task_id: int, values: dict[str, Any]) -> None:
    """Let a task wait at one more step; one that was open is cleared, as only one can be."""
    clear_steps(connection, [task_id])
    before = connection.execute(
        select(_STEP.c.step_id).where(_STEP.c.id == task_id).order_by(_STEP.c.number)
    ).scalars()
    names = list(before)
    step_id = next_step_id(names[-1] if names else None, values["step_id"])
    connection.execute(
        insert(_STEP),
        values | {"id": task_id, "number": len(names), "step_id": step_id, "cleared": False},
    )
    connection.execute(
        update(_TASK)
        .where(_TASK.c.id == task_id)
        .values(multi_step=True, current_step=len(names), version=_TASK.c.version + 1)
    )


def clear_steps(connection: Connection, task_ids: Iterable[int]) -> list[int]:
    """Note that tasks wait at their steps no more; return the numbers of those that did."""
    of_them = (_STEP.c.id.in_(task_ids), _STEP.c.cleared.is_(False))
    cleared = update(_STEP).where(*of_them).values(cleared=True).returning(_STEP.c.id)
    return [*connection.execute(cleared).scalars()]
