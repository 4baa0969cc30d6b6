"""What a device tells of its running commands in ``taskTree``, and how a client keeps up with it.

The attribute ``taskTree`` has the whole document, ``taskTreeDelta`` what has changed since the
version before, as a JSON Patch (RFC 6902) of the document's ``commands``. Their schemas are beside
this module: ``task_tree.schema.json`` and ``task_tree_delta.schema.json``.

Examples
--------
Follow a device with both attributes::

    fold = TaskTreeFold()
    fold.take(proxy.taskTree)
    ...
    if not fold.take_delta(text_of_an_event):  # one was missed, or the device was restarted
        fold.take(proxy.taskTree)
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milonga.errors import ProtocolError

__all__ = [
    "MAX_TREE_DEPTH",
    "SCHEMA_VERSION",
    "Change",
    "TaskTreeDelta",
    "TaskTreeDocument",
    "TaskTreeFold",
    "TaskTreeNode",
    "Waiting",
    "find_command",
    "read_delta",
    "read_document",
    "schema_texts",
]

SCHEMA_VERSION = 1

MAX_TREE_DEPTH = 32
"""Levels of nodes that a tree may have, through all the devices that it reaches."""


class _Told(BaseModel):
    """Part of a document; what a later version adds to it is left out when it is read."""

    model_config = ConfigDict(extra="ignore")


class Waiting(_Told):
    """Something that a command waits for: one that runs at a device, and has nothing below it."""

    device: str = Field(description="Name of the device, or of the plan or method.")
    command: str = Field(default="", description="What the device was asked to do.")
    since: str | None = Field(default=None, description="When it began; ISO 8601, in UTC.")
    until: str = Field(default="", description="See the step's own.")


class TaskTreeNode(_Told):
    """A command, a group of its steps, or one step. What is empty or not known is left out."""

    name: str
    type: str = Field(
        default="", description="sequential, parallel, device, internal or plan; more may come."
    )
    target: str = Field(default="", description="Who does the work; empty for a group.")
    command: str = Field(default="", description="What the target was asked to do.")
    command_id: str = Field(default="", description="The id that the target gave to that.")
    status: str = Field(default="UNKNOWN", description="Name of a TaskStatus.")
    result_code: str = Field(default="", description="Name of a ResultCode.")
    message: str = Field(default="", description="First line of the result; may be shortened.")
    progress: int = Field(default=0, ge=0, le=100, description="Per cent; 100 only at the end.")
    started: str | None = Field(default=None, description="ISO 8601, in UTC.")
    finished: str | None = Field(default=None, description="ISO 8601, in UTC.")
    weight: float | None = Field(
        default=None, description="Share in the progress of the node above: seconds, if known."
    )
    phase: str = Field(default="", description="What a group does now, in words.")
    expected: float | None = Field(
        default=None, description="Seconds that this command took of late on this device."
    )
    eta: float | None = Field(
        default=None, ge=0, description="Seconds that it still needs; 0 when it is overdue."
    )
    waits_for: list[Waiting] = Field(
        default_factory=list,
        description="What runs below, those that began first; a few. Of a command in the queue:"
        " the one of its own device that runs.",
    )
    waiting: int = Field(
        default=0, ge=0, description="How many run below, in all; or are ahead in the queue."
    )
    folded: dict[str, int] = Field(
        default_factory=dict,
        description="Steps below that are not listed, counted by outcome, to save room.",
    )
    note: str = Field(default="", description="Why something is not shown.")
    until: str = Field(
        default="",
        description="What an attribute of the target is to be, now that it has given its result.",
    )
    run_uids: list[str] = Field(default_factory=list, description="Runs of a plan.")
    children: list["TaskTreeNode"] = Field(default_factory=list)


class _Numbered(_Told):
    version: Literal[1] = Field(description="Version of the schema.")
    device: str = Field(description="Name of the device.")
    epoch: str = Field(description="When the device began to count; another one: it was restarted.")
    number: int = Field(ge=0, description="Grows by 1 with each version of the document.")
    time: str = Field(description="When this version was made; ISO 8601, in UTC.")


class TaskTreeDocument(_Numbered):
    """The commands of a device, the latest last: those under way, and a few that have ended."""

    commands: list[TaskTreeNode]
    omitted: int = Field(default=0, ge=0, description="Commands not listed, to save room.")


class Change(_Told):
    """One operation of a JSON Patch."""

    op: Literal["add", "replace", "remove"]
    path: str = Field(description="JSON Pointer (RFC 6901) into the document.")
    value: Any = None


class TaskTreeDelta(_Numbered):
    """What leads from version `base` of the document to version `number`."""

    base: int = Field(ge=0, description="The version that the changes are to be applied to.")
    changes: list[Change]


def read_document(text: str) -> dict[str, Any]:
    """Read the text of a ``taskTree``, of any device.

    Raises
    ------
    ProtocolError
        If it is none.

    Examples
    --------
    >>> read_document('{"version": 7}')
    Traceback (most recent call last):
    milonga.errors.ProtocolError: task tree: version: found 7; expected a task tree of version 1
    """
    document = _read(TaskTreeDocument, text)
    for command in document["commands"]:
        _cut(command, MAX_TREE_DEPTH)
    return document


def read_delta(text: str) -> dict[str, Any]:
    """Read the text of a ``taskTreeDelta``; see `read_document`."""
    delta = _read(TaskTreeDelta, text)
    for change in delta["changes"]:
        change.setdefault("value", None)
    return delta


def schema_texts() -> dict[str, str]:
    """Return the published schemas, by the names of their files beside this module."""
    return {
        f"{name}.schema.json": f"{json.dumps(model.model_json_schema(), indent=2)}\n"
        for name, model in (("task_tree", TaskTreeDocument), ("task_tree_delta", TaskTreeDelta))
    }


def find_command(document: dict[str, Any], command_id: str) -> dict[str, Any] | None:
    """Return the node of a command of the device; None if the document does not list it."""
    commands: list[dict[str, Any]] = document["commands"]
    return next((node for node in commands if node.get("command_id") == command_id), None)


class TaskTreeFold:
    """A device's task tree, kept up to date from what its attributes tell. For one thread.

    Whoever joins late or misses deltas comes to the same document: `take_delta` says when the
    whole of it has to be read.
    """

    def __init__(self) -> None:
        self.document: dict[str, Any] | None = None
        self.applied = self.refused = 0

    def take(self, text: str) -> None:
        """Take a value of ``taskTree``, unless a newer one is known.

        Raises
        ------
        ProtocolError
            If it is not a task tree.
        """
        document = read_document(text)
        known = self.document
        is_same = known is not None and known["epoch"] == document["epoch"]
        if known is None or not is_same or document["number"] >= known["number"]:
            self.document = document

    def take_delta(self, text: str) -> bool:
        """Take a value of ``taskTreeDelta``.

        Returns
        -------
        bool
            Whether the document is now at least as new as the delta. If not, read it whole.

        Raises
        ------
        ProtocolError
            If it is not a delta.
        """
        delta = read_delta(text)
        known = self.document
        if known is None or delta["epoch"] != known["epoch"] or delta["base"] > known["number"]:
            self.refused += 1
            return False
        if delta["number"] <= known["number"]:
            return True
        if delta["base"] < known["number"]:
            self.refused += 1
            return False
        # a copy, as whoever looks at the document may still do so, and a patch may fail half-way
        changed = json.loads(json.dumps(known))
        try:
            for change in delta["changes"]:
                _apply(changed, change)
        except (LookupError, ValueError, TypeError):
            self.document = None
            self.refused += 1
            return False
        self.document = changed | {"number": delta["number"], "time": delta["time"]}
        self.applied += 1
        return True


def _read(model: type[_Numbered], text: str) -> dict[str, Any]:
    try:
        return model.model_validate_json(text).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "text"
        found = repr(first["input"])
        found = found if len(found) <= 80 else f"{found[:77]}…"  # noqa: PLR2004 - a line's length
        raise ProtocolError(
            f"task tree: {where}: found {found}; expected a task tree of version {SCHEMA_VERSION}"
        ) from error
    except RecursionError as error:
        raise ProtocolError(
            f"task tree: found too many levels; expected {MAX_TREE_DEPTH} at most"
        ) from error


def _cut(node: dict[str, Any], levels: int) -> None:
    """Leave out what is more than so many levels below."""
    if levels <= 1:
        if node.pop("children", None):
            node["note"] = "what is below is not shown: too many levels"
        return
    for child in node.get("children", ()):
        _cut(child, levels - 1)


def _apply(document: dict[str, Any], change: dict[str, Any]) -> None:
    *way, last = [
        step.replace("~1", "/").replace("~0", "~") for step in change["path"].split("/")[1:]
    ]
    place: Any = document
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    if isinstance(place, list):
        _apply_to_list(place, last, change)
    elif change["op"] == "remove":
        del place[last]
    else:
        place[last] = change["value"]


def _apply_to_list(place: list[Any], last: str, change: dict[str, Any]) -> None:
    index = len(place) if last == "-" else int(last)
    if change["op"] == "add":
        place.insert(index, change["value"])
    elif change["op"] == "remove":
        del place[index]
    else:
        place[index] = change["value"]
