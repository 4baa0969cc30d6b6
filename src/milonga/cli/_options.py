"""Options that several commands have."""

from typing import Annotated

import typer

__all__ = ["Store", "TangoHost"]

TangoHost = Annotated[
    str | None,
    typer.Option("--tango-host", metavar="HOST:PORT", help="Tango database; default: TANGO_HOST."),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH|URL",
        help="Record store; default: MILONGA_RECORDS, or records.db in MILONGA_DATA.",
    ),
]
