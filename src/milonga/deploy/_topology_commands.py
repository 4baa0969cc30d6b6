"""Whether the command maps and policies of a topology fit the devices that they are for."""

from collections.abc import Mapping
from typing import Any

from milonga.control_model import OBS_COMMANDS
from milonga.deploy._topology_checks import Node, nodes_of, plan_name
from milonga.deploy._topology_models import CLASSES
from milonga.deploy._topology_words import expected_one_of
from milonga.deploy._yaml_marks import MarkedData, Path, Problem
from milonga.errors import CommandMapError
from milonga.tasks import ChildSpec, CommandMap, UntilSpec, check_command_map, naming_problems

__all__ = ["COMMANDS", "check_commands"]

_POWER = ("On", "Off", "Standby", "Reset", "Abort")
COMMANDS = {"controller": _POWER, "subarray": (*_POWER, *OBS_COMMANDS)}
"""Commands that a map may describe, by the kind of device."""


def check_commands(marked: MarkedData) -> list[Problem]:
    """Find what is wrong in the command maps and policies.

    Parameters
    ----------
    marked : MarkedData
        The file as read.

    Returns
    -------
    list of Problem
        In no particular order.
    """
    if not isinstance(marked.data, dict):
        return []
    nodes = list(nodes_of(marked.data))
    found: dict[tuple[Path, str], list[str]] = {}
    for node in nodes:
        if node.kind in COMMANDS:
            for problem in _device_problems(node, _children(node, nodes), marked.data):
                found.setdefault(problem, []).append(node.name)
    return [
        marked.problem(path, f"{text} (for {', '.join(names)})")
        for (path, text), names in found.items()
    ]


def _device_problems(
    node: Node, children: list[ChildSpec], data: Mapping[str, Any]
) -> list[tuple[Path, str]]:
    commands = _section(data, "command_map", node.kind)
    problems: list[tuple[Path, str]] = []
    # a class of somebody else may have more commands and methods than we can know
    ours = node.raw.get("class", CLASSES[0]) in CLASSES
    for name in commands if ours else ():
        if name not in COMMANDS[node.kind] and not _is_safety(commands[name]):
            text = f"unknown command; {expected_one_of(name, COMMANDS[node.kind])}"
            problems.append((("command_map", node.kind, name), text))
    methods = () if ours else _methods(commands)
    place: Path = ("command_map", node.kind)
    problems += [
        ((*place, *path), text)
        for path, text in _map_problems(
            commands, children, methods, _plans(node), _analyses(node), COMMANDS[node.kind]
        )
    ]
    # judged as the policy of a command to all children, which is what it is
    policy = _section(data, "policies", node.kind)
    as_command = {"Policy": {"tasks": {"children": {"target": "*"}}, "policy": policy}}
    place = ("policies", node.kind)
    problems += [
        ((*place, *path[2:]), text)
        for path, text in _map_problems(as_command if policy else {}, children, ())
    ]
    return problems


def _map_problems(
    data: Mapping[str, Any],
    children: list[ChildSpec],
    methods: tuple[str, ...],
    plans: tuple[str, ...] = (),
    analyses: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
) -> list[tuple[Path, str]]:
    try:
        command_map = CommandMap.from_data(data)
        lines = check_command_map(command_map, children, methods, plans=plans, analyses=analyses)
        lines += naming_problems(command_map, known)
    except CommandMapError as error:
        lines = str(error).splitlines()[1:]
    return [_split(line) for line in lines]


def _split(line: str) -> tuple[Path, str]:
    """Take ``On.tasks.cbf: found …`` apart."""
    where, _, text = line.partition(": ")
    return tuple(int(step) if step.isdecimal() else step for step in where.split(".")), text


def _section(data: Mapping[str, Any], section: str, kind: str) -> dict[str, Any]:
    by_kind = data.get(section)
    found = by_kind.get(kind) if isinstance(by_kind, dict) else None
    return found if isinstance(found, dict) else {}


def _is_safety(command: object) -> bool:
    return isinstance(command, dict) and command.get("safety") is True


def _methods(commands: object) -> tuple[str, ...]:
    """Collect the methods that a map names."""
    if not isinstance(commands, dict):
        return ()
    own = commands.get("internal")
    below = [method for value in commands.values() for method in _methods(value)]
    return (*below, own) if isinstance(own, str) else tuple(below)


def _plans(node: Node) -> tuple[str, ...]:
    """List the names of the plans that a device allows."""
    listed = node.raw.get("plans")
    return tuple(filter(None, map(plan_name, listed if isinstance(listed, list) else ())))


def _analyses(node: Node) -> tuple[str, ...]:
    """List the names of the analyses that a device allows."""
    listed = node.raw.get("analyses")
    entries = listed if isinstance(listed, list) else []
    names = (entry.get("name") for entry in entries if isinstance(entry, dict))
    return tuple(name for name in names if isinstance(name, str))


def _children(node: Node, nodes: list[Node]) -> list[ChildSpec]:
    """List a device's children; their Tango names are judged elsewhere."""
    by_name = {other.name: other for other in nodes if other.kind in {"subarray", "leaf"}}
    if node.children is not None:
        names = [name for _, name in node.children if name in by_name]
    else:
        # as for the device itself: a subarray that another one commands is not the controller's
        subarrays = [other for other in nodes if other.kind == "subarray"]
        adopted = {child for other in subarrays for _, child in other.children or ()}
        names = [other.name for other in subarrays if other.name and other.name not in adopted]
    return [
        ChildSpec(
            name=name,
            trl=f"a/b/{name}",
            groups=_groups(by_name[name]),
            until=dict.fromkeys(_until(by_name[name]), _SOMETHING),
        )
        for name in dict.fromkeys(names)
    ]


def _groups(node: Node) -> tuple[str, ...]:
    groups = node.raw.get("groups", ["subarray"] if node.kind == "subarray" else [])
    return tuple(group for group in groups if isinstance(group, str) and group)


_SOMETHING = UntilSpec(reached=("?",))
"""Stands for what a child has below `until`, which the models judge."""


def _until(node: Node) -> tuple[str, ...]:
    """List the commands whose end at a child is described."""
    until = node.raw.get("until")
    names = until if isinstance(until, dict) else ()
    return tuple(name for name in names if isinstance(name, str) and name)
