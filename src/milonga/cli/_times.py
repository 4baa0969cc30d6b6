"""Times for people: in UTC, and they say so, as records, trees and logs have them."""

from datetime import UTC, datetime

__all__ = ["clock_time", "date_and_time", "read_time"]

BLANK = " " * len("12:00:00 UTC")


def clock_time(text: object, *, milliseconds: bool = False) -> str:
    """Write the time of day of an ISO 8601 time; blanks if it is none.

    Examples
    --------
    >>> clock_time("2030-01-01T13:00:00+01:00")
    '12:00:00 UTC'
    """
    try:
        moment = datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return BLANK
    written = f"{moment:%H:%M:%S.%f}"[:-3] if milliseconds else f"{moment:%H:%M:%S}"
    return f"{written} UTC"


def date_and_time(text: str) -> str:
    """Write an ISO 8601 time.

    Examples
    --------
    >>> date_and_time("2030-01-01T13:00:00+01:00")
    '2030-01-01 12:00:00 UTC'
    """
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def read_time(text: str) -> datetime:
    """Read a time as a person gives it: ISO 8601, local if it says no zone, or as it is written.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> read_time("2030-01-01 12:00:00 UTC").isoformat()
    '2030-01-01T12:00:00+00:00'
    """
    moment, word, _ = text.partition(" UTC")
    if word:
        return datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return datetime.fromisoformat(text).astimezone()
