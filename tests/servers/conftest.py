"""A running system for the tests that need one."""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from milonga.deploy import System, Topology, examples_folder


@pytest.fixture(scope="session", autouse=True)
def _documents_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have devices that run plans keep their documents out of the working directory."""
    os.environ["MILONGA_DATA"] = str(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="module")
def mid_csp() -> Iterator[System]:
    """Run the Mid-CSP-like example: real database, real processes."""
    with System(Topology.load(examples_folder() / "mid-csp" / "topology.yaml")) as system:
        yield system


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Return a function that waits for a condition of another process, and fails if it is late."""

    def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not true within {seconds} s"
            time.sleep(0.02)

    return wait
