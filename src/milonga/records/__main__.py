"""``python -m milonga.records upgrade URL``: look after the tables of a store."""

import argparse
import sys

from milonga.errors import RecordsError
from milonga.records._engine import Synchronous, as_url, make_engine
from milonga.records._migrate import current_version, latest_version, migrate


def main(arguments: list[str] | None = None) -> int:
    """Show the version of a store's tables, or migrate them.

    Returns
    -------
    int
        0 if the store is (now) of this release's version, 1 if not, 2 if it cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m milonga.records", description=__doc__)
    parser.add_argument("action", choices=["upgrade", "current"])
    parser.add_argument("store", help="path of an SQLite file, or URL of a database")
    options = parser.parse_args(arguments)
    try:
        engine = make_engine(as_url(options.store), synchronous=Synchronous.FULL, busy_timeout=30.0)
        if options.action == "upgrade":
            migrate(engine)
        found = current_version(engine)
        engine.dispose()
    except (RecordsError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{found or 'no tables'} (this release: {latest_version()})\n")
    return 0 if found == latest_version() else 1


if __name__ == "__main__":
    raise SystemExit(main())
