"""Command trees for people: live on a terminal, line by line in a pipe.

Works on the plain dictionaries that a device's ``CommandTree`` gives; knows nothing of Tango.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from milonga.control_model import TaskStatus, is_final

__all__ = [
    "LinePainter",
    "Painter",
    "SilentPainter",
    "TreePainter",
    "culprits",
    "painter",
    "render",
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
_UNKNOWN = ("?", "?", "dim")
_BAR_LENGTH = 20


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
    if word not in {"OK", "QUEUED", "STAGING", "IN_PROGRESS"}:
        text.append(_reason(node), style=style)
    return text


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
    below = [name for child in _children(snapshot) for name in culprits(child)]
    if below or outcome_word(snapshot) not in {"FAILED", "REJECTED", "ABORTED", "NOT_ALLOWED"}:
        return below
    return [str(snapshot.get("target") or snapshot.get("name"))]


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
        tree = render(snapshot, datetime.now(UTC), ascii_only=self._ascii)
        self._live.update(tree, refresh=True)


class LinePainter:
    """Writes a line for each node that starts or ends: for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ascii = not (console.encoding or "").lower().startswith("utf")
        self._shown: dict[tuple[int, ...], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def show(self, snapshot: Snapshot) -> None:
        """Write lines for what has changed."""
        now = datetime.now(UTC)
        for place, node in _walk(snapshot, ()):
            word = outcome_word(node)
            before = self._shown.get(place)
            if node.get("type") == "plan" and word == "IN_PROGRESS":
                word += f" {int(node.get('progress') or 0) // 25}"  # a line each quarter
            self._shown[place] = word
            if word != before and (before is not None or word not in {"QUEUED", "STAGING"}):
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
    return f"{_device_name(target)} {command}".rstrip()


def _reason(node: Snapshot) -> str:
    """Give the first line of a node's message, without what the nodes below or beside it say."""
    message = str(node.get("message") or "").strip().partition("\n")[0]
    target = _device_name(str(node.get("target") or ""))
    if target:
        message = message.removeprefix(f"{target}: ")
    return f"  {' '.join(message.split())}" if message else ""


def _device_name(target: str) -> str:
    """Leave out the database, which is the same for all."""
    return "/".join(target.split("/")[3:]) if target.startswith("tango://") else target


def _children(node: Snapshot) -> list[Snapshot]:
    children = node.get("children")
    return children if isinstance(children, list) else []


def _walk(node: Snapshot, place: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Snapshot]]:
    yield place, node
    for index, child in enumerate(_children(node)):
        yield from _walk(child, (*place, index))
