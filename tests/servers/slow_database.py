"""A Tango database that takes its time to confirm that a server's own device is known.

As another database serves the same file, clients see that device before it is ready: the moment
that passes by in a millisecond otherwise.
"""

import time

import databaseds.database
from databaseds.db_access.sqlite3 import SqlDatabase

SECONDS = 1.0

export_device = SqlDatabase.export_device


def export_slowly(self: SqlDatabase, name: str, *arguments: object) -> None:
    """Do as pytango-db does, and answer late."""
    export_device(self, name, *arguments)
    if name.startswith("dserver/milonga-server/"):
        time.sleep(SECONDS)


if __name__ == "__main__":
    SqlDatabase.export_device = export_slowly
    databaseds.database.main()
