"""The benchmark of the engine."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_cost_beside_bluesky_is_measured() -> None:
    """One JSON object with the ratios; the aims are for a machine that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.engine", "--json", "--turns", "2"]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)

    figures = json.loads(run.stdout)
    assert 0.1 < figures["dispatch_ratio"] < 10
    assert 0.1 < figures["message_ratio"] < 10
    assert figures["status_us"] > 0
    assert figures["status_threads"] <= 2
