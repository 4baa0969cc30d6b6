"""The pipeline does what the Makefile can do."""

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from .chart_data import ROOT

PIPELINE = ROOT / ".gitlab-ci.yml"
KEYWORDS = {"stages", "default", "variables", "workflow", "include"}


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the pipeline's jobs by name."""
    content = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))
    for name, job in content.items():
        if name not in KEYWORDS and not name.startswith("."):
            template = content[job["extends"]] if "extends" in job else {}
            yield name, template | job


def test_the_pipeline_is_well_formed() -> None:
    """By GitLab's own schema."""
    checker = shutil.which("check-jsonschema", path=sysconfig.get_path("scripts"))
    if checker is None:
        pytest.skip("needs check-jsonschema")
    command = [checker, "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]

    done = subprocess.run([*command, str(PIPELINE)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_every_job_is_in_a_stage() -> None:
    """In one that there is."""
    stages = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"]

    assert {job["stage"] for _, job in jobs()} == set(stages)


def test_every_target_that_a_job_makes_is_in_the_makefile() -> None:
    """And so is what the pipeline has to do."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    made = {
        target
        for _, job in jobs()
        for line in job["script"]
        for target in re.findall(r"\bmake ([a-z-]+)", line)
    }

    assert made <= targets
    assert {"lint", "test", "demo", "docs"} <= made


def test_what_takes_too_long_for_each_push_runs_every_night() -> None:
    """With the figures that the tests are promised to hold for, by the names that they read."""
    built = dict(jobs())
    tests = ROOT / "tests" / "servers"
    read = "".join(
        (tests / name).read_text(encoding="utf-8")
        for name in ("test_orderly_life.py", "test_restart.py")
    )

    for name in ("orderly-life", "soak"):
        assert built[name]["rules"][0] == {"if": '$CI_PIPELINE_SOURCE == "schedule"'}
    wanted = built["orderly-life"]["variables"]
    assert wanted == {"MILONGA_ROUNDS": "20", "MILONGA_KILL_POINTS": "50"}
    assert all(f'"{variable}"' in read for variable in wanted)
    assert built["soak"]["script"] == ["make soak"]


def test_the_tests_run_on_every_python_that_is_promised() -> None:
    """The ones that pyproject.toml names."""
    promised = re.findall(
        r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )

    matrix = dict(jobs())["test"]["parallel"]["matrix"][0]
    assert matrix["PYTHON_VERSION"] == promised


def test_the_tests_find_the_servers_that_some_of_them_need() -> None:
    """Those that skip where there is no PostgreSQL, or no Tiled, run in the pipeline."""
    job = dict(jobs())["test"]

    assert any("apt-get install" in line and "postgresql" in line for line in job["script"])
    assert "make tiled" in job["script"]
    assert job["variables"]["MILONGA_TILED"].endswith(".venv-tiled/bin/tiled")


def test_everything_that_is_shipped_is_built() -> None:
    """Wheel, images, chart, documentation; each image is a stage of the Dockerfile."""
    built = dict(jobs())
    stages = re.findall(
        r"^FROM .* AS (\S+)$", (ROOT / "docker" / "Dockerfile").read_text("utf-8"), re.M
    )

    assert {"wheel", "container-image", "chart", "docs"} <= set(built)
    assert set(built["container-image"]["parallel"]["matrix"][0]["TARGET"]) <= set(stages)
