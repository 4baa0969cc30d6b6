"""The servers that write records, and when each was last heard of."""

from datetime import datetime

from sqlalchemy import Boolean, String
from sqlalchemy.orm import Mapped, mapped_column

from milonga.records._tables import Base
from milonga.records._types import UTCDateTime

__all__ = ["RecordOwner"]


class RecordOwner(Base):
    """A server that writes records.

    One row for each server takes the heartbeats, not one for each running task: a heartbeat costs
    the same however many tasks run. `signs` tells whether it signs its messages to hooks, so that
    nobody sends them unsigned in its place.
    """

    __tablename__ = "record_owner"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    incarnation: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime] = mapped_column(UTCDateTime)
    heartbeat_at: Mapped[datetime] = mapped_column(UTCDateTime)
    signs: Mapped[bool] = mapped_column(Boolean, default=False)
