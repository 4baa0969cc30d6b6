"""What a scan has measured, read from the file of its documents."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Scan", "read_scan"]


@dataclass(frozen=True)
class Scan:
    """A signal over another one.

    Parameters
    ----------
    run : str
        Uid of the run.
    motor, detector : str
        Keys of what was moved, and of what was measured.
    units : tuple of str
        Their units; empty if they have none.
    x, y : tuple of float
        The values.
    """

    run: str
    motor: str
    detector: str
    units: tuple[str, str]
    x: tuple[float, ...]
    y: tuple[float, ...]


def read_scan(path: Path, motor: str | None = None, detector: str | None = None) -> Scan:
    """Read a run with one axis from its file of documents, one JSON array a line.

    Parameters
    ----------
    path : Path
        The file.
    motor, detector : str, optional
        Names of devices or of their signals; default: what the run's own hints say.

    Raises
    ------
    ValueError
        If there is no such signal, or the run has measured nothing.
    """
    start: dict[str, Any] = {}
    primary: dict[str, dict[str, Any]] = {}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for kind, document in _documents(path):
        if kind == "start":
            start = document
        elif kind == "descriptor" and document.get("name") == "primary":
            primary[document["uid"]] = document
        elif kind in {"event", "event_page"} and document.get("descriptor") in primary:
            # A point that was measured again, after a pause, has the number that it had before.
            rows |= _rows(kind, document)
    stream = next(iter(primary.values()), None)
    if stream is None:
        raise ValueError(f"documents {path.name}: found no primary stream, expected that of a scan")
    dimensions = start.get("hints", {}).get("dimensions") or [[[""], "primary"]]
    moved = _key(stream, motor or str(dimensions[0][0][0]), "motor")
    measured = _key(stream, detector or _first(start.get("detectors")), "detector")
    points = [
        (row[moved], row[measured]) for row in rows.values() if moved in row and measured in row
    ]
    x, y = zip(*sorted(points), strict=True) if points else ((), ())
    units = tuple(str(stream["data_keys"][key].get("units") or "") for key in (moved, measured))
    return Scan(str(start.get("uid", "")), moved, measured, (units[0], units[1]), x, y)


def _documents(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                kind, document = json.loads(line)
                yield kind, document


def _rows(kind: str, document: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the readings of an event, or of each event of a page, by descriptor and number."""
    descriptor, data = document["descriptor"], document["data"]
    if kind == "event":
        return {(descriptor, document["seq_num"]): data}
    return {
        (descriptor, number): {key: values[place] for key, values in data.items()}
        for place, number in enumerate(document["seq_num"])
    }


def _first(names: Any) -> str:
    return str(names[0]) if isinstance(names, list) and names else ""


def _key(stream: dict[str, Any], name: str, what: str) -> str:
    """Find the signal of a name; of a device, the one that it wants to be shown."""
    keys = stream["data_keys"]
    if name in keys:
        return name
    shown = stream.get("hints", {}).get(name, {}).get("fields") or stream["object_keys"].get(name)
    for key in shown or ():
        if key in keys:
            return str(key)
    raise ValueError(f"{what}: found {name!r}, expected one of {', '.join(keys)}")
