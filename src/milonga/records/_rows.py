"""What is handed to the recorder: plain values that need no database."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, TypeVar

from milonga.records._types import clean_text

__all__ = ["Durability", "NewTask", "Row", "RowKind", "new_tasks", "node_uid", "shorten"]

_ROW_BYTES = 1000
"""What a row takes beside its texts."""

_Text = TypeVar("_Text", str, str | None)

MAX_TEXT = 64 * 1024
"""Characters of a message, an error or a line of a log; the rest is cut."""

MAX_PARAMETERS = 4 * 1024 * 1024
"""Characters of a command's argument; the rest is cut."""


class Durability(Enum):
    """What became of a row that was handed to the recorder."""

    DURABLE = "committed"
    BUFFERED = "waits in memory, as the store does not answer"
    REFUSED = "not written: the task was over before, or is unknown"
    LOST = "not written: the buffer was full, or the store refused the row"


class RowKind(StrEnum):  # whose hash is that of a text, and quick
    """What a row does."""

    OPEN = "open"
    CHANGE = "change"
    FINISH = "finish"
    LOG = "log"
    NOTE = "note"
    RUN = "run"
    STEP = "step"
    CLEAR = "clear"
    STATE = "state"
    MARK = "mark"

    @property
    def is_essential(self) -> bool:
        """Whether the row is kept as long as there is any room."""
        return self not in _PASSING

    @property
    def is_of_task(self) -> bool:
        """Whether the row says something about a task."""
        return self not in _OF_NO_TASK


_PASSING = frozenset({RowKind.CHANGE, RowKind.LOG, RowKind.NOTE})
_OF_NO_TASK = frozenset({RowKind.STATE, RowKind.MARK})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task that is about to be queued.

    Parameters
    ----------
    uid : str
        Unique name: the id of the command, or `node_uid` of a node of its tree.
    task_name : str
        What it does.
    parent_uid : str, optional
        The node above, which must have been handed over before.
    device, command, parameters : optional
        Whom it commands, with what.
    kind, position, attempt : optional
        The node's type, its place among its siblings, and which try this is.
    issuer, origin : str, optional
        Who asked for it, and from where.
    deadline_at : datetime, optional
        When it must be over.
    data : JSON value, optional
        Anything else.
    """

    uid: str
    task_name: str
    parent_uid: str | None = None
    device: str | None = None
    command: str | None = None
    parameters: str = ""
    kind: str = "command"
    position: int = 0
    attempt: int = 1
    issuer: str | None = None
    origin: str | None = None
    deadline_at: datetime | None = None
    data: Any = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """Return the values of the columns, cut to what they hold."""
        return {
            "uid": clean_text(self.uid),
            "task_name": shorten(self.task_name, 500),
            "device": shorten(self.device, 255),
            "command": shorten(self.command, 255),
            "parameters": shorten(self.parameters, MAX_PARAMETERS),
            "kind": shorten(self.kind, 32),
            "position": self.position,
            "attempt": max(1, self.attempt),
            "issuer": shorten(self.issuer, 255),
            "origin": shorten(self.origin, 255),
            "deadline_at": self.deadline_at,
            "data": self.data,
        }


@dataclass(slots=True)
class Row:
    """A row on its way to the store."""

    kind: RowKind
    uid: str
    values: dict[str, Any]
    at: datetime
    parent_uid: str | None = None
    receipt: Future[Durability] | None = None
    urgent: bool = False
    late: bool = False
    done: bool = False
    outcome: Durability = Durability.DURABLE
    size: int = field(init=False)
    """About how many bytes the row takes in memory."""

    def __post_init__(self) -> None:
        size = _ROW_BYTES
        for value in self.values.values():
            if isinstance(value, str):
                size += len(value)
        self.size = size


def shorten(text: _Text, limit: int) -> _Text:
    """Cut a text that no column would take, and mark the cut."""
    if not text:
        return text
    cleaned = clean_text(text)
    return cleaned if len(cleaned) <= limit else f"{cleaned[: limit - 1]}…"


def node_uid(root_uid: str, *path: str) -> str:
    """Return the unique name of a node by the names on the way down to it.

    Examples
    --------
    >>> node_uid("17_1_Configure", "cbf", "mid-csp/cbf/01")
    '17_1_Configure/cbf/mid-csp/cbf/01'
    """
    return "/".join((root_uid, *path))


def new_tasks(
    tree: Mapping[str, Any], uid: str, *, parent_uid: str | None = None, **of_root: Any
) -> Iterator[NewTask]:
    """Yield a row for each node of a tree, parents first.

    Parameters
    ----------
    tree : mapping
        A node with the keys ``name``, ``type``, ``target``, ``command``, ``argument`` and
        ``children``, such as the snapshot of a task tree.
    uid : str
        Unique name of the root; nodes below get `node_uid`.
    parent_uid : str, optional
        The node above the root.
    **of_root
        More fields of the root's row.
    """
    fields: dict[str, Any] = {
        "uid": uid,
        "task_name": tree["name"],
        "parent_uid": parent_uid,
        "device": tree.get("target"),
        "command": tree.get("command"),
        "parameters": tree.get("argument") or "",
        "kind": tree.get("type", "command"),
    }
    yield NewTask(**(fields | of_root))
    shared = {key: of_root[key] for key in ("issuer", "origin") if key in of_root}
    for position, child in enumerate(tree.get("children", ())):
        below = node_uid(uid, child["name"])
        yield from new_tasks(child, below, parent_uid=uid, position=position, **shared)
