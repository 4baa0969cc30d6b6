"""The registry that all tables share, and names for their constraints."""

from typing import Any, cast

from sqlalchemy import MetaData, String, Table, Text
from sqlalchemy.orm import DeclarativeBase, MappedAsDataclass

__all__ = ["HREF", "NAME", "SCHEMA_VERSION", "UID", "Base", "in_words", "table_of"]

SCHEMA_VERSION = 1
"""What the columns of a record mean; written into each record."""

UID = String(500)
NAME = String(500)
HREF = String(500)

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(MappedAsDataclass, DeclarativeBase, kw_only=False, eq=False, repr=False):
    """Base of all tables: rows are dataclasses that are equal only to themselves."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {str: Text()}  # noqa: RUF012 - SQLAlchemy reads it from the class

    def __repr__(self) -> str:
        keys = self.__mapper__.primary_key
        known: dict[str, Any] = self.__dict__
        names = [self.__mapper__.get_property_by_column(key).key for key in keys]
        return f"<{type(self).__name__} {[known.get(name) for name in names]}>"


def table_of(model: type[Base]) -> Table:
    """Return the table of a model, for statements that know nothing of sessions."""
    return cast("Table", model.__table__)


def in_words(column: str, words: tuple[str, ...]) -> str:
    """Return the SQL condition that a column holds one of the words, or nothing."""
    listed = ", ".join(f"'{word}'" for word in words)
    return f"{column} IS NULL OR {column} IN ({listed})"
