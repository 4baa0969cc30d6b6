"""`milonga values`: what the Helm chart is told."""

import json
from pathlib import Path

from milonga.deploy import chart_values, values_schema
from milonga.errors import TopologyError

__all__ = ["schema", "values"]


def schema() -> str:
    """Give the text of the chart's `values.schema.json`."""
    return json.dumps(values_schema(), indent=2)


def values(path: Path) -> str:
    """Give a topology file as values for the chart.

    Raises
    ------
    TopologyError
        If it cannot be read or is not valid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TopologyError(f"{path}: cannot be read: {reason}") from error
    return chart_values(text, str(path))
