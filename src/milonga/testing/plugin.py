"""Fixtures for pytest; ask for them by ``pytest_plugins = ["milonga.testing.plugin"]``."""

import time
from collections.abc import Callable, Iterator

import pytest

from milonga.testing._bench import FaultySystem, LeafHandle, faulty_topology

__all__ = ["eventually", "faulty_leaves", "milonga_system"]


@pytest.fixture(scope="module")
def milonga_system(request: pytest.FixtureRequest) -> Iterator[FaultySystem]:
    """Run a system, for the tests of a module: that of its function ``topology()``, if it has one.

    Without that function, a subarray over four faulty leaves.
    """
    make = getattr(request.module, "topology", faulty_topology)
    with FaultySystem(make()) as system:
        yield system


@pytest.fixture
def faulty_leaves(milonga_system: FaultySystem) -> dict[str, LeafHandle]:
    """Give the faulty leaves of the system by name, idle and with nothing wrong."""
    names = [
        entry.name for entry in milonga_system.topology.devices if entry.class_name == "FaultyLeaf"
    ]
    leaves = {name: milonga_system.leaf(name) for name in names}
    for leaf in leaves.values():
        leaf.wait_until_it_answers()
        leaf.suffers()
        leaf.become_idle()
        leaf.does()
        leaf.suffers()  # counts from zero
    return leaves


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Give a function that waits for a condition, and fails if it does not come true in time."""

    def wait(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"{what or 'the condition'} was not true within {seconds:g} s")
            time.sleep(0.02)

    return wait
