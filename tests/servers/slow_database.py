"""A Tango database that confirms that a server's own device is known when a test lets it.

As another database serves the same file, clients see that device before it is ready: the moment
that passes by in a millisecond otherwise lasts until there is a file of the server's name in the
folder that the environment names.
"""

import os
import time
from pathlib import Path

import databaseds.database
from databaseds.db_access.sqlite3 import SqlDatabase

PREFIX = "dserver/milonga-server/"

export_device = SqlDatabase.export_device


def export_slowly(self: SqlDatabase, name: str, *arguments: object) -> None:
    """Do as pytango-db does, and answer late."""
    export_device(self, name, *arguments)
    if name.startswith(PREFIX):
        gate = Path(os.environ["SLOW_DATABASE_GATES"], name.removeprefix(PREFIX))
        while not gate.exists():
            time.sleep(0.02)


if __name__ == "__main__":
    SqlDatabase.export_device = export_slowly
    databaseds.database.main()
