"""The analysis that ends a scan: a peak fitted to what a detector saw over a motor's way."""

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from milonga.analyses._peak import PeakFit, fit
from milonga.analyses._scan import Scan, read_scan

__all__ = ["fit_peak"]

_CURVE_POINTS = 400


class Call(Protocol):
    """What an analysis can say, see `milonga.records.AnalysisExecutor`."""

    def progress(self, percent: float) -> None:
        """Say how far it is."""

    def log(self, text: str) -> None:
        """Say something for the log."""

    def result(self, payload: Any = None, summary: Any = "", *, schemas: str | None = None) -> None:
        """Give a result."""

    def attach(self, name: str, data: bytes, mimetype: str, kind: str = "analysis") -> None:
        """Attach a file."""


def fit_peak(
    call: Call,
    *,
    documents: Sequence[str],
    runs: Sequence[str] = (),  # noqa: ARG001 - every analysis is told
    motor: str | None = None,
    detector: str | None = None,
    shape: str = "gaussian",
    plot: bool = True,
) -> None:
    """Fit a peak to the last of some runs.

    The result has a line of text as summary, and the values of the fit as payload. A plot is
    attached where matplotlib is installed.

    Parameters
    ----------
    call : Call
        Takes what the analysis says.
    documents : sequence of str
        Paths of files of documents; the last one counts.
    runs : sequence of str, optional
        Uids of the same runs.
    motor, detector : str, optional
        What to fit over what; default: what the run's own hints say.
    shape : {"gaussian", "lorentzian"}, optional
        What the peak looks like.
    plot : bool, optional
        Whether to attach a plot.

    Raises
    ------
    ValueError
        If there is nothing to fit.
    """
    if not documents:
        raise ValueError("documents: found none, expected those of a run before")
    scan = read_scan(Path(documents[-1]), motor, detector)
    call.log(f"{len(scan.x)} points of {scan.detector} over {scan.motor}")
    call.progress(20)
    peak = fit(scan.x, scan.y, shape)
    call.progress(60)
    payload = {"run": scan.run, "motor": scan.motor, "detector": scan.detector}
    call.result(payload | peak.as_json(), _told(scan, peak), schemas="peak-fit")
    if plot and importlib.util.find_spec("matplotlib") is not None:
        call.attach("peak.png", _plotted(scan, peak), "image/png", "plot")
    call.progress(100)


def _told(scan: Scan, peak: PeakFit) -> str:
    unit = f" {scan.units[0]}" if scan.units[0] else ""
    word = "peak" if peak.height > 0 else "dip"
    return (
        f"{peak.shape} {word} of {scan.detector} at {scan.motor} = {peak.centre:.4g}"
        f" ± {peak.centre_error:.1g}{unit}, FWHM {peak.fwhm:.4g}{unit},"
        f" height {peak.height:.4g}, R² {peak.r_squared:.4f}"
    )


def _plotted(scan: Scan, peak: PeakFit) -> bytes:
    """Draw the points and the curve as PNG; no window, whatever the environment says."""
    import numpy as np  # noqa: PLC0415 - takes long to load, and only who plots needs it
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    line = [float(value) for value in np.linspace(min(scan.x), max(scan.x), _CURVE_POINTS)]
    axes.plot(scan.x, scan.y, "o", label=scan.detector)
    axes.plot(line, peak.values_at(line), "-", label=f"{peak.shape}, centre {peak.centre:.4g}")
    axes.set_xlabel(_labelled(scan.motor, scan.units[0]))
    axes.set_ylabel(_labelled(scan.detector, scan.units[1]))
    axes.set_title(f"run {scan.run[:8]}")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _labelled(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
