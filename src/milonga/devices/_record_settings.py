"""How a process keeps records, as its environment says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from milonga.errors import RecordsError
from milonga.records import RecorderSettings, Retention, StoreSettings, Synchronous

__all__ = ["DEFAULT_MAX_BYTES", "RecordSettings"]

HOSTS_VARIABLE = "MILONGA_WEBHOOK_HOSTS"
"""Hosts that webhooks may be sent to beside this machine, divided by commas."""

SECRET_VARIABLE = "MILONGA_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable
"""What webhooks are signed with."""

AGE_VARIABLE, COUNT_VARIABLE = "MILONGA_RECORDS_MAX_DAYS", "MILONGA_RECORDS_MAX_COUNT"
"""Days for which, and how many commands, records are kept."""

BYTES_VARIABLE = "MILONGA_RECORDS_MAX_BYTES"
"""About how many bytes of records and files are kept."""

SYNCHRONOUS_VARIABLE = "MILONGA_RECORDS_SYNCHRONOUS"
"""What a commit in SQLite waits for: NORMAL or FULL."""

WAITING_VARIABLE = "MILONGA_RECORDS_MAX_WAITING"
"""How many rows may wait in memory while the store does not answer."""

DURABLE_VARIABLE = "MILONGA_RECORDS_DURABLE"
"""Whether a command waits for its record: yes or no."""

DEFAULT_MAX_BYTES = 16 * 1024**3
"""Bytes that are kept where nobody says: months of a busy telescope, and no full disk."""

DAY = 86_400.0

LINGER = 0.05
"""Seconds after which the course of a command is on disk; its begin and its end are at once."""


@dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """How records are kept, and whom they are told to.

    Parameters
    ----------
    retention : Retention
        How much is kept.
    synchronous : Synchronous
        What a commit in SQLite waits for.
    max_waiting : int
        Rows that may wait in memory.
    is_durable : bool
        Whether a command starts, and ends for its clients, only once that is written.
    webhook_hosts : tuple of str
        Hosts that webhooks may be sent to beside this machine.
    webhook_secret : bytes or None
        What webhooks are signed with.
    """

    retention: Retention = field(default_factory=lambda: Retention(max_bytes=DEFAULT_MAX_BYTES))
    synchronous: Synchronous = Synchronous.NORMAL
    max_waiting: int = RecorderSettings().max_buffered
    is_durable: bool = True
    webhook_hosts: tuple[str, ...] = ()
    webhook_secret: bytes | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "RecordSettings":
        """Read the environment.

        Raises
        ------
        RecordsError
            If a variable is wrong; the text names it, what was found and what was expected.

        Examples
        --------
        >>> RecordSettings.from_environment({"MILONGA_RECORDS_MAX_DAYS": "2"}).retention.max_age
        172800.0
        """
        days, count, size, waiting = (
            _number(environment, name)
            for name in (AGE_VARIABLE, COUNT_VARIABLE, BYTES_VARIABLE, WAITING_VARIABLE)
        )
        hosts = (host.strip() for host in environment.get(HOSTS_VARIABLE, "").split(","))
        return cls(
            retention=Retention(
                max_age=None if days is None else days * DAY,
                max_count=None if count is None else int(count),
                max_bytes=DEFAULT_MAX_BYTES if size is None else int(size),
            ),
            synchronous=Synchronous(
                _word(environment, SYNCHRONOUS_VARIABLE, tuple(Synchronous), Synchronous.NORMAL)
            ),
            max_waiting=RecorderSettings().max_buffered if waiting is None else int(waiting),
            is_durable=_word(environment, DURABLE_VARIABLE, ("yes", "no"), "yes") == "yes",
            webhook_hosts=tuple(host for host in hosts if host),
            webhook_secret=environment.get(SECRET_VARIABLE, "").encode() or None,
        )

    def of_store(self) -> StoreSettings:
        """Return the settings of the store."""
        return StoreSettings(may_be_away=True, synchronous=self.synchronous)

    def of_recorder(self) -> RecorderSettings:
        """Return the settings of what writes to it."""
        return RecorderSettings(
            keep_open=True,
            linger=LINGER,
            signs=self.webhook_secret is not None,
            max_buffered=self.max_waiting,
            max_passing=self.max_waiting // 2,
        )


def _number(environment: Mapping[str, str], variable: str) -> float | None:
    text = environment.get(variable, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise RecordsError(f"{variable}: found {text!r}, expected a number > 0")
    return value


def _word(
    environment: Mapping[str, str], variable: str, words: tuple[str, ...], default: str
) -> str:
    text = environment.get(variable, "") or default
    if text not in words:
        raise RecordsError(f"{variable}: found {text!r}, expected one of {', '.join(words)}")
    return text
