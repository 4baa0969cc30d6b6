"""Which device classes a server loads, as the Tango database says."""

import os
from collections.abc import Iterator

import pytest

from milonga.deploy import System, Topology
from milonga.devices import load_classes, needed_classes

TOPOLOGY = """
name: classes
controller: {device: classes/control/0, server: parents}
subarrays: [{device: classes/subarray/1, id: 1, server: parents, children: [leaf]}]
leaves: [{name: leaf, device: classes/leaf/0, server: leaves}]
"""
SERVER = "milonga-server"
ALL = {
    *("MilongaController", "MilongaSubarray", "LeafSimulator"),
    *("MotorSimulator", "DetectorSimulator"),
}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Run two servers."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        yield system


@pytest.fixture
def _database(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TANGO_HOST", system.tango_host)


@pytest.mark.usefixtures("_database")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["parents", "-v4"], {"MilongaController", "MilongaSubarray"}),
        (["leaves"], {"LeafSimulator"}),
        (["nobody-has-registered-it"], ALL),
        (["leaves", "-nodb", "-dlist", "a/b/c"], ALL),
        (["leaves", "-file=properties.txt"], ALL),
        (["-?"], ALL),
        ([], ALL),
    ],
)
def test_a_server_loads_the_classes_of_its_devices(
    arguments: list[str], expected: set[str]
) -> None:
    """All, where nobody can say which; so that Tango itself tells what is wrong."""
    names = needed_classes(SERVER, arguments)
    assert set(names) == expected
    assert [each.__name__ for each in load_classes(names)] == list(names)


def test_without_a_database_all_classes_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tango waits for it, or says that it is not there."""
    monkeypatch.setitem(os.environ, "TANGO_HOST", "127.0.0.1:1")
    assert set(needed_classes(SERVER, ["leaves"])) == ALL
