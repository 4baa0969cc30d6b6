"""What the page on plans says, done as it says."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tango

from milonga.deploy import System, Topology

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "plans.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def blocks(language: str) -> list[str]:
    """Return the page's blocks of one language."""
    return [text for found, text in BLOCKS if found == language]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run the page's topology, in the folder of its module."""
    folder, before = tmp_path_factory.mktemp("lab"), Path.cwd()
    (folder / "mysite.py").write_text(blocks("python")[0], encoding="utf-8")
    (folder / "lab.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    os.chdir(folder)
    try:
        with System(Topology.load("lab.yaml")) as system:
            yield system
    finally:
        os.chdir(before)


def test_its_commands_work(lab: System) -> None:
    """Each `milonga` line but `up`, which the fixture has done."""
    lines = [line for text in blocks("console") for line in text.splitlines()]
    environment = os.environ | {"TANGO_HOST": lab.tango_host}
    done = 0
    for line in lines:
        command = line.removeprefix("$ ").partition("#")[0].strip()
        if not command.startswith("milonga ") or command.startswith("milonga up"):
            continue
        ended = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
        done += 1
    assert done == 4
    assert "RunPlan: COMPLETED OK" in ended.stdout  # the last one


def test_its_python_works(
    lab: System, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, in one shell; a plan's documents are where it says."""
    monkeypatch.setenv("TANGO_HOST", lab.tango_host)
    _module, run, tell, read = blocks("python")
    shell: dict[str, Any] = {}

    exec(run, shell)  # noqa: S102 - our own page
    device = shell["device"]
    wait_until(lambda: "snap" in device.actions)
    exec(tell, shell)  # noqa: S102
    wait_until(lambda: device.engineState == "idle" and not device.lrcExecuting)
    exec(read, shell)  # noqa: S102

    assert shell["start"]["plan_name"] == "watch"
    assert shell["start"]["command_id"] == shell["command_id"]
    assert shell["documents"][-1][1]["exit_status"] == "success"


def test_its_command_is_a_plan(lab: System, wait_until: Callable[..., None]) -> None:
    """Configure runs `mysite:configure`, which commands the children."""
    device = tango.DeviceProxy(lab.trl("subarray-01"))
    device.AssignResources("{}")
    wait_until(lambda: device.obsState.name == "IDLE")

    device.Configure("{}")

    wait_until(lambda: device.obsState.name == "READY")
    for name in ("cbf", "pst"):
        done = json.loads(tango.DeviceProxy(lab.trl(name)).lrcFinished[-1])
        assert (done["name"].lower(), done["status"]) == ("configure", "COMPLETED")


def test_what_it_says_of_a_sink_is_valid() -> None:
    """The line for the topology fits where the plans are listed."""
    topology, line = blocks("yaml")
    text = topology.replace("    data_folder: lab-data", f"{line}    data_folder: lab-data")

    properties = Topology.from_text(text).device("subarray-01").properties

    assert properties["DocumentSink"] == ["http://127.0.0.1:8000"]
