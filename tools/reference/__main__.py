"""Write the pages, or check them."""

import argparse
import sys
from pathlib import Path

from tools.reference import PAGES

FOLDER = Path(__file__).parents[2] / "docs"


def main() -> int:
    """Write the pages; with ``--check``, only name those that are not current."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is old")
    check = parser.parse_args().check
    old = []
    for name, page in PAGES.items():
        file, text = FOLDER / name, page()
        if file.is_file() and file.read_text(encoding="utf-8") == text:
            continue
        old.append(name)
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    for name in old:
        sys.stdout.write(f"docs/{name}: {'is not current' if check else 'written'}\n")
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())
