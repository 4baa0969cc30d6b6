"""What an explanation says: of each node a report, and of all of them one line and a list."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from milonga.records._words import Situation

__all__ = ["MAX_FIRST_LINE", "REMARKS", "Explanation", "NodeReport", "fit", "fit_names"]

MAX_FIRST_LINE = 120
"""Characters of the first line."""

MAX_LISTED = 20
"""Nodes in each list of the text; JSON has all."""

_SAID = {
    Situation.ACCEPTED: "waits to begin",
    Situation.RUNNING: "is running",
    Situation.PAUSED: "is paused",
    Situation.DONE: "succeeded",
    Situation.STOPPED: "was stopped",
    Situation.PARTIAL: "succeeded in part",
    Situation.FAILED: "failed",
    Situation.ERROR: "broke down",
    Situation.REJECTED: "was rejected",
    Situation.NOT_ALLOWED: "was not allowed",
    Situation.ABORTED: "was aborted",
    Situation.TIMED_OUT: "timed out",
    Situation.LOST: "is lost",
}

_NO_NEWS = ("broken: ", "Unhandled exception during execution: ")
"""What engine and SKA devices put before the text of an exception; "broke down" says it."""

REMARKS = ("aborted_by", "abort", "abort_text", "irregular_events", "stalls")
"""What else may be known of a node, by the names in its record."""

_OBEYED = frozenset({None, "ACK", "NOT_NEEDED"})

_OWN_WORK = frozenset({"plan", "analysis", "internal", "confirm"})
"""Kinds of leaves that are the work of the device itself, not of another."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node of a tree, as far as an explanation needs it.

    Parameters
    ----------
    uid, name, device, command, argument : str
        The call.
    situation : Situation
        How it stands.
    message, error : str
        What it said, and the trace.
    at : datetime or None
        When it ended or, if it goes on, when it began.
    kind : str, optional
        The node's type.
    owner : str, optional
        The device whose tree the node is in.
    facts : mapping, optional
        What else is known, by the names of `milonga.tasks.LeafTask.snapshot`; and ``aborted_by``.
    """

    uid: str
    name: str
    device: str | None
    command: str | None
    argument: str
    situation: Situation
    message: str
    error: str
    at: datetime | None
    kind: str = "command"
    owner: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def call(self) -> str:
        """Whom it commands, with what; or what the device does itself."""
        own = self.kind in _OWN_WORK
        parts = (self.owner, self.kind, self.device or self.name) if own else self._commanded
        return " ".join(part for part in parts if part) or self.name

    @property
    def short(self) -> str:
        """Whom it commands, or what the device does itself."""
        return self.call if self.kind in _OWN_WORK else self.device or self.name

    @property
    def _commanded(self) -> tuple[str | None, ...]:
        return self.device, self.command

    @property
    def how(self) -> str:
        """How it stands, in a few words."""
        by = self.facts.get("aborted_by")
        words = _SAID[self.situation]
        return f"{words} by {by}" if by and self.situation is Situation.ABORTED else words

    def said(self) -> str:
        """Return how it stands, in a few words and its own."""
        own, words = self._own_words(), _SAID[self.situation]
        if own.startswith(words):  # "timed out after 5 s" says it already
            return f"{self.how}{own.removeprefix(words)}"
        return f"{self.how}: {own}" if own else self.how

    def _own_words(self) -> str:
        """Return the first line of the message, without what is told beside it.

        Each node that a message has come through has put a name before it.
        """
        text = self.message.strip().partition("\n")[0]
        names = [name for name in (self.device, self.name, self.command) if name]
        if self.device and self.command:
            names.append(f"{self.device}/{self.command}")
        leads = (*(f"{name}: " for name in names), *_NO_NEWS)
        while lead := next((lead for lead in leads if text.startswith(lead)), ""):
            text = text.removeprefix(lead)
        again = f"{self.command} {_SAID[self.situation]}"  # "On is lost: no answer"
        return text.removeprefix(f"{self.command} ") if text.startswith(again) else text

    @property
    def disobeyed(self) -> str:
        """What the device answered to an abort, if it was nothing good; else empty."""
        answer = self.facts.get("abort")
        return "" if answer in _OBEYED else str(answer)

    @property
    def misses_end(self) -> bool:
        """Whether no event told of its end, so that it was found by looking."""
        return bool((self.facts.get("irregular_events") or {}).get("missing"))

    def remarks(self) -> list[str]:
        """Return what is remarkable beside how it stands, a text each."""
        irregular = self.facts.get("irregular_events") or {}
        counts = [
            f"{number} {kind}" for kind, number in sorted(irregular.items()) if kind != "notes"
        ]
        stalls = self.facts.get("stalls") or ()
        silent = bool(self.facts.get("stalled")) and not stalls
        return [
            *([f"events: {', '.join(counts)}"] if counts else []),
            *(["nothing is heard of it"] * silent),
            *([f"abort: {self.disobeyed}, {self.facts.get('abort_text')}"] * bool(self.disobeyed)),
            *(
                f"not heard of from {one['since']} to {one.get('until', 'its end')}"
                for one in stalls
            ),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "uid": self.uid,
            "name": self.name,
            "kind": self.kind,
            "device": self.device,
            "command": self.command,
            "argument": self.argument,
            "situation": self.situation.name,
            "message": self.message,
            "error": self.error,
            "at": self.at.isoformat() if self.at else None,
            "remarks": {key: self.facts[key] for key in REMARKS if key in self.facts},
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task is as it is.

    Parameters
    ----------
    task : NodeReport
        The task.
    first_line : str
        The answer, in at most `MAX_FIRST_LINE` characters.
    cause : NodeReport or None
        The first leaf that failed; None if the task did not fail.
    made_fail : list of NodeReport
        The nodes above the cause that failed with it.
    stopped : list of NodeReport
        The leaves that were aborted or not begun because of it.
    also_failed : list of NodeReport
        Leaves that failed for themselves.
    waits_for : list of NodeReport
        The leaves that a task that goes on is waiting for.
    remarkable : list of NodeReport
        The leaves of which there is more to be told: what was wrong with events, what did not obey
        an abort, of what nothing was heard.
    """

    task: NodeReport
    first_line: str
    cause: NodeReport | None = None
    made_fail: list[NodeReport] = field(default_factory=list)
    stopped: list[NodeReport] = field(default_factory=list)
    also_failed: list[NodeReport] = field(default_factory=list)
    waits_for: list[NodeReport] = field(default_factory=list)
    remarkable: list[NodeReport] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the explanation as text, `first_line` first."""
        lines = [self.first_line]
        if self.cause is not None:
            when = f" at {self.cause.at:%Y-%m-%d %H:%M:%S.%f} UTC" if self.cause.at else ""
            uid = f" [{self.cause.uid}]" if self.cause.uid else ""
            lines.append(f"cause: {self.cause.call}{when}{uid}")
            if self.cause.argument:
                lines.append(f"argument: {self.cause.argument}")
            error = self.cause.error or self.cause.message
            lines += [f"error: {line}" for line in error.splitlines()[:MAX_LISTED]]
        lines += _listed("made fail", self.made_fail)
        lines += _listed("stopped", self.stopped)
        lines += _listed("failed as well", self.also_failed)
        lines += _listed("waits for", self.waits_for)
        for node in self.remarkable[:MAX_LISTED]:
            lines += [f"remark: {node.call}: {remark}" for remark in node.remarks()]
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "text": "\n".join(self.lines()),
            "firstLine": self.first_line,
            "task": self.task.as_json(),
            "cause": self.cause.as_json() if self.cause else None,
            "madeFail": [node.as_json() for node in self.made_fail],
            "stopped": [node.as_json() for node in self.stopped],
            "alsoFailed": [node.as_json() for node in self.also_failed],
            "waitsFor": [node.as_json() for node in self.waits_for],
            "remarkable": [node.as_json() for node in self.remarkable],
        }


def _listed(title: str, nodes: Sequence[NodeReport]) -> Iterator[str]:
    for node in nodes[:MAX_LISTED]:
        yield f"{title}: {node.call} {node.said()}"
    if len(nodes) > MAX_LISTED:
        yield f"{title}: and {len(nodes) - MAX_LISTED} more"


def fit(lead: str, rest: str) -> str:
    """Join two texts to one line of at most `MAX_FIRST_LINE` characters.

    The names in the lead are cut in their middle, and leave a third of the line to the rest.
    """
    lead, rest = lead.replace("\n", " "), rest.replace("\n", " ")
    room = max(MAX_FIRST_LINE - len(rest), MAX_FIRST_LINE * 2 // 3)
    if len(lead) > room:
        half = (room - 1) // 2
        lead = f"{lead[:half]}…{lead[len(lead) - (room - 1 - half) :]}"
    line = lead + rest
    return line if len(line) <= MAX_FIRST_LINE else f"{line[: MAX_FIRST_LINE - 1]}…"


def fit_names(lead: str, names: Iterable[str]) -> str:
    """Join a text and as many names as one line takes, and say how many more there are.

    Examples
    --------
    >>> fit_names("stopped 2: ", ["lab/a/1", "lab/b/1"])
    'stopped 2: lab/a/1, lab/b/1'
    """
    first, *others = names
    line = fit(lead, first)
    for number, name in enumerate(others):
        left = len(others) - number
        longer = f"{line}, {name}"
        more = f" and {left - 1} more" if left > 1 else ""
        if len(longer) + len(more) > MAX_FIRST_LINE:
            more = f" and {left} more"
            return line + more if len(line) + len(more) <= MAX_FIRST_LINE else line
        line = longer
    return line
