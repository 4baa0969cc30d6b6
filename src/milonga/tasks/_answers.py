"""What people answered to the steps of a command, for the steps that come later.

In a value of the command map, the object ``{"$answer": "step.field"}`` stands for a field of the
answer to the step of that name, and ``{"$answer": "step"}`` for the whole answer.
"""

from collections.abc import Iterator

from pydantic import JsonValue

from milonga.errors import CompositionError

__all__ = ["ANSWER", "Answers", "names_answers", "steps_named_in"]

ANSWER = "$answer"
"""The key of an object that stands for an answer."""


def _reference(value: JsonValue) -> str | None:
    found = value.get(ANSWER) if isinstance(value, dict) and len(value) == 1 else None
    return found if isinstance(found, str) else None


def _references(value: JsonValue) -> Iterator[str]:
    reference = _reference(value)
    if reference is not None:
        yield reference
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def steps_named_in(value: JsonValue) -> tuple[str, ...]:
    """Return the steps whose answers a value needs.

    Examples
    --------
    >>> steps_named_in({"start": {"$answer": "ask.start"}, "num": 3})
    ('ask',)
    """
    return tuple(dict.fromkeys(name.partition(".")[0] for name in _references(value)))


def names_answers(value: JsonValue) -> bool:
    """Tell whether a value is complete only once people have answered."""
    return next(_references(value), None) is not None


class Answers:
    """The answers to the steps of one command, by step. Safe across threads.

    Examples
    --------
    >>> answers = Answers()
    >>> answers.note("ask", {"start": -2.0})
    >>> answers.fill({"start": {"$answer": "ask.start"}, "num": 3})
    {'start': -2.0, 'num': 3}
    """

    def __init__(self) -> None:
        self._given: dict[str, JsonValue] = {}

    def note(self, step: str, answer: JsonValue) -> None:
        """Keep an answer."""
        self._given = self._given | {step: answer}

    def fill(self, value: JsonValue) -> JsonValue:
        """Return a value with answers in the place of what stands for them.

        Raises
        ------
        CompositionError
            If a step has not been answered, or its answer has no such field.
        """
        reference = _reference(value)
        if reference is not None:
            return self._find(reference)
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return value

    def _find(self, reference: str) -> JsonValue:
        step, *fields = reference.split(".")
        if step not in self._given:
            raise CompositionError(f"{ANSWER}: found no answer to step {step!r} yet, expected one")
        found = self._given[step]
        for field in fields:
            if not isinstance(found, dict) or field not in found:
                raise CompositionError(
                    f"{ANSWER}: found no field {field!r} in the answer to step {step!r},"
                    f" expected {reference!r}"
                )
            found = found[field]
        return found
