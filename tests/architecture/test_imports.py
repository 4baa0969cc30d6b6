"""What may import what, and what is loaded when."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    *("tango", "bluesky", "ophyd_async", "numpy", "pydantic"),
    *("sqlalchemy", "alembic", "httpx", "typer", "rich"),
)


def loaded_by(statement: str) -> set[str]:
    """Return which of the heavy packages a new interpreter has loaded after `statement`."""
    script = f"import sys; {statement}; print(*[n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing_heavy() -> None:
    """`import milonga` is instant."""
    assert loaded_by("import milonga") == set()


@pytest.mark.parametrize("room", ["errors", "control_model", "tracking"])
def test_the_pure_floors_load_nothing_at_all(room: str) -> None:
    """They are standard library only."""
    assert loaded_by(f"import milonga.{room}") == set()


def test_the_task_tree_needs_no_tango() -> None:
    """Only pydantic."""
    assert loaded_by("import milonga.tasks") <= {"pydantic"}


def test_a_device_server_loads_at_first_what_every_one_needs() -> None:
    """Nothing that migrates tables, calls hooks or runs plans: many servers never do."""
    needed = {"tango", "numpy", "pydantic", "sqlalchemy"}
    assert loaded_by("from milonga.devices import DEVICE_CLASSES") == needed


def test_a_server_of_leaves_loads_nothing_that_only_parents_need() -> None:
    """Records and plans; and to import the devices alone loads nothing at all."""
    assert loaded_by("import milonga.devices") == set()
    needed = {"tango", "numpy", "pydantic"}
    assert loaded_by("from milonga.devices import LeafSimulator, main") == needed


def test_imports_point_down() -> None:
    """The contracts in pyproject.toml hold."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout
