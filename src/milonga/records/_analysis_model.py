"""Analyses, their parameters and results, in a schema that does not grow (LD-08).

One row for each parameter takes the place of a table for each task and a column for each
parameter; task, run and validity are repeated there, so that the newest value of a parameter is
one step into an index however many analyses there are (D-5, D-7, D-8).
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from milonga.records._clock import utc_now
from milonga.records._tables import NAME, UID, Base
from milonga.records._types import JSON_COLUMN, UTCDateTime

__all__ = ["Analysis", "AnalysisHeaderRow", "AnalysisParameter", "AnalysisSetting"]


class AnalysisHeaderRow(Base):
    """A header that analyses share, found by the hash of its content (LD-04)."""

    __tablename__ = "analysis_header"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    content: Mapped[Any] = mapped_column(JSON_COLUMN, nullable=False)


class AnalysisSetting(Base):
    """How analyses were run, which they share: environment, poll interval, communicators."""

    __tablename__ = "analysis_setting"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    environment: Mapped[Any] = mapped_column(JSON_COLUMN, nullable=False)
    poll_interval: Mapped[float] = mapped_column(Float)
    communicators: Mapped[Any] = mapped_column(JSON_COLUMN, nullable=False)


class Analysis(Base):
    """One analysis and its result; `valid` only if it was completed (LD-02)."""

    __tablename__ = "analysis"
    __table_args__ = (
        Index(None, "task_name", "valid", "id"),
        Index(None, "task_name", "run", "valid", "id"),
        Index(None, "task_id"),
        Index(None, "header_id"),
        Index(None, "setting_id"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    task_name: Mapped[str] = mapped_column(NAME)
    run: Mapped[str] = mapped_column(String(255))
    task_status: Mapped[str] = mapped_column(String(32))
    valid: Mapped[bool] = mapped_column(Boolean)
    summary: Mapped[Any] = mapped_column(JSON_COLUMN, nullable=False)
    payload: Mapped[Any] = mapped_column(JSON_COLUMN, nullable=False)
    impl_schemas: Mapped[str | None] = mapped_column(Text)
    header_id: Mapped[int] = mapped_column(ForeignKey("analysis_header.id"))
    setting_id: Mapped[int] = mapped_column(ForeignKey("analysis_setting.id"))
    parameters_type: Mapped[str] = mapped_column(String(255), default="")
    uid: Mapped[str | None] = mapped_column(UID, default=None)
    task_id: Mapped[int | None] = mapped_column(
        ForeignKey("processing_task.id", ondelete="SET NULL"), default=None
    )
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default_factory=utc_now)
    format_version: Mapped[int] = mapped_column(Integer, default=1)


class AnalysisParameter(Base):
    """One parameter of an analysis, under its flattened name (LD-03)."""

    __tablename__ = "analysis_parameter"
    __table_args__ = (
        Index(None, "task_name", "name", "valid", "analysis_id"),
        Index(None, "task_name", "name", "run", "valid", "analysis_id"),
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    task_name: Mapped[str] = mapped_column(NAME)
    run: Mapped[str] = mapped_column(String(255))
    valid: Mapped[bool] = mapped_column(Boolean)
    value: Mapped[Any] = mapped_column(JSON_COLUMN, nullable=False)
    type: Mapped[str] = mapped_column(String(32))
