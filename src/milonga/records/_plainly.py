"""What a database raises, in words for those who only asked a question."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from milonga.errors import RecordsError

__all__ = ["told_plainly"]


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turn errors of the database into `RecordsError`, without statements and their values."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, OverflowError) as error:
        reason = error.orig if isinstance(error, DBAPIError) and error.orig else error
        first = str(reason).strip().partition("\n")[0]
        raise RecordsError(f"record store: found {type(reason).__name__}: {first:.300}") from error
