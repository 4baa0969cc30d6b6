"""The fit that ends a scan: known peaks are found, and what is no peak is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from milonga.analyses import SHAPES, fit, fit_peak
from milonga.analyses._scan import read_scan

CENTRE, WIDTH, HEIGHT, OFFSET = 0.7, 0.5, 12.0, 3.0
XS = [-3.0 + 0.2 * n for n in range(31)]


def value(x: float, shape: str, height: float = HEIGHT) -> float:
    """Return a point of the curve."""
    u = (x - CENTRE) / WIDTH
    bell = math.exp(-u * u / 2) if shape == "gaussian" else 1 / (1 + u * u)
    return height * bell + OFFSET


class Call:
    """Keeps what an analysis says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.percent: list[float] = []
        self.files: dict[str, bytes] = {}
        self.payload: Any = None
        self.summary = ""

    def progress(self, percent: float) -> None:
        """Take progress."""
        self.percent.append(percent)

    def log(self, text: str) -> None:
        """Take a line."""
        self.said.append(text)

    def result(self, payload: Any = None, summary: Any = "", *, schemas: str | None = None) -> None:
        """Take the result."""
        self.payload, self.summary = payload, summary

    def attach(self, name: str, data: bytes, mimetype: str, kind: str = "analysis") -> None:
        """Take a file."""
        self.files[name] = data


def event(descriptor: str, number: int, x: float, y: float) -> tuple[str, dict[str, Any]]:
    """Return an event."""
    data = {"m-position": x, "d-counts": y, "d-other": 0}
    return ("event", {"descriptor": descriptor, "seq_num": number, "data": data})


def documents(folder: Path, points: list[tuple[float, float]]) -> Path:
    """Write the documents of a scan."""
    keys = {"m-position": {"units": "mm"}, "d-counts": {"units": "counts"}, "d-other": {}}
    lines = [
        (
            "start",
            {
                "uid": "run",
                "detectors": ["d"],
                "hints": {"dimensions": [[["m-position"], "primary"]]},
            },
        ),
        (
            "descriptor",
            {
                "uid": "u",
                "name": "primary",
                "data_keys": keys,
                "object_keys": {"m": ["m-position"], "d": ["d-other", "d-counts"]},
                "hints": {"d": {"fields": ["d-counts"]}},
            },
        ),
        ("descriptor", {"uid": "v", "name": "baseline", "data_keys": keys, "object_keys": {}}),
        event("v", 1, 0.0, 1000.0),
        event("u", 1, *points[0]),
        event("u", len(points), points[-1][0], 1000.0),  # measured again, after a pause
        (
            "event_page",
            {
                "descriptor": "u",
                "seq_num": [n + 1 for n in range(1, len(points))],
                "data": {
                    "m-position": [x for x, _ in points[1:]],
                    "d-counts": [y for _, y in points[1:]],
                    "d-other": [0] * (len(points) - 1),
                },
            },
        ),
        event("v", 2, 0.0, 1000.0),
        ("stop", {"uid": "s"}),
    ]
    path = folder / "run.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("height", [HEIGHT, -2.5])
def test_a_known_peak_is_found(shape: str, height: float) -> None:
    """Also one that points downwards."""
    peak = fit(XS, [value(x, shape, height) for x in XS], shape)

    factor = 2.3548 if shape == "gaussian" else 2.0
    assert peak.centre == pytest.approx(CENTRE, abs=1e-6)
    assert peak.fwhm == pytest.approx(WIDTH * factor, rel=1e-4)
    assert (peak.height, peak.offset) == (pytest.approx(height), pytest.approx(OFFSET))
    assert peak.r_squared == pytest.approx(1.0)


def test_noise_makes_the_centre_less_certain() -> None:
    """The error grows, and holds."""
    noisy = [value(x, "gaussian") + 0.5 * math.sin(97 * x) for x in XS]

    peak = fit(XS, noisy)

    assert 0.0 < abs(peak.centre - CENTRE) < 4 * peak.centre_error
    assert 0.9 < peak.r_squared < 1.0


@pytest.mark.parametrize(
    ("x", "y", "shape", "text"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], "gaussian", "points: found 4, expected > 4 finite ones"),
        ([1, 2, 3, 4, 5], [1, 2, math.nan, 4, 5], "gaussian", "expected > 4 finite ones"),
        ([1, 2, 3, 4, 5], [1, 1, 1, 1, 1], "gaussian", "all alike"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 2, 1], "square", "shape: found 'square', expected one of"),
    ],
)
def test_what_is_no_peak_is_refused(x: list[float], y: list[float], shape: str, text: str) -> None:
    """With what was found and expected."""
    with pytest.raises(ValueError, match=text):
        fit(x, y, shape)


def test_the_analysis_tells_what_it_found(tmp_path: Path) -> None:
    """LU-03: a line for people, values for programs, a plot if there is what draws it."""
    path = documents(tmp_path, [(x, value(x, "gaussian")) for x in XS])
    call = Call()

    fit_peak(call, documents=["elsewhere.jsonl", str(path)])

    assert call.payload["centre"] == pytest.approx(CENTRE, abs=1e-6)
    assert (call.payload["run"], call.payload["points"]) == ("run", len(XS))
    assert call.summary.startswith("gaussian peak of d-counts at m-position = 0.7 ±")
    assert "mm, FWHM 1.177 mm" in call.summary
    assert call.percent == sorted(call.percent)
    if pytest.importorskip("matplotlib"):
        assert call.files["peak.png"].startswith(b"\x89PNG")


def test_devices_and_signals_can_be_named(tmp_path: Path) -> None:
    """A device stands for the signal that it wants to be shown."""
    path = documents(tmp_path, [(x, value(x, "gaussian")) for x in XS])

    assert read_scan(path).detector == "d-counts"
    assert read_scan(path, "m", "d-other").detector == "d-other"
    with pytest.raises(ValueError, match="detector: found 'x', expected one of m-position"):
        read_scan(path, None, "x")
    with pytest.raises(ValueError, match="documents: found none"):
        fit_peak(Call(), documents=[])


def test_only_the_points_of_the_scan_count(tmp_path: Path) -> None:
    """Neither what another stream has read, nor what a point had before it was measured again."""
    points = [(float(n), float(n == 2)) for n in range(5)]

    scan = read_scan(documents(tmp_path, points))

    assert [*zip(scan.x, scan.y, strict=True)] == points
