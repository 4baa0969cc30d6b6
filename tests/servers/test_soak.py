"""A short soak: random commands and faults, and everything ends."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINUTES = 1.0


@pytest.mark.slow
def test_everything_ends_whatever_goes_wrong() -> None:
    """Nothing hangs, no tree contradicts its command, and the records say what clients saw.

    `make soak` goes on for longer.
    """
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", str(MINUTES), "--seed", "6"]

    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "hangs 0, contradictions 0" in run.stdout
    assert "records inconsistent: 0" in run.stdout
    for server in ("parents", "leaves", "mortal-1", "mortal-2"):
        assert re.search(rf"{server}: \d+ MB, \d+ threads at the start, \d+ MB", run.stdout)
