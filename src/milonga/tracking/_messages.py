"""The texts that a person reads: causes gathered from subtasks, once each, and bounded.

A message is for people. Programs read `counts`, `failed_devices` and `health_state`.
"""

import re
from collections.abc import Iterable, Sequence

__all__ = ["CauseList", "clip", "compose", "printable", "split_causes", "with_device"]

MAX_CAUSE_BYTES = 2048  # so that one talkative child cannot take the room of the others
_MARKER = "..."

# Line feeds stay: they separate causes.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_HEADER = re.compile(
    r"Task .+ (?:completed in DEGRADED state|completed|failed|rejected|aborted)(?:: .*)?"
)
_MORE = re.compile(r"\.\.\. and (\d+) more")
_BULLET = re.compile(r"(?:[-*] +)+")


def printable(text: str) -> str:
    r"""Return the text as Tango can carry it: Latin-1, control characters escaped.

    Examples
    --------
    >>> printable("déjà\x00vu 💥")
    'déjà\\x00vu \\U0001f4a5'
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n").encode("latin-1", "backslashreplace").decode("latin-1")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def clip(text: str, limit: int) -> str:
    """Return the text cut to at most `limit` bytes of UTF-8, between characters."""
    if len(text) * 4 <= limit:
        return text
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return text
    kept = data[: max(0, limit - len(_MARKER))].decode("utf-8", "ignore")
    return f"{kept}{_MARKER}"[:limit]


def with_device(text: str, device: str | None, known: Sequence[str] = ()) -> str:
    """Return the text with the device's name before it, once.

    Examples
    --------
    >>> with_device("no beam", "a/b/c"), with_device("a/b/c: no beam", "a/b/c")
    ('a/b/c: no beam', 'a/b/c: no beam')
    >>> with_device("a/b/c/On: no beam", "a/b/c")  # its command
    'a/b/c/On: no beam'
    """
    if not device or not text or _begins_with(text, (device, *known)):
        return text
    return f"{device}: {text}"


def _begins_with(text: str, names: Iterable[str]) -> bool:
    return any(text.startswith((f"{name}: ", f"{name}/")) for name in names)


def split_causes(text: str, device: str | None, known: Sequence[str]) -> tuple[list[str], int]:
    """Return the causes in a subtask's message, and how many more it says there were.

    Headers and the ``Causes:`` line of the levels below are dropped, so that a message does not
    grow with each level. A header stays if there is nothing else.
    """
    if device and text.startswith(f"{device}: "):
        text = text[len(device) + 2 :]
    lines = [bare for line in text.split("\n") if (bare := _BULLET.sub("", line.strip(), 1))]
    causes = [line for line in lines if line != "Causes:" and not _HEADER.fullmatch(line)]
    if not causes:
        causes = [line for line in lines if line != "Causes:"]
    more = sum(int(found[1]) for line in causes if (found := _MORE.fullmatch(line)))
    kept = [line for line in causes if not _MORE.fullmatch(line)]
    return [with_device(line, device, known) for line in kept], more


class CauseList:
    """Causes in the order in which they came, each once."""

    def __init__(self) -> None:
        self._causes: dict[str, None] = {}
        self._more = 0

    def add(self, causes: Iterable[str], more: int = 0) -> None:
        """Append those that are new; `more` were dropped further down."""
        for cause in causes:
            self._causes.setdefault(cause, None)
        self._more += more

    def lines(self, max_causes: int, max_bytes: int, bullet: str) -> list[str]:
        """Return the causes that fit, and a last line that says how many do not."""
        room = max_bytes - len(f"{bullet}{_MARKER} and {10**18} more\n")
        shown: list[str] = []
        for cause in self._causes:
            line = clip(f"{bullet}{cause}", min(MAX_CAUSE_BYTES, max(room, 0)))
            size = len(line.encode("utf-8", "replace")) + 1
            if len(shown) == max_causes or (shown and size > room):
                break
            if room <= len(bullet) + len(_MARKER):
                break
            shown.append(line)
            room -= size
        left = len(self._causes) - len(shown) + self._more
        return [*shown, f"{_MARKER} and {left} more"] if left else shown


def compose(
    header: str | None, detail: str, causes: CauseList, fallback: str, *, limits: tuple[int, int]
) -> str:
    """Write a message.

    Parameters
    ----------
    header : str or None
        First line of a root's message. Others have none, so that nesting repeats nothing.
    detail : str
        What the outcome is about, for example ``PST success 1/3``.
    causes : CauseList
        What went wrong below.
    fallback : str
        The text of a message that has no header, detail or cause.
    limits : tuple of int
        Most causes, and most bytes of UTF-8 of the whole.
    """
    max_causes, max_bytes = limits
    if header is not None:
        first = clip(f"{header}: {detail}" if detail else header, max_bytes // 2)
        lines = causes.lines(max_causes, max_bytes - len(first.encode()) - 10, "- ")
        return "\n".join([first, "Causes:", *lines] if lines else [first])
    first = clip(detail, max_bytes // 2)
    lines = causes.lines(max_causes, max_bytes - len(first.encode()) - 1, "")
    return "\n".join([first, *lines] if first else lines) or clip(fallback, max_bytes)
