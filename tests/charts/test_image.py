"""The image's recipe is sound, and its steps run where there is no container engine."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from .chart_data import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"


def program(name: str) -> str:
    """Find a program that was installed beside this Python."""
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def instructions(word: str) -> list[str]:
    """List what follows a word at the beginning of the Dockerfile's lines."""
    return re.findall(rf"^{word} (.*)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_recipe_has_no_findings() -> None:
    """By hadolint."""
    done = subprocess.run(
        [program("hadolint"), str(DOCKERFILE)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_starts_from_one_pinned_base() -> None:
    """By its whole version; all stages from the same, so that the environment can be copied."""
    base = instructions("ARG")[0]

    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+", base)
    stages = [line.split(" AS ")[1] for line in instructions("FROM")]
    assert stages[-1] == "milonga"
    for line in instructions("FROM"):
        assert line.split(" AS ")[0] in {"${PYTHON_IMAGE}", *stages}
    assert "latest" not in DOCKERFILE.read_text(encoding="utf-8")


def test_the_image_does_not_run_as_root() -> None:
    """By number, so that Kubernetes can see it, and with a name, so that omniORB can."""
    assert set(instructions("USER")) == {"10001:10001"}
    assert "useradd --uid 10001" in DOCKERFILE.read_text(encoding="utf-8")


def test_the_suite_for_compose_is_well_formed() -> None:
    """By the schema of compose files; each command is one that the command line has."""
    done = subprocess.run(
        [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout

    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    for service in services.values():
        command = service.get("command", ["validate"])
        told = subprocess.run(
            [sys.executable, "-m", "milonga", command[0], "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"COLUMNS": "200"},
        ).stdout
        assert all(part in told for part in command if part.startswith("--"))


def context(target: Path) -> Path:
    """Copy what `.dockerignore` lets into the build, and nothing else."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    left_out = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    assert "*" in rules
    for name in allowed:
        source = ROOT / name
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(
                source,
                place,
                ignore=lambda _folder, names: [
                    name for name in names if any(fnmatch(name, rule) for rule in left_out)
                ],
            )
        else:
            shutil.copy(source, place)
    return target


@pytest.mark.slow
def test_the_images_steps_make_a_milonga_that_runs(tmp_path: Path) -> None:
    """The wheel, built from the build context alone, in an environment that has nothing else."""
    run = "docker/install.sh . /opt/milonga"
    assert any(run in line for line in instructions("RUN"))
    folder = context(tmp_path / "context")
    # compiling the dependencies takes as long as all the rest, and shows nothing
    environment = os.environ | {"PYTHON": sys.executable, "PIP_NO_COMPILE": "1"}
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        environment.pop(name, None)

    built = subprocess.run(
        ["sh", "docker/install.sh", ".", str(tmp_path / "opt")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode and re.search(r"NewConnectionError|Name or service", built.stderr):
        pytest.skip("needs a package index")
    assert built.returncode == 0, built.stderr

    milonga = tmp_path / "opt" / "bin" / "milonga"
    topology = next(folder.glob("examples/mid-csp/topology.yaml"))
    told = subprocess.run(
        [milonga, "validate", topology],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "mid-csp is valid" in told.stdout
    server = subprocess.run(
        [
            tmp_path / "opt" / "bin" / "python",
            "-c",
            "import milonga.devices as d; print(d.__file__)",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) in server.stdout
