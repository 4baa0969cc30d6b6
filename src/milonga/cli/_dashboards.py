"""`milonga dashboards`: boards for Taranta, for exactly one system."""

import json
import sys
from pathlib import Path

from milonga.cli._exit import ExitCode
from milonga.deploy import Topology, write_dashboards

__all__ = ["dashboards"]


def dashboards(path: Path, folder: Path, *, as_json: bool) -> ExitCode:
    """Write the dashboards of a topology and name their files, a line each.

    Parameters
    ----------
    path : Path
        The topology file.
    folder : Path
        Where the files go; made if it is not there.
    as_json : bool
        Whether to write one JSON object and nothing else.
    """
    topology = Topology.load(path)
    files = [str(file) for file in write_dashboards(topology, folder)]
    text = json.dumps({"name": topology.name, "files": files}) if as_json else "\n".join(files)
    sys.stdout.write(f"{text}\n")
    return ExitCode.OK
