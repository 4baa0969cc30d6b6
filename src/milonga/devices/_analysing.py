"""A parent whose commands may end with an analysis."""

from collections.abc import Mapping
from pathlib import Path

from tango.server import attribute, device_property

from milonga.devices._analyses import AnalysisDesk, read_analyses
from milonga.devices._parent import MilongaParent
from milonga.devices._tracked import latin1
from milonga.devices._tree_job import Ticket
from milonga.tasks import AnalysisStarter

__all__ = ["AnalysingParent"]


class AnalysingParent(MilongaParent):
    """A device that commands others, and runs analyses."""

    Analyses = device_property(
        dtype=(str,),
        default_value=(),
        doc='The analyses that may be run, one JSON object a line: {"name": …, "target":'
        ' "module:function"}, and any of parameters_model, python_path, timeout, environment.',
    )

    _last_analysis = "{}"

    def init_device(self) -> None:
        """Start anew, with no analysis shown."""
        self._last_analysis = "{}"
        super().init_device()
        self.announce("lastAnalysis")

    def set_up(self) -> None:
        """Read the properties."""
        super().set_up()
        self._analyses = AnalysisDesk(
            read_analyses(self.Analyses),
            self._service,
            self.document_folder,
            self.scheduler.call_soon,
            self.logger,
            self._show_analysis,
        )

    @attribute(dtype=str)
    def lastAnalysis(self) -> str:
        """What came of the last analysis: a JSON object with uid, name, status, summary, and more.

        ``payload`` is there if it is short, ``outputs`` are the files of the record, ``runs`` the
        runs that the analysis is about.
        """
        return self._last_analysis

    def _show_analysis(self, text: str) -> None:
        self._last_analysis = latin1(text)
        self.publish("lastAnalysis", self._last_analysis)

    def document_folder(self) -> Path | None:
        """Return where the documents of runs are; None if there are none."""
        return None

    def analysis_names(self) -> tuple[str, ...]:
        """Return the analyses that a command map may name."""
        return tuple(read_analyses(self.Analyses))

    def analysis_starters(self, ticket: Ticket) -> Mapping[str, AnalysisStarter]:
        """Return what starts the analyses that are steps of the command of a ticket."""
        return self._analyses.starters(ticket)
