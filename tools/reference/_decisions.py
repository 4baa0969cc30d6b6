"""The list of decisions."""

from pathlib import Path

from tools.reference._markdown import MADE, page

__all__ = ["decisions_page"]

FOLDER = Path(__file__).parents[2] / "docs" / "explanation" / "decisions"


def decisions_page() -> str:
    """Write the page."""
    about = "Each page is one decision: the pain, what was decided, and what follows from it.\n"
    entries = [_entry(file) for file in sorted(FOLDER.glob("[0-9]*.md"))]
    return page([MADE, "# Decisions\n", about, "".join(entries)])


def _entry(file: Path) -> str:
    heading = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    number, _, title = heading.partition(". ")
    return f"* {number}: [{title}]({file.name})\n"
