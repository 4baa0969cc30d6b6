"""Tables and docstrings as Markdown."""

import inspect
import re
from collections.abc import Iterable, Sequence

__all__ = ["MADE", "one_line", "page", "parameters", "summary", "table"]

MADE = "<!-- made by `python -m tools.reference` from the code; do not edit -->\n"


def one_line(text: str) -> str:
    """Return text as it may stand in a cell of a table.

    Examples
    --------
    >>> one_line(" One ``x``,  two. ")
    'One `x`, two.'
    """
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def page(parts: Iterable[str]) -> str:
    """Join the parts of a page, with one empty line between them."""
    return "\n".join(f"{part.strip(chr(10))}\n" for part in parts if part)


_ROW = re.compile(r" \([A-Z]{1,3}-\d+\)")  # ids of behaviours, which mean nothing to a reader


def summary(documented: object) -> str:
    """Return the first paragraph of a docstring."""
    return _ROW.sub("", one_line((inspect.getdoc(documented) or "").partition("\n\n")[0]))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with a line for each row."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


_ENTRY = re.compile(r"^(?P<names>[\w, *]+?)(?: : (?P<kind>.*))?$")


def parameters(documented: object) -> dict[str, str]:
    """Return what a docstring in numpy's style says of each parameter, joined by name.

    Examples
    --------
    >>> class Pair:
    ...     '''Two.
    ...
    ...     Parameters
    ...     ----------
    ...     a, b : int
    ...         One of them.
    ...     '''
    >>> parameters(Pair)
    {'a': 'One of them.', 'b': 'One of them.'}
    """
    _, found, rest = (inspect.getdoc(documented) or "").partition("Parameters\n----------\n")
    told: dict[str, list[str]] = {}
    names: list[str] = []
    for line in rest.splitlines() if found else []:
        if line.startswith("---"):
            break
        if line and not line.startswith(" "):
            entry = _ENTRY.match(line)
            names = [name.strip() for name in entry["names"].split(",")] if entry else []
        for name in names:
            if line.startswith(" "):
                told.setdefault(name, []).append(line)
    return {name: one_line(" ".join(lines)) for name, lines in told.items()}
