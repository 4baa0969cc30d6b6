"""Whether values for the Helm chart describe a system that can work."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from milonga.deploy._chart_values import ChartValues
from milonga.deploy._topology import Topology, TopologyProblems
from milonga.deploy._topology_words import expected_one_of, shape_problems
from milonga.deploy._yaml_marks import MarkedData, Problem, read_yaml

__all__ = ["chart_values", "check_values"]


def chart_values(text: str, name: str = "topology") -> str:
    r"""Write a valid topology as values for the chart, in JSON, which every reader reads alike.

    Helm's own YAML reader takes the names of commands On and Off for true and false.

    Parameters
    ----------
    text : str
        The topology file's text.
    name : str
        What to call it in problems.

    Raises
    ------
    TopologyError
        If it is not valid.

    Examples
    --------
    >>> print(chart_values("name: a\ncontroller: {device: a/b/c, server: s}"))
    {
      "topology": {
        "name": "a",
        "controller": {
          "device": "a/b/c",
          "server": "s"
        }
      }
    }
    """
    marked = read_yaml(text, name)
    Topology.from_marked(marked)
    return json.dumps({"topology": marked.data}, indent=2, ensure_ascii=False)


def check_values(path: Path) -> Topology:
    """Check a file of values for the chart, and the topology in it.

    Parameters
    ----------
    path : Path
        The file. Values that are given in several files are for Helm to put together.

    Raises
    ------
    TopologyError
        Each line names the file, the line in it, the field, what was found and expected.
    """
    try:
        marked = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = Problem(str(path), None, "", f"cannot be read: {reason}")
        raise TopologyProblems([problem]) from error
    if not isinstance(marked.data, dict):
        found = "nothing" if marked.data is None else type(marked.data).__name__
        raise TopologyProblems(
            [*marked.problems, marked.problem((), f"found {found}, expected a mapping")]
        )
    problems = [*marked.problems, *_own_problems(marked)]
    topology = None
    if marked.data.get("topology") is not None:
        try:
            topology = _topology(marked)
        except TopologyProblems as error:
            problems += error.problems
    if topology is not None:
        problems += _unknown_servers(marked, topology)
    if problems or topology is None:
        raise TopologyProblems(problems)
    return topology


def _own_problems(marked: MarkedData) -> list[Problem]:
    """Look at all values but the topology, which has more to be said about it."""
    values = _without_nothing(marked.data)
    if "topology" in values:
        values["topology"] = "…"
    try:
        ChartValues.model_validate(values)
    except ValidationError as error:
        return shape_problems(error, marked, ChartValues)
    return []


def _topology(marked: MarkedData) -> Topology:
    found = marked.data["topology"]
    if isinstance(found, str):
        return Topology.from_text(found, f"{marked.file}: topology")
    lines = {path[1:]: line for path, line in marked.lines.items() if path[:1] == ("topology",)}
    try:
        return Topology.from_marked(MarkedData(marked.file, _without_nothing(found), lines))
    except TopologyProblems as error:
        inside = [
            replace(problem, path=f"topology.{problem.path}".rstrip("."))
            for problem in error.problems
        ]
        raise TopologyProblems(inside) from error


def _unknown_servers(marked: MarkedData, topology: Topology) -> list[Problem]:
    options = marked.data.get("servers")
    names = [entry.name for entry in topology.servers]
    return [
        marked.problem(("servers", name), expected_one_of(name, names))
        for name in (options if isinstance(options, dict) else ())
        if name not in names
    ]


def _without_nothing(value: Any) -> Any:
    """Take away keys that have nothing, as Helm does."""
    if not isinstance(value, dict):
        return value
    return {key: _without_nothing(inner) for key, inner in value.items() if inner is not None}
