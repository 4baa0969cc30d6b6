"""A running system for the tests that need one."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tango

from milonga.deploy import System, Topology, examples_folder


@pytest.fixture(scope="module", autouse=True)
def _data_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have devices keep documents and records out of the working directory.

    For each module anew: a system must not find what another one of the same name has left.
    """
    os.environ["MILONGA_DATA"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def mid_csp() -> Iterator[System]:
    """Run the Mid-CSP-like example: real database, real processes."""
    with System(Topology.load(examples_folder() / "mid-csp" / "topology.yaml")) as system:
        yield system


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a module's documents go."""
    return tmp_path_factory.mktemp("documents")


@pytest.fixture
def proxy(system: System, wait_until: Callable[..., None]) -> tango.DeviceProxy:
    """Return the first subarray of a module's system, once it has found its children."""
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    wait_until(lambda: proxy.state() not in {tango.DevState.UNKNOWN, tango.DevState.DISABLE})
    return proxy


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Return a function that waits for a condition of another process, and fails if it is late."""

    def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not true within {seconds} s"
            time.sleep(0.02)

    return wait
