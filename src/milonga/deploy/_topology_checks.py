"""What the parts of a topology say about each other: one function per rule.

The rules look at the data as it was read, not at the models, so that a file with a mistake in one
field still gets all its other mistakes named. What has not even the right type is passed over here:
the models complain about it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from milonga.deploy._topology_models import CLASSES
from milonga.deploy._topology_words import expected_one_of
from milonga.deploy._yaml_marks import MarkedData, Path, Problem

__all__ = ["Node", "check_relations", "nodes_of", "plan_name"]


_SECTIONS = (
    ("subarrays", "subarray"),
    ("leaves", "leaf"),
    ("external", "leaf"),
    ("plan_devices", "plan device"),
)


@dataclass(frozen=True)
class Node:
    """A device of the file, as far as it can be read."""

    kind: str
    path: Path
    name: str
    device: str
    children: tuple[tuple[Path, str], ...] | None
    raw: Mapping[str, Any]


def check_relations(marked: MarkedData) -> list[Problem]:
    """Find what is wrong between the parts of a topology.

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
    problems: list[Problem] = []

    def complain(path: Path, text: str) -> None:
        problems.append(marked.problem(path, text))

    if not any(node.kind in {"controller", "subarray"} for node in nodes):
        complain((), "found neither controller nor subarrays, expected at least one of them")
    _unique(nodes, marked, complain)
    _classes(nodes, marked.data, complain)
    _parents(nodes, marked, complain)
    _cycles(nodes, complain)
    _plan_devices(nodes, complain)
    _servers(nodes, marked.data, complain)
    return problems


_Complain = Callable[[Path, str], None]


def nodes_of(data: Mapping[str, Any]) -> Iterator[Node]:
    """Find the devices of a file, as far as they can be read."""
    controller = data.get("controller")
    if isinstance(controller, dict):
        yield _node("controller", ("controller",), controller, "controller")
    for section, kind in _SECTIONS:
        entries = data.get(section)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                number = str(entry.get("id", ""))
                named = kind == "subarray" and number.isdecimal()
                default_name = f"subarray-{int(number):02d}" if named else ""
                yield _node(kind, (section, index), entry, default_name)


def _node(kind: str, path: Path, entry: Mapping[str, Any], default_name: str) -> Node:
    listed = entry.get("children")
    children = None
    if isinstance(listed, list):
        children = tuple(
            ((*path, "children", index), child)
            for index, child in enumerate(listed)
            if isinstance(child, str)
        )
    name = entry.get("name", default_name)
    device = entry.get("device")
    return Node(
        kind,
        path,
        name if isinstance(name, str) else "",
        device if isinstance(device, str) else "",
        children,
        entry,
    )


def _unique(nodes: list[Node], marked: MarkedData, complain: _Complain) -> None:
    names: dict[str, Node] = {}
    devices: dict[str, Node] = {}
    for node in nodes:
        for word, field, seen in (
            (node.name, "name" if "name" in node.raw else "id", names),
            # Tango takes names in capital and small letters for the same
            (node.device.lower(), "device", devices),
        ):
            if not word:
                continue
            first = seen.setdefault(word, node)
            if first is not node:
                at = marked.line((*first.path, field))
                complain(
                    (*node.path, field),
                    f"found {word!r}, which is already used in line {at}; "
                    f"expected a {field} of its own",
                )


def _classes(nodes: list[Node], data: Mapping[str, Any], complain: _Complain) -> None:
    servers = data.get("servers")
    servers = servers if isinstance(servers, dict) else {}
    for node in nodes:
        found = node.raw.get("class")
        options = servers.get(node.raw.get("server"))
        own = options.get("classes") if isinstance(options, dict) else None
        known = [*CLASSES, *(own if isinstance(own, list) else ())]
        if isinstance(found, str) and found not in known:
            complain((*node.path, "class"), expected_one_of(found, known))


def _parents(nodes: list[Node], marked: MarkedData, complain: _Complain) -> None:
    by_name = {node.name: node for node in nodes if node.name}
    parentless = {"controller", "plan device"}
    possible = [name for name in by_name if by_name[name].kind not in parentless]
    parent_path: dict[str, Path] = {}
    for node in nodes:
        for path, child in node.children or ():
            if child not in by_name:
                complain(path, expected_one_of(child, possible))
            elif by_name[child].kind == "controller":
                complain(path, f"found {child!r}, but the controller is nobody's child")
            elif by_name[child].kind == "plan device":
                complain(path, f"found {child!r}, but a plan device is nobody's child")
            elif child in parent_path:
                at = marked.line(parent_path[child])
                complain(path, f"found {child!r}, which has a parent already in line {at}")
            else:
                parent_path[child] = path
    root = next((node for node in nodes if node.kind == "controller"), None)
    for node in nodes:
        adopted = node.kind == "subarray" and (root is None or root.children is None)
        if node.kind in parentless or adopted or not node.name or node.name in parent_path:
            continue
        complain(
            node.path,
            f"{node.name!r} has no parent; expected it among the children of "
            f"{'a subarray' if root is None else 'the controller or a subarray'}",
        )


def _cycles(nodes: list[Node], complain: _Complain) -> None:
    parent: dict[str, Node] = {}
    count = Counter(node.name for node in nodes)
    for node in nodes:
        for _, child in node.children or ():
            # who is meant by a name that comes twice is complained about elsewhere
            if node.kind != "controller" and count[child] == 1:
                parent.setdefault(child, node)
    told: set[str] = set()
    for node in nodes:
        climb = [node.name]
        while climb[-1] in parent and climb[-1] not in climb[:-1]:
            climb.append(parent[climb[-1]].name)
        circle = climb[climb.index(climb[-1]) :]
        if len(circle) > 1 and told.isdisjoint(circle):
            told.update(circle)
            of = parent[climb[-1]]
            complain((*of.path, "children"), f"found a circle: {' > '.join(reversed(circle))}")


def _plan_devices(nodes: list[Node], complain: _Complain) -> None:
    known = [node.name for node in nodes if node.kind == "plan device" and node.name]
    for node in nodes:
        listed = node.raw.get("plan_devices")
        for index, name in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(name, str) and name not in known:
                complain((*node.path, "plan_devices", index), expected_one_of(name, known))
        plans = node.raw.get("plans")
        seen: set[str] = set()
        for index, entry in enumerate(plans if isinstance(plans, list) else ()):
            name = plan_name(entry)
            if name and name in seen:
                complain((*node.path, "plans", index), f"found {name!r} again, expected it once")
            seen.add(name)


def plan_name(entry: object) -> str:
    """Return what a plan of a list is called; an empty text if it is no such entry.

    Examples
    --------
    >>> plan_name("milonga.engine.plans:scan"), plan_name("map=site.plans:make_map")
    ('scan', 'map')
    """
    if not isinstance(entry, str) or ":" not in entry:
        return ""
    return entry.partition("=")[0] if "=" in entry else entry.rpartition(":")[2]


def _servers(nodes: list[Node], data: Mapping[str, Any], complain: _Complain) -> None:
    servers = data.get("servers")
    used = sorted({str(node.raw.get("server")) for node in nodes if "server" in node.raw})
    for name in servers if isinstance(servers, dict) else ():
        if name not in used:
            complain(("servers", name), f"no device runs in it; {expected_one_of(name, used)}")
