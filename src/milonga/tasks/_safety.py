"""What is asked of a safety command, which overtakes all others and ends when it is reached."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from milonga.control_model import OBS_COMMANDS
from milonga.tasks._command_map import CommandMap, CommandSpec, DeviceSpec, NodeSpec
from milonga.tasks._parts import ChildSpec
from milonga.tasks._problems import problem

__all__ = ["MAX_SAFETY_COMMANDS", "naming_problems", "unconfirmed"]

MAX_SAFETY_COMMANDS = 8
"""How many safety commands a device has at the most; all of them may run at the same time."""

_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")


def naming_problems(command_map: CommandMap, known: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with which commands are safety commands.

    Parameters
    ----------
    command_map : CommandMap
        The map.
    known : collection of str
        The commands that the device has anyhow; a safety command may be another one.
    """
    names = [name for name, spec in command_map.items() if spec.safety]
    for name in names:
        if name == "Abort":
            yield problem("Abort.safety", "true", "no such key, as Abort overtakes in any case")
        elif name in OBS_COMMANDS:
            yield problem(f"{name}.safety", "true", "no such key for what moves obsState")
        elif name not in known and not _NAME.fullmatch(name):
            yield problem(name, repr(name), "a name of capital and small letters, as of a command")
    if len(names) > MAX_SAFETY_COMMANDS:
        found = f"{len(names)} safety commands"
        yield problem(names[-1], found, f"at most {MAX_SAFETY_COMMANDS}")


def unconfirmed(
    name: str,
    spec: CommandSpec,
    nodes: Mapping[str, NodeSpec],
    meant_by: Callable[[str], Collection[ChildSpec]],
) -> Iterator[str]:
    """Yield the children of which nobody says how a safety command is known to be reached.

    Parameters
    ----------
    name, spec
        The command.
    nodes : mapping
        All its nodes, by their paths.
    meant_by : callable
        Returns the children that a target stands for.
    """
    for path, node in nodes.items() if spec.safety else ():
        if not isinstance(node, DeviceSpec) or node.trust_result:
            continue
        command = node.command or name
        children = meant_by(node.target or path.rpartition(".tasks.")[2])
        bare = [child.name for child in children if command not in child.until]
        if bare:
            yield problem(
                path,
                f"no key until for {command} at {', '.join(bare)}",
                "it, as a safety command ends when it is reached, or trust_result: true here",
            )
