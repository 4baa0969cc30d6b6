"""Words for what became of commands, and for what their trees show."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from milonga.control_model import ResultCode, TaskStatus

__all__ = ["assert_outcome", "assert_tree", "nodes_of", "outcome_word", "tree_has"]


class HasOutcome(Protocol):
    """What `milonga.lrc.Outcome` has, and everything like it."""

    @property
    def status(self) -> TaskStatus:
        """The final status."""

    @property
    def result_code(self) -> ResultCode:
        """The code."""

    @property
    def message(self) -> str:
        """The text."""


Node = Mapping[str, Any]


def outcome_word(outcome: HasOutcome | Node) -> str:
    """Say in a word what became of a command, or of a node of a tree.

    Returns
    -------
    str
        OK, PARTIAL, FAILED (it ran to its end), BROKEN (it did not), TIMED_OUT, LOST, ABORTED,
        REJECTED or NOT_ALLOWED; the status, as long as there is no end. An outcome from the wire
        has no PARTIAL and TIMED_OUT, as the wire has no words for them: only a tree has.

    Examples
    --------
    >>> outcome_word({"status": "COMPLETED", "result_code": "OK"})
    'OK'
    >>> outcome_word({"status": "FAILED", "result_code": "FAILED", "cause": "TIMED_OUT"})
    'TIMED_OUT'
    """
    if isinstance(outcome, Mapping):
        status, code = TaskStatus[outcome["status"]], ResultCode[outcome["result_code"]]
        cause, partial = outcome.get("cause"), bool(outcome.get("partial"))
    else:
        status, code, cause, partial = outcome.status, outcome.result_code, None, False
    if status is TaskStatus.COMPLETED:
        return "PARTIAL" if partial else code.name
    if status is TaskStatus.FAILED:
        return str(cause or ("LOST" if code is ResultCode.UNKNOWN else "BROKEN"))
    return "NOT_ALLOWED" if code is ResultCode.NOT_ALLOWED else status.name


def assert_outcome(
    outcome: HasOutcome | Node | None, expected: str = "OK", *, text: str = ""
) -> None:
    """Check what became of a command.

    Parameters
    ----------
    outcome : Outcome, mapping or None
        From `Invocation.wait`, or a node of a tree.
    expected : str, optional
        One of the words of `outcome_word`.
    text : str, optional
        What the message must contain.

    Raises
    ------
    AssertionError
        If there is no outcome, or another; says which, with its message.
    """
    if outcome is None:
        raise AssertionError(f"expected {expected}, found no outcome: the command goes on")
    found = outcome_word(outcome)
    message = str(outcome["message"] if isinstance(outcome, Mapping) else outcome.message)
    if found != expected:
        raise AssertionError(f"expected {expected}, found {found}: {message}")
    if text not in message:
        raise AssertionError(f"expected {text!r} in the message, found: {message}")


def nodes_of(tree: Node) -> Iterator[Node]:
    """Yield all nodes of a tree, those above first."""
    yield tree
    for child in tree.get("children", ()):
        yield from nodes_of(child)


def tree_has(tree: Node, **facts: object) -> list[Node]:
    """Return the nodes that show all the facts: ``tree_has(tree, abort="REFUSED")``.

    Examples
    --------
    >>> tree = {"name": "On", "children": [{"name": "a", "status": "FAILED"}]}
    >>> [node["name"] for node in tree_has(tree, status="FAILED")]
    ['a']
    """
    return [
        node
        for node in nodes_of(tree)
        if all(key in node and node[key] == value for key, value in facts.items())
    ]


def assert_tree(tree: Node, **expected: str) -> None:
    """Check what became of nodes, by name: ``assert_tree(tree, cbf="OK", pst="TIMED_OUT")``.

    Raises
    ------
    AssertionError
        If a node is not there, or has another outcome; names all that differ.
    """
    found = {str(node["name"]): node for node in nodes_of(tree)}
    wrong = []
    for name, word in expected.items():
        node = found.get(name)
        if node is None:
            wrong.append(f"{name}: expected {word}, found no such node among {sorted(found)}")
        elif outcome_word(node) != word:
            wrong.append(
                f"{name}: expected {word}, found {outcome_word(node)}: {node.get('message', '')}"
            )
    if wrong:
        raise AssertionError("\n".join(wrong))
