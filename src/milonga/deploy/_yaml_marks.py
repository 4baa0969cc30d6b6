"""YAML read so that every value can be traced back to its line.

Differences to `yaml.safe_load`, each of which saves an engineer an afternoon:

* a mapping that has a key twice is an error, not a silent choice of the last one;
* keys are text as written, and only ``true`` and ``false`` are booleans, as in YAML 1.2: with the
  YAML 1.1 rules the commands ``On`` and ``Off`` in a command map would be read as true and false;
* all such problems are reported together, each with its line.
"""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

__all__ = ["MAX_NODES", "MAX_TEXT", "MarkedData", "Path", "Problem", "path_text", "read_yaml"]

Path = tuple[str | int, ...]

MAX_TEXT = 2_000_000
"""Longest text that is read, in characters."""

MAX_NODES = 200_000
"""Most values that a text may unfold to; aliases of aliases grow without bound."""

MAX_DEPTH = 64
"""Deepest nesting that is read."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file, and where.

    Parameters
    ----------
    file : str
        The file, as the user named it.
    line : int or None
        The line, counted from 1; None when the file as a whole is meant.
    path : str
        The field, such as ``subarrays[0].children[2]``; empty when the file is meant.
    text : str
        What was found and what was expected.
    """

    file: str
    line: int | None
    path: str
    text: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.path}: {self.text}" if self.path else f"{place}: {self.text}"


@dataclass
class MarkedData:
    """The data of a YAML text, and the line of each of its values.

    Parameters
    ----------
    file : str
        Name of the file, for problems.
    data : object
        Dictionaries, lists and scalars.
    lines : dict
        Line, counted from 1, of each path. That of a mapping's value is the line of its key.
    problems : list of Problem
        What was wrong with the text itself.
    """

    file: str
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """Give the line of `path`, or of the nearest thing around it that is in the file."""
        while path not in self.lines:
            if not path:
                return None
            path = path[:-1]
        return self.lines[path]

    def problem(self, path: Path, text: str) -> Problem:
        """Say what is wrong at `path`."""
        return Problem(self.file, self.line(path), path_text(path), text)


def path_text(path: Path) -> str:
    """Write a path as people do.

    Examples
    --------
    >>> path_text(("subarrays", 0, "children", 2))
    'subarrays[0].children[2]'
    """
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars by the YAML 1.2 core schema, and nothing else."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own form


_SCALARS = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", [*"tTfF"]),
    ("null", r"^(?:~|null|Null|NULL|)$", [*"~nN", ""]),
    ("int", r"^[-+]?[0-9]+$", [*"-+0123456789"]),
    (
        "float",
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"
        r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$",
        [*"-+.0123456789"],
    ),
)
for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), _first)

# PyYAML would read 012 as ten, the octal number of YAML 1.1
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: int(node.value, 10))


def read_yaml(text: str, file: str) -> MarkedData:
    r"""Read a YAML text with the lines of all its values.

    Parameters
    ----------
    text : str
        The text; JSON is YAML.
    file : str
        Name of the file, for problems.

    Returns
    -------
    MarkedData
        With `problems` when the text has any; what could be read is in `data` nevertheless.

    Examples
    --------
    >>> marked = read_yaml("commands:\n  On: {timeout: 3.0}\n", "map.yaml")
    >>> marked.data, marked.line(("commands", "On", "timeout"))
    ({'commands': {'On': {'timeout': 3.0}}}, 2)
    """
    marked = MarkedData(file)
    if len(text) > MAX_TEXT:
        found = f"the text has {len(text)} characters, expected at most {MAX_TEXT}"
        marked.problems.append(Problem(file, None, "", found))
        return marked
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            marked.data = _Reader(loader, marked).value(node, (), 0)
    except yaml.MarkedYAMLError as error:
        marked.problems.append(_syntax(error, file))
    except RecursionError:
        marked.problems.append(Problem(file, None, "", "this is nested too deeply to be read"))
    except yaml.YAMLError as error:
        marked.problems.append(Problem(file, None, "", f"this is not YAML: {error}"))
    finally:
        if loader is not None:
            loader.dispose()
    return marked


def _syntax(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = None if mark is None else mark.line + 1
    context = f" ({error.context})" if error.context else ""
    return Problem(file, line, "", f"{error.problem or 'unreadable YAML'}{context}")


class _Reader:
    """Turns nodes into data and writes down their lines."""

    def __init__(self, loader: _Loader, marked: MarkedData) -> None:
        self._loader = loader
        self._marked = marked
        self._count = 0

    def value(self, node: yaml.Node, path: Path, depth: int) -> Any:
        self._marked.lines.setdefault(path, node.start_mark.line + 1)
        self._count += 1
        if self._count > MAX_NODES:
            self._give_up(node, f"this unfolds to more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            self._give_up(node, f"this is nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode):
            return {
                key: self.value(value, (*path, key), depth + 1)
                for key, value in self._entries(node, path)
            }
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(value, (*path, index), depth + 1)
                for index, value in enumerate(node.value)
            ]
        return self._scalar(node, path)

    def _entries(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[Hashable, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._complain(line, path, "found a list or mapping as a key, expected text")
                continue
            name = str(key.value)
            if name in seen:
                first = f"the key is already in line {seen[name]}, expected it once"
                self._complain(line, (*path, name), first)
                continue
            seen[name] = line
            self._marked.lines[*path, name] = line
            yield name, value

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        try:
            return self._loader.construct_object(node)
        except yaml.MarkedYAMLError as error:
            self._complain(node.start_mark.line + 1, path, str(error.problem))
        except ValueError as error:
            self._complain(node.start_mark.line + 1, path, str(error))
        return None

    def _give_up(self, node: yaml.Node, text: str) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)

    def _complain(self, line: int, path: Path, text: str) -> None:
        self._marked.problems.append(Problem(self._marked.file, line, path_text(path), text))
