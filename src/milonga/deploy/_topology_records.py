"""What a topology says of the records of its servers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["TopologyRecords"]

Store = Annotated[
    str,
    # of a URL: no password, which would stand in a file that everybody can read
    StringConstraints(
        pattern=r"^(none|sqlite:[^\s@]+|postgresql(\+psycopg)?:(//)?([^:\s@/]+@)?[^\s@]*|[^\s:@]+)$",
        max_length=500,
    ),
]
Host = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9.\-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?$")]

_WORDS = {True: "yes", False: "no"}


class TopologyRecords(BaseModel):
    """Where the servers keep the records of commands, for how long, and whom they may tell.

    Parameters
    ----------
    store : str, optional
        Path of an SQLite file, URL of a database without a password, or ``none``. Default: what
        the environment says, or else records.db in the data folder.
    webhook_hosts : sequence of str, optional
        Hosts, each with or without a port, that webhooks may be sent to beside this machine.
    max_days : float, optional
        Days for which commands that are over are kept; default: for ever.
    max_count : int, optional
        How many commands are kept, the newest; default: all.
    max_bytes : int, optional
        About how many bytes of records and their files are kept; default: 16 GiB.
    synchronous : str, optional
        What a commit in SQLite survives: NORMAL, the default, the death of a process; FULL also
        the loss of power.
    max_waiting : int, optional
        Rows that may wait in the memory of a server while the store does not answer; default:
        20 000.
    durable : bool, optional
        Whether a command starts, and ends for its clients, only once that is written; default:
        true.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    store: Store | None = None
    webhook_hosts: Annotated[tuple[Host, ...], Field(strict=False)] = ()
    max_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_count: Annotated[int, Field(ge=1)] | None = None
    max_bytes: Annotated[int, Field(ge=1)] | None = None
    synchronous: Literal["NORMAL", "FULL"] | None = None
    max_waiting: Annotated[int, Field(ge=100)] | None = None
    durable: bool | None = None

    def environment(self) -> dict[str, str]:
        """Return the environment variables by which a server is told.

        Examples
        --------
        >>> TopologyRecords(store="/var/lib/milonga/records.db", max_count=1000).environment()
        {'MILONGA_RECORDS': '/var/lib/milonga/records.db', 'MILONGA_RECORDS_MAX_COUNT': '1000'}
        """
        told = {
            "MILONGA_RECORDS": self.store,
            "MILONGA_WEBHOOK_HOSTS": ",".join(self.webhook_hosts) or None,
            "MILONGA_RECORDS_MAX_DAYS": self.max_days,
            "MILONGA_RECORDS_MAX_COUNT": self.max_count,
            "MILONGA_RECORDS_MAX_BYTES": self.max_bytes,
            "MILONGA_RECORDS_SYNCHRONOUS": self.synchronous,
            "MILONGA_RECORDS_MAX_WAITING": self.max_waiting,
            "MILONGA_RECORDS_DURABLE": None if self.durable is None else _WORDS[self.durable],
        }
        return {name: str(value) for name, value in told.items() if value is not None}
