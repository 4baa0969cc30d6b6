"""The commands that containers run tell what is wrong in a line, and in their exit code."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from milonga.deploy import Database, Topology, check_values

from .chart_data import CHART, SMALL


def milonga(*arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line with no variables of ours but the given ones."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "TANGO_HOST" and not name.startswith("MILONGA_")
    }
    return subprocess.run(
        [sys.executable, "-m", "milonga", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=kept | {"COLUMNS": "80"} | variables,
    )


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    """Write a topology file."""
    file = tmp_path / "topology.yaml"
    file.write_text(SMALL)
    return file


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Run a Tango database."""
    database = Database(tmp_path_factory.mktemp("database"))
    database.start()
    yield database
    database.stop()


@pytest.mark.parametrize("command", ["serve", "register", "database", "values"])
def test_every_command_explains_itself(command: str) -> None:
    """In eighty columns."""
    told = milonga(command, "--help")

    assert told.returncode == 0
    assert f"milonga {command}" in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 80


def test_a_server_that_the_topology_has_not_is_named(topology: Path) -> None:
    """With those that it has; nothing is waited for."""
    told = milonga("serve", "leafs", "--topology", topology, TANGO_HOST="127.0.0.1:1")

    assert told.returncode == 2
    assert "found 'leafs', expected one of leaves.a, leaves-a, Sub_1, central" in told.stderr


def test_a_program_that_is_not_installed_is_named(topology: Path) -> None:
    """Before anything is registered."""
    topology.write_text(f"{SMALL}servers: {{leaves-a: {{command: [nowhere-to-be-found]}}}}\n")

    told = milonga("serve", "leaves-a", "--topology", topology, TANGO_HOST="127.0.0.1:1")

    assert told.returncode == 1
    assert "found the command 'nowhere-to-be-found', expected a program" in told.stderr


@pytest.mark.parametrize("command", [("register",), ("serve", "central", "--topology")])
def test_waiting_for_a_database_may_have_an_end(topology: Path, command: tuple[str, ...]) -> None:
    """Without one, a container waits for ever."""
    told = milonga(*command, topology, "--timeout", 0.1, TANGO_HOST="127.0.0.1:1")

    assert told.returncode == 6
    assert "no Tango database answers at 127.0.0.1:1" in told.stderr


def test_a_database_has_to_be_named(topology: Path) -> None:
    """None is guessed."""
    assert milonga("register", topology).returncode == 2


def test_an_address_that_is_none_is_not_waited_for(topology: Path) -> None:
    """It would never answer."""
    told = milonga("register", topology, "--tango-host", "here")

    assert told.returncode == 1
    assert "expected host:port" in told.stderr


def test_a_port_that_is_taken_is_told(topology: Path) -> None:
    """The probes' port, before the server is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = milonga(
            *("serve", "central", "--topology", topology),
            TANGO_HOST="127.0.0.1:1",
            MILONGA_HEALTH_PORT=str(port),
        )

    assert told.returncode == 1
    assert f"the probes cannot be answered at 127.0.0.1:{port}" in told.stderr


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], ["leaves-a", "-ORBendPoint", "giop:tcp:127.0.0.1:0"]),
        (["-v4"], ["leaves-a", "-v4", "-ORBendPoint", "giop:tcp:127.0.0.1:0"]),
        (["-ORBendPoint", "giop:tcp::45450"], ["leaves-a", "-ORBendPoint", "giop:tcp::45450"]),
    ],
)
def test_more_arguments_reach_the_server(
    topology: Path, database: Database, more: list[str], expected: list[str]
) -> None:
    """As the operator adds them; what it says about the address wins."""
    program = "import sys; print(sys.argv[1:])"
    own = {"leaves-a": {"command": ["{python}", "-c", program]}}
    topology.write_text(f"{SMALL}servers: {json.dumps(own)}\n")

    told = milonga(
        *("serve", "--topology", topology, "leaves-a", *more), TANGO_HOST=database.tango_host
    )

    assert told.stdout == f"{expected}\n"


def test_registering_twice_is_registering_once(topology: Path, database: Database) -> None:
    """The database has the topology's devices afterwards."""
    first = milonga("register", topology, TANGO_HOST=database.tango_host)
    second = milonga("register", topology, "--tango-host", database.tango_host)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert f"small: 4 devices are registered at {database.tango_host}" in first.stdout


def test_values_are_made_of_a_topology(topology: Path, tmp_path: Path) -> None:
    """And judged by the same models."""
    told = milonga("values", topology)
    file = tmp_path / "values.json"
    file.write_text(told.stdout)

    assert check_values(file).devices == Topology.load(topology).devices
    judged = milonga("validate", "--values", file)
    assert (judged.returncode, judged.stderr) == (0, "")
    assert "small is valid: 4 devices in 4 servers" in judged.stdout


def test_the_charts_schema_is_written(topology: Path) -> None:
    """As it is in the chart."""
    told = milonga("values", "--schema")

    assert json.loads(told.stdout) == json.loads((CHART / "values.schema.json").read_text())
    assert milonga("values").returncode == 2
    assert milonga("values", topology, "--schema").returncode == 2


def test_values_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """As a topology that cannot be read."""
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.touch()

    assert "cannot be read" in milonga("values", missing).stderr
    assert "cannot be read" in milonga("validate", "--values", missing).stderr
    assert "found nothing, expected a mapping" in milonga("validate", "--values", empty).stderr
