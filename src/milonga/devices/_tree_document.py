"""Task-tree documents: made to fit a size, and compared with the version before."""

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from milonga.control_model import TaskStatus, is_final

__all__ = ["changes_between", "count_outcome", "fit", "has_ended", "to_text"]

Node = dict[str, Any]

WORDS_FOLDED = 16
"""How many kinds of outcomes are counted in a node; all others, as `OTHERS`."""

WORD_LENGTH = 24
"""Characters that the name of an outcome may have; what is longer is none."""

OTHERS = "OTHER"

_COUNT_SIZE = 40
"""Characters that a node may grow by when one more kind of outcome is counted in it."""

_BARE = ("name", "type", "command", "command_id", "status", "progress", "started", "eta")
_STRIPPED = {"note": "what is below is not shown: no room"}


def to_text(value: object) -> str:
    """Write a document in as few characters as JSON allows; ASCII, as Tango sends Latin-1."""
    return json.dumps(value, separators=(",", ":"))


# To fit


def fit(commands: list[Node], room: int) -> int:
    """Fold steps into counts until the commands take at most `room` characters of JSON.

    First go steps that succeeded, then those that have not begun, then those that ended badly,
    and last those that run; each counts, by its outcome, in ``folded`` of the node above. Where
    that is not enough, commands that have ended are left out; of those that go on, all is left out
    but a bare line, before any of them is.

    Returns
    -------
    int
        How many commands had to be left out, the oldest first.
    """
    size = len(to_text(commands))
    if size <= room:
        return 0
    size -= _fold(commands, size - room)
    listed = len(commands)
    for command in list(commands):
        if size > room and has_ended(command):
            size -= len(to_text(command)) + 1
            commands.remove(command)
    for index, command in enumerate(commands):
        if size > room:
            commands[index] = {key: command[key] for key in _BARE if key in command} | _STRIPPED
            size += len(to_text(commands[index])) - len(to_text(command))
    while size > room and commands:
        size -= len(to_text(commands.pop(0))) + 1
    return listed - len(commands)


def has_ended(node: Node) -> bool:
    """Tell whether a node has ended."""
    status = TaskStatus.__members__.get(str(node.get("status")))
    return status is not None and is_final(status)


def count_outcome(folded: dict[str, int], word: str, count: int) -> str:
    """Count outcomes of a kind, or as others; return as which.

    Examples
    --------
    >>> count_outcome({}, "OK", 3), count_outcome({}, "so it is said at great length", 1)
    ('OK', 'OTHER')
    """
    known = word in folded or (len(folded) < WORDS_FOLDED and len(word) <= WORD_LENGTH)
    word = word if known else OTHERS
    folded[word] = folded.get(word, 0) + count
    return word


@dataclass(order=True, slots=True)
class _Place:
    """A node and where it hangs; what is smaller is folded first."""

    rank: tuple[int, int, int]
    node: Node = field(compare=False)
    above: "_Place | None" = field(compare=False)
    left: int = field(compare=False, default=0)


def _fold(commands: list[Node], excess: int) -> int:
    """Fold until so many characters are saved; return how many were."""
    places = list(_places(commands))
    ready = [place for place in places if place.above is not None and not place.left]
    heapq.heapify(ready)
    hidden: set[int] = set()
    saved = 0
    while ready and saved < excess:
        place = heapq.heappop(ready)
        above = place.above
        if above is None:
            continue
        saved += _hide(place.node, above.node)
        hidden.add(id(place.node))
        above.left -= 1
        if not above.left and above.above is not None:
            heapq.heappush(ready, above)
    for place in places:
        children = place.node.get("children")
        if children:
            kept = [child for child in children if id(child) not in hidden]
            if kept:
                place.node["children"] = kept
            else:
                del place.node["children"]
    return saved


def _places(commands: list[Node]) -> Iterator[_Place]:
    """Yield all nodes. The newest command's are the last to go within each rank."""
    order = 0
    for age, command in enumerate(commands):
        waiting: list[tuple[Node, _Place | None]] = [(command, None)]
        while waiting:
            node, above = waiting.pop()
            order += 1
            children = node.get("children", ())
            place = _Place((_rank(node), age, -order), node, above, len(children))
            yield place
            waiting += [(child, place) for child in reversed(children)]


def _rank(node: Node) -> int:
    word = _word(node)
    return {"OK": 0, "QUEUED": 1, "STAGING": 1, "IN_PROGRESS": 3}.get(word, 2)


def _word(node: Node) -> str:
    status = str(node.get("status", "UNKNOWN"))
    return str(node.get("result_code", "UNKNOWN")) if status == "COMPLETED" else status


def _hide(node: Node, above: Node) -> int:
    """Count a node in the one above; return at least how many characters that saves."""
    counts = node.get("folded") or {_word(node): 1}
    folded = dict(above.get("folded", {}))
    grown = 0
    for word, count in counts.items():
        size = len(folded)
        counted = count_outcome(folded, word, count)
        total = folded[counted]
        is_new = len(folded) > size
        grown += _COUNT_SIZE if is_new else len(str(total)) - len(str(total - count))
    above["folded"] = folded
    own = {key: value for key, value in node.items() if key != "children"}
    return len(to_text(own)) + 1 - grown


# To compare


def changes_between(before: list[Node], after: list[Node]) -> list[dict[str, Any]]:
    """Return the JSON Patch that turns the commands of one version into those of the next.

    Examples
    --------
    >>> changes_between([{"name": "On", "progress": 10}], [{"name": "On", "progress": 20}])
    [{'op': 'replace', 'path': '/commands/0/progress', 'value': 20}]
    """
    return list(_list_changes("/commands", before, after, "command_id"))


def _node_changes(path: str, before: Node, after: Node) -> Iterator[dict[str, Any]]:
    for key in before.keys() - after.keys():
        yield {"op": "remove", "path": f"{path}/{_escaped(key)}"}
    for key, value in after.items():
        place = f"{path}/{_escaped(key)}"
        if key not in before:
            yield {"op": "add", "path": place, "value": value}
        elif before[key] is value or before[key] == value:
            continue
        elif key == "children":
            yield from _list_changes(place, before[key], value, "name")
        else:
            yield {"op": "replace", "path": place, "value": value}


def _list_changes(
    path: str, before: list[Node], after: list[Node], identity: str
) -> Iterator[dict[str, Any]]:
    old, new = ([node.get(identity) for node in nodes] for nodes in (before, after))
    kept = set(old) & set(new)
    in_both = [key for key in old if key in kept]
    if in_both != [key for key in new if key in kept] or len(in_both) != len(kept):
        yield {"op": "replace", "path": path, "value": after}  # another order, or names twice
        return
    for index in range(len(old) - 1, -1, -1):
        if old[index] not in kept:
            yield {"op": "remove", "path": f"{path}/{index}"}
    for index, key in enumerate(new):
        if key not in kept:
            yield {"op": "add", "path": f"{path}/{index}", "value": after[index]}
    known = dict(zip(old, before, strict=True))
    for index, key in enumerate(new):
        if key in kept:
            yield from _node_changes(f"{path}/{index}", known[key], after[index])


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
