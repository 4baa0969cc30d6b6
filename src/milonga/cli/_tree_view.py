"""Command trees for people: live on a terminal, line by line in a pipe.

Works on the plain dictionaries that a device's ``CommandTree`` gives; knows nothing of Tango.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from milonga.control_model import ResultCode, TaskStatus, is_final

__all__ = [
    "LinePainter",
    "Painter",
    "SilentPainter",
    "TreePainter",
    "culprits",
    "device_name",
    "duration",
    "is_over",
    "narrow_note",
    "outcome_word",
    "painter",
    "pruned",
    "render",
    "waiting_lines",
]

Snapshot = Mapping[str, Any]

_MARKS = {
    # status: mark, the same for a terminal that has only ASCII, style
    "OK": ("✓", "+", "green"),
    "QUEUED": ("○", ".", "dim"),
    "STAGING": ("○", ".", "dim"),
    "IN_PROGRESS": ("▶", ">", "cyan"),
    "ABORTED": ("■", "#", "yellow"),
    "REJECTED": ("⊘", "/", "magenta"),
    "FAILED": ("✗", "x", "red"),
}
_NOT_BEGUN = frozenset({"QUEUED", "STAGING"})
_UNKNOWN = ("?", "?", "dim")
_BAR_LENGTH = 20

ENOUGH_COLUMNS = 60
"""Columns of a terminal in which states are not cut."""


def outcome_word(node: Snapshot) -> str:
    """Say how a node stands: ``OK`` only if it ran to its end and achieved something."""
    status = str(node.get("status", "UNKNOWN"))
    if status == TaskStatus.COMPLETED.name:
        return str(node.get("result_code", "UNKNOWN"))
    return status


def label(node: Snapshot, now: datetime, *, ascii_only: bool = False) -> Text:
    """Write one node as one line."""
    word = outcome_word(node)
    mark, plain_mark, style = _MARKS.get(word, _UNKNOWN)
    text = Text(overflow="ellipsis", no_wrap=True)
    text.append(f"{plain_mark if ascii_only else mark} ", style=style)
    text.append(_title(node), style="bold" if node.get("children") else "")
    text.append(f"  {word}", style=style)
    progress = node.get("progress")
    if word == "IN_PROGRESS" and progress:
        if node.get("type") == "plan":
            text.append(f" {_bar(progress, ascii_only)}", style=style)
        text.append(f" {progress} %", style=style)
    seconds = duration(node, now)
    if seconds is not None:
        text.append(f"  {seconds:.1f} s", style="dim")
    text.append(_ahead(node), style="dim")
    if word not in {"OK", "QUEUED", "STAGING", "IN_PROGRESS"}:
        text.append(_reason(node), style=style)
    text.append(_remarks(node), style="dim")
    return text


def _remarks(node: Snapshot) -> str:
    """Say what was wrong beside the outcome: events, the answer to an abort, silence."""
    irregular = dict(node.get("irregular_events") or {})
    irregular.pop("notes", None)
    words = [f"{count} {kind}" for kind, count in sorted(irregular.items())]
    remarks = [f"events {', '.join(words)}"] if words else []
    if node.get("abort") not in {None, "ACK", "NOT_NEEDED"}:
        remarks.append(f"abort {node['abort']}")
    if node.get("stalled"):
        remarks.append("STALLED")
    if node.get("aborted_by"):
        remarks.append(f"aborted by {node['aborted_by']}")
    return "".join(f"  [{remark}]" for remark in remarks)


def _ahead(node: Snapshot) -> str:
    """Say what a device tells of the rest of a command, and what of its tree is not listed."""
    words = f"  {node['phase']}" if node.get("phase") and not is_over(node) else ""
    if node.get("eta") is not None and not is_over(node):
        words += f"  {_left(node['eta'])}" if node["eta"] else "  overdue"
    folded = node.get("folded")
    if isinstance(folded, dict):
        words += "".join(f"  +{count} {word}" for word, count in folded.items())
    return words


def _left(seconds: float) -> str:
    """Say how long something still takes; it is over only when it says so.

    Examples
    --------
    >>> _left(4.2), _left(0.3)
    ('4 s left', '<1 s left')
    """
    return f"{seconds:.0f} s left" if seconds >= 1.0 else "<1 s left"


def waiting_lines(node: Snapshot, now: datetime) -> list[Text]:
    """Write what a command waits for, and since when; nothing if it has ended."""
    waits = node.get("waits_for")
    if not isinstance(waits, list) or is_over(node):
        return []
    if outcome_word(node) in _NOT_BEGUN:
        return [Text(f"  {_queued_behind(node)}", style="cyan", no_wrap=True, overflow="ellipsis")]
    lines = []
    for wait in waits:
        seconds = duration({"started": wait.get("since")}, now)
        since = "" if seconds is None else f" {seconds:.1f} s"
        device = device_name(str(wait.get("device", "?")))
        until = f" until {wait['until']}" if wait.get("until") else ""
        lines.append(f"  waits{since} for {device} {wait.get('command', '')}{until}".rstrip())
    more = int(node.get("waiting") or 0) - len(waits)
    if more > 0:
        lines.append(f"  and for {more} more")
    return [Text(line, style="cyan", no_wrap=True, overflow="ellipsis") for line in lines]


def _queued_behind(node: Snapshot) -> str:
    """Say what a command in the queue waits for; empty if it does not."""
    waits = node.get("waits_for")
    if not isinstance(waits, list) or not waits or outcome_word(node) not in _NOT_BEGUN:
        return ""
    return f"queued behind {waits[0].get('command')} ({node.get('waiting') or 1} ahead)"


def pruned(snapshot: Snapshot, room: int) -> Snapshot:
    """Count nodes instead of listing them until a tree fits into so many lines, if it can.

    First what is below a group that succeeded, then other steps that did, then those that have not
    begun: what runs and what went wrong stays to be seen.
    """
    for hides in (_is_below_good, _is_good, _has_not_begun):
        if _size(snapshot) <= room:
            break
        snapshot = _without(snapshot, hides)
    return snapshot


def _without(node: Snapshot, hides: Callable[[Snapshot, Snapshot], bool]) -> Snapshot:
    """Leave out the children that `hides` says, given the node and the child."""
    children = _children(node)
    if not children:
        return node
    folded = dict(node.get("folded") or {})
    kept = []
    for child in children:
        if hides(node, child):
            for word, count in _leaf_words(child).items():
                folded[word] = folded.get(word, 0) + count
        else:
            kept.append(_without(child, hides))
    return {**node, "children": kept, "folded": folded}


def _is_good(_above: Snapshot, node: Snapshot) -> bool:
    return outcome_word(node) == ResultCode.OK.name


def _is_below_good(above: Snapshot, node: Snapshot) -> bool:
    return _is_good(above, above) and _is_good(above, node)


def _has_not_begun(_above: Snapshot, node: Snapshot) -> bool:
    return outcome_word(node) in _NOT_BEGUN


def _leaf_words(node: Snapshot) -> Counter[str]:
    """Count the outcomes of the leaves below a node, or its own if it has none."""
    counts = Counter(node.get("folded") or {})
    for child in _children(node):
        counts += _leaf_words(child)
    return counts or Counter([outcome_word(node)])


def _size(node: Snapshot) -> int:
    return 1 + sum(map(_size, _children(node)))


def narrow_note(width: int) -> list[Text]:
    """Say that a terminal is too narrow to show all, if it is."""
    if width >= ENOUGH_COLUMNS:
        return []
    text = f"cut: {width} columns of {ENOUGH_COLUMNS}"
    return [Text(text, style="dim", no_wrap=True, overflow="ellipsis")]


def _bar(progress: int, ascii_only: bool) -> str:
    """Draw how far something is.

    Examples
    --------
    >>> _bar(40, ascii_only=True)
    '########------------'
    """
    done = _BAR_LENGTH * max(0, min(100, progress)) // 100
    full, empty = "#-" if ascii_only else "━╌"
    return full * done + empty * (_BAR_LENGTH - done)


def render(snapshot: Snapshot, now: datetime, *, ascii_only: bool = False) -> Tree:
    """Draw a command tree.

    Parameters
    ----------
    snapshot : mapping
        As ``CommandTree`` gives it.
    now : datetime
        The time, aware, by which the age of running nodes is counted.
    ascii_only : bool
        Whether the terminal has only ASCII.
    """
    tree = Tree(label(snapshot, now, ascii_only=ascii_only), guide_style="dim")
    waiting = [(tree, child) for child in reversed(_children(snapshot))]
    while waiting:
        above, node = waiting.pop()
        branch = above.add(label(node, now, ascii_only=ascii_only))
        waiting += [(branch, child) for child in reversed(_children(node))]
    return tree


def duration(node: Snapshot, now: datetime) -> float | None:
    """Tell for how many seconds a node has run, or ran; None before its start."""
    started, finished = node.get("started"), node.get("finished")
    if not isinstance(started, str):
        return None
    try:
        end = datetime.fromisoformat(finished) if isinstance(finished, str) else now
        return max(0.0, (end - datetime.fromisoformat(started)).total_seconds())
    except (ValueError, TypeError):  # not a time, or one without its zone
        return None


def culprits(snapshot: Snapshot) -> list[str]:
    """Name the lowest nodes that ended badly, by their device or else by their name."""
    return [str(node.get("target") or node.get("name")) for node in _culprits(snapshot)]


def _culprits(snapshot: Snapshot) -> list[Snapshot]:
    """Find the lowest nodes that ended badly."""
    below = [node for child in _children(snapshot) for node in _culprits(child)]
    bad = outcome_word(snapshot) in {"FAILED", "REJECTED", "ABORTED", "NOT_ALLOWED"}
    return below or ([snapshot] if bad else [])


class Painter(Protocol):
    """Shows a command tree as it changes; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, snapshot: Snapshot) -> None:
        """Show how the tree stands now."""


class SilentPainter:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def show(self, snapshot: Snapshot) -> None:
        """Show nothing."""


class TreePainter:
    """Redraws the tree in place."""

    def __init__(self, console: Console) -> None:
        self._ascii = not (console.encoding or "").lower().startswith("utf")
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Draw the tree anew."""
        now = datetime.now(UTC)
        console = self._live.console
        notes = [*waiting_lines(snapshot, now), *narrow_note(console.width)]
        fitting = pruned(snapshot, console.height - len(notes) - 1)
        tree = render(fitting, now, ascii_only=self._ascii)
        self._live.update(Group(tree, *notes), refresh=True)


class LinePainter:
    """Writes a line for each node that starts or ends: for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ascii = not (console.encoding or "").lower().startswith("utf")
        self._shown: dict[tuple[str, ...], str] = {}
        self._behind = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def show(self, snapshot: Snapshot) -> None:
        """Write lines for what has changed."""
        now = datetime.now(UTC)
        behind = _queued_behind(snapshot)
        if behind and behind != self._behind:
            self._console.print(f"{snapshot.get('name')}: {behind}", markup=False, soft_wrap=True)
        self._behind = behind
        for place, node in _walk(snapshot, ()):
            word = outcome_word(node)
            before = self._shown.get(place)
            if node.get("type") == "plan" and word == "IN_PROGRESS":
                word += f" {int(node.get('progress') or 0) // 25}"  # a line each quarter
            self._shown[place] = word
            if word != before and (before is not None or word not in _NOT_BEGUN):
                indent = "  " * len(place)
                line = f"{indent}{label(node, now, ascii_only=self._ascii).plain}"
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def painter(console: Console) -> Painter:
    """Choose how to show trees: drawn on a terminal, as lines in a pipe."""
    return TreePainter(console) if console.is_terminal else LinePainter(console)


def is_over(snapshot: Snapshot) -> bool:
    """Tell whether the command of this tree has ended."""
    status = TaskStatus.__members__.get(str(snapshot.get("status")))
    return status is not None and is_final(status)


def _title(node: Snapshot) -> str:
    name, target, command = (str(node.get(key) or "") for key in ("name", "target", "command"))
    if not target:
        return name or command or "?"
    return f"{device_name(target)} {command}".rstrip()


def _reason(node: Snapshot) -> str:
    """Give the first line of a node's message, without what the nodes below or beside it say."""
    message = str(node.get("message") or "").strip().partition("\n")[0]
    target = device_name(str(node.get("target") or ""))
    if target:
        message = message.removeprefix(f"{target}: ")
    return f"  {' '.join(message.split())}" if message else ""


def device_name(target: str) -> str:
    """Leave out the database, which is the same for all."""
    return "/".join(target.split("/")[3:]) if target.startswith("tango://") else target


def _children(node: Snapshot) -> list[Snapshot]:
    children = node.get("children")
    return children if isinstance(children, list) else []


def _walk(node: Snapshot, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Snapshot]]:
    """Yield all nodes with their places, which stay although others come or are only counted."""
    yield place, node
    seen = Counter[str]()
    for child in _children(node):
        name = str(child.get("name"))
        seen[name] += 1
        yield from _walk(child, (*place, f"{name}#{seen[name]}"))
