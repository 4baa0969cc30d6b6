"""The example systems are valid, and their arguments are JSON."""

import json

import pytest

from milonga.deploy import Topology, examples_folder


@pytest.mark.parametrize(("name", "devices", "servers"), [("mid-csp", 13, 5), ("low-csp", 11, 5)])
def test_an_example_is_valid(name: str, devices: int, servers: int) -> None:
    """One controller, two subarrays, four subsystems each, and what plans use, in processes."""
    topology = Topology.load(examples_folder() / name / "topology.yaml")

    assert topology.name == name
    assert len(topology.devices) == devices
    assert len(topology.servers) == servers


def test_arguments_are_json_objects() -> None:
    """They can be given to `milonga call` as @file."""
    files = sorted(examples_folder().glob("*/*.json"))

    assert len(files) == 6
    assert all(isinstance(json.loads(file.read_text()), dict) for file in files)
