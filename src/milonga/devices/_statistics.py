"""What a parent can tell of its commands and of the links to its children, as numbers."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from milonga.lrc import CommandServer
from milonga.tasks import BaseTask, ChildSpec

__all__ = ["statistics_of"]


def statistics_of(
    commands: CommandServer,
    specs: Iterable[ChildSpec],
    links: Mapping[str, Mapping[str, Any]],
    running: Iterable[BaseTask],
) -> dict[str, Any]:
    """Return the figures of a parent, ready for JSON.

    Parameters
    ----------
    commands : CommandServer
        The device's own commands.
    specs : iterable of ChildSpec
        The children.
    links : mapping
        The figures of the links to them, by their Tango names.
    running : iterable of BaseTask
        The trees of the commands that have not ended.
    """
    names = {spec.trl: spec.name for spec in specs}
    children = {names.get(trl, trl): figures for trl, figures in links.items()}
    totals: Counter[str] = Counter()
    for figures in children.values():
        totals.update({key: n for key, n in figures.items() if key != "protocol"})
    stalled = {leaf.target for task in running for leaf in task.leaves() if leaf.stalled}
    return {
        "commands": commands.statistics(),
        "children": children,
        "totals": dict(totals),
        "stalled": sorted(stalled),
    }
