"""Column types that SQLAlchemy does not have."""

import json
import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

from milonga.records._clock import in_utc

__all__ = ["JSON_COLUMN", "JsonValue", "UTCDateTime", "canonical_json", "clean_text", "dump_json"]

JsonValue = dict[str, Any] | list[Any] | str | int | float | bool | None
"""Any value that JSON can say."""


class UTCDateTime(TypeDecorator[datetime]):
    """A moment: aware on its way in, aware and in UTC on its way out.

    SQLite keeps no time zone, so it gets UTC and is told that it was UTC.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times, which would mean something else on each machine (C-1)."""
        if value is None:
            return None
        moment = in_utc(value)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


JSON_COLUMN = JSON().with_variant(JSONB(), "postgresql")
"""JSON that PostgreSQL keeps parsed."""


def clean_text(text: str) -> str:
    """Replace what no database takes in a text: NUL, and halves of surrogate pairs."""
    if text.isascii():
        return text.replace("\x00", "\ufffd") if "\x00" in text else text
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _strict(value: Any) -> Any:
    """Replace what JSON has no word for, which PostgreSQL refuses."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value


def dump_json(value: Any) -> str:
    """Return JSON that every database takes; what JSON cannot say becomes a text."""
    return json.dumps(_strict(value), ensure_ascii=False, default=str, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value, for hashes."""
    return json.dumps(_strict(value), sort_keys=True, separators=(",", ":"), default=str)
