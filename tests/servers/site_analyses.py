"""Analyses of a site, for the tests."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from milonga.records import SummaryPlots


class TalkParameters(BaseModel):
    """What `talk` takes."""

    runs: list[str]
    words: list[str] = ["a", "b"]


def talk(call: Any, *, runs: Sequence[str], words: Sequence[str]) -> None:
    """Say all that an analysis can say."""
    call.log("hello")
    call.progress(50)
    call.log(f"{len(runs)} runs")
    call.attach("words.txt", " ".join(words), "text/plain", "text")
    call.link("elog", "https://example.org/1")
    plots = SummaryPlots("talk/report", b"<p>figure</p>")
    call.result({"runs": len(runs)}, ["done", plots], schemas="talk")


def sleep(call: Any, **_: Any) -> None:
    """Sleep until somebody wakes it."""
    call.log("asleep")
    call.cancelled.wait(60.0)


def broken(call: Any, **_: Any) -> None:
    """Break down."""
    call.log("so far")
    raise ValueError("no peak in 5 points")
