"""`milonga validate`: whether a topology file describes a system that can work."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from milonga.cli._exit import ExitCode
from milonga.deploy import Topology, TopologyProblems, check_values

__all__ = ["validate"]


def validate(path: Path, *, values: bool = False, as_json: bool) -> ExitCode:
    """Check a topology file, or a chart's values; write what is wrong, a line for each problem.

    Parameters
    ----------
    path : Path
        The file.
    values : bool
        Whether the file has values for the Helm chart, a topology among them.
    as_json : bool
        Whether to write one JSON object and nothing else.
    """
    try:
        topology = check_values(path) if values else Topology.load(path)
    except TopologyProblems as error:
        if as_json:
            found = [asdict(problem) for problem in error.problems]
            told = {"valid": False, "problems": found, "error": str(error)}
            _write(json.dumps(told | {"exit_code": ExitCode.USAGE}))
        else:
            sys.stderr.write(f"{error}\n")
        return ExitCode.USAGE
    counts = {"devices": len(topology.devices), "servers": len(topology.servers)}
    if as_json:
        _write(json.dumps({"valid": True, "problems": [], "name": topology.name} | counts))
    else:
        _write(
            f"{path}: {topology.name} is valid: "
            f"{counts['devices']} devices in {counts['servers']} servers"
        )
    return ExitCode.OK


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
