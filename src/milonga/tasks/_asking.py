"""What it means for a command that it asks people."""

from collections.abc import Iterator, Mapping

from milonga.tasks._answers import names_answers
from milonga.tasks._arguments import ArgumentRule, ValueArgument
from milonga.tasks._command_map import CommandSpec, CompositeSpec, NodeSpec
from milonga.tasks._late_specs import ConfirmSpec

__all__ = ["is_late", "patience_of", "skips_after_failure"]


def is_late(rule: ArgumentRule) -> bool:
    """Tell whether an argument is known only once people have answered."""
    return isinstance(rule, ValueArgument) and names_answers(rule.value)


def skips_after_failure(spec: CommandSpec) -> bool:
    """Tell whether a sequence ends with a failure: who is asked may say no, and it counts."""
    if "skip_subtasks" in spec.model_fields_set:
        return spec.skip_subtasks
    return next(_asking(spec.tasks), None) is not None


def patience_of(spec: CommandSpec) -> float:
    """Return how many seconds a command may wait for people."""
    return sum(node.timeout for node in _asking(spec.tasks))


def _asking(tasks: Mapping[str, NodeSpec]) -> Iterator[ConfirmSpec]:
    for node in tasks.values():
        if isinstance(node, ConfirmSpec):
            yield node
        elif isinstance(node, CompositeSpec):
            yield from _asking(node.tasks)
