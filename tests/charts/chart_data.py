"""The chart's folder, topologies to render it for, and how to look at what comes out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from milonga.deploy import examples_folder

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "milonga"

# Names that Kubernetes would not take, and a command whose name YAML 1.1 reads as true.
SMALL = """
name: small
controller: {device: lab/control/0, server: central}
subarrays:
  - {device: lab/subarray/01, id: 1, server: Sub_1, children: [a, b], timeout: 10.0}
leaves:
  - {name: a, device: lab/leaf/a, server: leaves.a, groups: [left]}
  - {name: b, device: lab/leaf/b, server: leaves-a, groups: [right], script: {On: {duration: 0.1}}}
command_map:
  subarray:
    On: {tasks: {left: {target: left}, right: {target: right}}}
"""

TOPOLOGIES: Mapping[str, str] = {
    "small": SMALL,
    "mid-csp": (examples_folder() / "mid-csp" / "topology.yaml").read_text(encoding="utf-8"),
    "low-csp": (examples_folder() / "low-csp" / "topology.yaml").read_text(encoding="utf-8"),
}

Render = Callable[..., list[dict[str, Any]]]


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Choose the resources of a kind."""
    return [document for document in documents if document["kind"] == kind]
