"""For tests of devices and of what commands them: leaves that go wrong, and words for outcomes.

Never imported by what runs in earnest. The fixtures are in `milonga.testing.plugin`.
"""

from milonga.testing._bench import FaultySystem, LeafHandle, faulty_topology
from milonga.testing._events import UnreliableEvents
from milonga.testing._faults import (
    AbortFault,
    CommandFault,
    CrashAt,
    EventFaults,
    Faults,
    parse_faults,
)
from milonga.testing._leaf import FaultyLeaf
from milonga.testing._matchers import (
    assert_outcome,
    assert_tree,
    nodes_of,
    outcome_word,
    tree_has,
)
from milonga.testing._server import SERVER_NAME, main

__all__ = [
    "SERVER_NAME",
    "AbortFault",
    "CommandFault",
    "CrashAt",
    "EventFaults",
    "Faults",
    "FaultyLeaf",
    "FaultySystem",
    "LeafHandle",
    "UnreliableEvents",
    "assert_outcome",
    "assert_tree",
    "faulty_topology",
    "main",
    "nodes_of",
    "outcome_word",
    "parse_faults",
    "tree_has",
]
