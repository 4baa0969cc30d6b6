"""The documentation does what it says, and its site can be built."""

import subprocess
import sys
from pathlib import Path

import pytest

from milonga.deploy import examples_folder

from .running_pages import PageRun, blocks_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "how-to/plans.md": "tests/servers/test_plans_page.py",
    "how-to/deploy-with-helm.md": "needs a cluster; tests/charts shows what it says without one",
    "how-to/run-in-containers.md": "needs a container engine; tests/charts shows the rest",
    "how-to/test-your-devices.md": "tests/unit/testing and tests/servers/test_event_faults.py",
}
"""Pages that are not run here, and where they are, or why they cannot be."""

PAGES = sorted(
    str(page.relative_to(DOCS))
    for kind in ("tutorial", "how-to")
    for page in (DOCS / kind).glob("*.md")
)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    """Each block of code works, in order, in one folder, and prints what is printed."""
    with PageRun(DOCS / page, tmp_path) as run:
        assert run.run() > 0


def test_the_first_page_does_what_it_says(tmp_path: Path) -> None:
    """What a newcomer copies into a terminal first, on the example that is shipped."""
    (tmp_path / "examples").symlink_to(examples_folder())
    with PageRun(ROOT / "README.md", tmp_path) as run:
        assert run.run() >= 2


@pytest.mark.parametrize("page", PAGES)
def test_blocks_say_what_they_are(page: str) -> None:
    """A block without a language would be skipped without a word."""
    text = (DOCS / page).read_text(encoding="utf-8")

    fences = sum(line.lstrip().startswith("```") for line in text.splitlines())

    assert fences == 2 * len(blocks_of(text))


def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    """Every link and anchor leads somewhere."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "tutorial" / "first-system.html").is_file()
