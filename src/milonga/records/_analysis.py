"""What an analysis is, how it stands and what came of it; with the names of LUTE's classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from milonga.errors import StateModelError
from milonga.records._figures import figure_bytes
from milonga.records._file_names import safe_name
from milonga.records._words import AnalysisStatus

__all__ = [
    "ANALYSIS_MOVES",
    "DescribedAnalysis",
    "ElogSummaryPlots",
    "Summary",
    "TaskResult",
    "TaskStatus",
    "is_over",
]

TaskStatus = AnalysisStatus
"""LUTE's name; where the SKA's `TaskStatus` is around, say `AnalysisStatus`."""

_S = AnalysisStatus
_ENDS = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.TIMEDOUT})

ANALYSIS_MOVES: dict[AnalysisStatus, frozenset[AnalysisStatus]] = {
    _S.PENDING: frozenset({_S.RUNNING, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.STOPPED}) | _ENDS,
    _S.STOPPED: frozenset({_S.RUNNING}) | _ENDS,
    **{end: frozenset() for end in _ENDS},
}
"""Where an analysis can go from each status (LU-06)."""


def is_over(status: AnalysisStatus) -> bool:
    """Return whether nothing can follow."""
    return not ANALYSIS_MOVES[status]


@dataclass(frozen=True)
class ElogSummaryPlots:
    """Figures to show under a name.

    Parameters
    ----------
    display_name : str
        Where they are shown: tabs within tabs are divided by ``/``. It is the path on disk as
        well, and must not lead elsewhere.
    figures : figure, bytes, or sequence of these
        The figures; they are turned into bytes here.

    Raises
    ------
    FileRefused
        If the name leads elsewhere, or a figure is none.
    """

    display_name: str
    figures: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "display_name", str(safe_name(self.display_name)))
        many = isinstance(self.figures, list | tuple)
        shown = tuple(map(figure_bytes, self.figures)) if many else figure_bytes(self.figures)
        object.__setattr__(self, "figures", shown)

    @property
    def pages(self) -> tuple[bytes, ...]:
        """The figures, each as bytes, however many."""
        return self.figures if isinstance(self.figures, tuple) else (self.figures,)


Summary = (
    str
    | dict[str, Any]
    | ElogSummaryPlots
    | list["str | dict[str, Any] | ElogSummaryPlots"]
    | tuple["str | dict[str, Any] | ElogSummaryPlots", ...]
)
"""A text, values by name, plots, or several of these (LU-03)."""


@dataclass(frozen=True)
class TaskResult:
    """How an analysis stands, and what came of it.

    Parameters
    ----------
    task_name : str
        Which analysis.
    task_status : AnalysisStatus
        How it stands.
    summary : text, dict, ElogSummaryPlots, or a sequence of these
        For people.
    payload : any
        For programs.
    impl_schemas : str, optional
        Names of the schemas that the payload implements, divided by ``;``.

    Examples
    --------
    >>> TaskResult("peaks", TaskStatus.PENDING, "", None, "h5-smd; ;npz;").schemas
    ('h5-smd', 'npz')
    """

    task_name: str
    task_status: AnalysisStatus
    summary: Summary
    payload: Any
    impl_schemas: str | None = None

    @property
    def schemas(self) -> tuple[str, ...]:
        """The names of the schemas."""
        parts = (part.strip() for part in (self.impl_schemas or "").split(";"))
        return tuple(part for part in parts if part)

    @property
    def is_valid(self) -> bool:
        """Whether others may build on the result."""
        return self.task_status is AnalysisStatus.COMPLETED

    def moved(self, status: AnalysisStatus, **changes: Any) -> "TaskResult":
        """Return the result as it is after a step of the analysis.

        Raises
        ------
        StateModelError
            If there is no such step from where it stands.
        """
        if status not in ANALYSIS_MOVES[self.task_status]:
            allowed = ", ".join(sorted(one.name for one in ANALYSIS_MOVES[self.task_status]))
            raise StateModelError(
                f"analysis {self.task_name}: found a step from {self.task_status.name} to "
                f"{status.name}, expected {allowed or 'none, as it is over'}"
            )
        return replace(self, task_status=status, **changes)


@dataclass(frozen=True)
class DescribedAnalysis:
    """A result, and how it came to be.

    Parameters
    ----------
    task_result : TaskResult
        How it stands, and what came of it.
    task_parameters : pydantic model or mapping, optional
        The validated parameters; None until the analysis has begun.
    task_env : mapping, optional
        The environment variables that it was given, as far as they may be known: where a value is
        a secret of the site, only the name.
    poll_interval : float, optional
        Seconds at most between two looks at it.
    communicator_desc : list of str, optional
        The ways by which it talks to whom has started it.
    """

    task_result: TaskResult
    task_parameters: BaseModel | Mapping[str, Any] | None = None
    task_env: Mapping[str, str] = field(default_factory=dict)
    poll_interval: float = 0.05
    communicator_desc: list[str] = field(default_factory=list)

    def parameters(self) -> dict[str, Any] | None:
        """Return the parameters as plain values."""
        if isinstance(self.task_parameters, BaseModel):
            return self.task_parameters.model_dump(mode="json")
        return dict(self.task_parameters) if self.task_parameters is not None else None
