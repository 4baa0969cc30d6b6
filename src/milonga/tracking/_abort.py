"""What those who were asked to abort answered."""

from collections.abc import Sequence
from enum import StrEnum

__all__ = ["AbortAnswer", "summary_of_answers"]


class AbortAnswer(StrEnum):
    """The answer to the wish that a command ends, from the best to the worst."""

    NOT_NEEDED = "NOT_NEEDED"
    """There was nothing to abort."""
    ACK = "ACK"
    """It was taken."""
    REFUSED = "REFUSED"
    """It was not taken; the command goes on."""
    NO_ANSWER = "NO_ANSWER"
    """The device is there, but did not answer in time."""
    UNREACHABLE = "UNREACHABLE"
    """The device is not there."""

    @property
    def is_good(self) -> bool:
        """Whether nothing runs on that was to end."""
        return self in {AbortAnswer.NOT_NEEDED, AbortAnswer.ACK}

    @classmethod
    def worst_of(cls, answers: Sequence["AbortAnswer"]) -> "AbortAnswer":
        """Return the one that stands for all; NOT_NEEDED for none.

        Examples
        --------
        >>> AbortAnswer.worst_of([AbortAnswer.ACK, AbortAnswer.REFUSED])
        <AbortAnswer.REFUSED: 'REFUSED'>
        """
        order = list(cls)
        return max(answers, key=order.index, default=cls.NOT_NEEDED)


NAMED = 6
"""How many of those that did not acknowledge a summary names, for each answer."""

TEXT_KEPT = 120
"""How many characters of what one of them said."""


def summary_of_answers(answers: Sequence[tuple[str, AbortAnswer, str]]) -> str:
    """Return how many answered what, and who did not acknowledge, in one line.

    Parameters
    ----------
    answers : sequence of tuple
        Who was asked, the answer, and what was said with it.

    Examples
    --------
    >>> ack, refused = AbortAnswer.ACK, AbortAnswer.REFUSED
    >>> summary_of_answers([("a/b/1", ack, ""), ("a/b/2", ack, ""), ("a/b/3", refused, "not now")])
    '2 ACK, 1 REFUSED (a/b/3: not now)'
    """
    parts = []
    for kind in AbortAnswer:
        said = [(name, text) for name, answer, text in answers if answer is kind]
        if not said or kind is AbortAnswer.NOT_NEEDED:
            continue
        part = f"{len(said)} {kind}"
        if not kind.is_good:
            names = [_one(name, text) for name, text in said[:NAMED]]
            more = [f"and {len(said) - NAMED} more"] if len(said) > NAMED else []
            part = f"{part} ({'; '.join(names + more)})"
        parts.append(part)
    return ", ".join(parts)


def _one(name: str, text: str) -> str:
    text = " ".join(text.removeprefix(f"{name}: ").split())
    if len(text) > TEXT_KEPT:
        text = f"{text[: TEXT_KEPT - 1]}…"
    return f"{name}: {text}" if text else name
