"""A peak fitted to points, by least squares."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["SHAPES", "PeakFit", "fit"]

SHAPES = ("gaussian", "lorentzian")

_ROUNDS = 200
_PARAMETERS = 4
_FWHM = {"gaussian": 2.3548200450309493, "lorentzian": 2.0}
"""Full widths at half maximum of peaks whose width parameter is 1."""


@dataclass(frozen=True)
class PeakFit:
    """A peak above, or a dip below, a constant.

    Parameters
    ----------
    shape : str
        One of `SHAPES`.
    centre, fwhm, height, offset : float
        Where it is, its full width at half maximum, its height above the offset, and the offset.
    centre_error : float
        Standard error of the centre.
    r_squared : float
        Which part of the variance is explained.
    points : int
        How many points there were.
    """

    shape: str
    centre: float
    fwhm: float
    height: float
    offset: float
    centre_error: float
    r_squared: float
    points: int

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)

    def values_at(self, x: Sequence[float]) -> list[float]:
        """Return the values of the curve."""
        import numpy as np  # noqa: PLC0415 - takes long to load, and only who fits needs it

        width = self.fwhm / _FWHM[self.shape]
        parameters = np.array([self.height, self.centre, width, self.offset])
        values, _ = _MODELS[self.shape](np.asarray(x, dtype=float), parameters)
        return [float(value) for value in values]


def fit(x: Sequence[float], y: Sequence[float], shape: str = "gaussian") -> PeakFit:
    """Fit a peak to points, by the method of Levenberg and Marquardt.

    Parameters
    ----------
    x, y : sequence of float
        The points, more than four.
    shape : {"gaussian", "lorentzian"}, optional
        What the peak looks like.

    Raises
    ------
    ValueError
        If there are too few points, they are all alike, or the shape is unknown.

    Examples
    --------
    >>> peak = fit([0, 1, 2, 3, 4, 5, 6], [1.0, 1.05, 1.8, 3.0, 1.8, 1.05, 1.0])
    >>> round(peak.centre, 3)
    3.0
    """
    import numpy as np  # noqa: PLC0415 - as above

    if shape not in SHAPES:
        raise ValueError(f"shape: found {shape!r}, expected one of {', '.join(SHAPES)}")
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if xs.size <= _PARAMETERS or not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise ValueError(f"points: found {xs.size}, expected > {_PARAMETERS} finite ones")
    total = float(((ys - ys.mean()) ** 2).sum())
    if total == 0.0 or np.ptp(xs) == 0.0:
        raise ValueError("points: found them all alike, expected a peak")
    model = _MODELS[shape]
    tried = [_optimum(xs, ys, model, _guess(xs, ys, is_dip=dip)) for dip in (False, True)]
    parameters = min(tried, key=lambda one: float(((ys - model(xs, one)[0]) ** 2).sum()))
    values, slopes = model(xs, parameters)
    rest = float(((ys - values) ** 2).sum())
    variance = np.linalg.pinv(slopes.T @ slopes) * rest / (xs.size - _PARAMETERS)
    height, centre, width, offset = (float(value) for value in parameters)
    return PeakFit(
        shape=shape,
        centre=centre,
        fwhm=abs(width) * _FWHM[shape],
        height=height,
        offset=offset,
        centre_error=float(np.sqrt(max(variance[1, 1], 0.0))),
        r_squared=1.0 - rest / total,
        points=int(xs.size),
    )


def _guess(x: "Floats", y: "Floats", *, is_dip: bool) -> "Floats":
    """Return height, centre, width and offset to begin with."""
    import numpy as np  # noqa: PLC0415 - as above

    top = int(y.argmin() if is_dip else y.argmax())
    offset = float(y.max() if is_dip else y.min())
    height = float(y[top]) - offset
    high = np.abs(y - offset) > abs(height) / 2
    width = max(float(np.ptp(x[high])), float(np.ptp(x)) / (2 * x.size)) / 2
    return np.array([height, x[top], width, offset])


def _optimum(
    x: "Floats",
    y: "Floats",
    model: "Callable[[Floats, Floats], tuple[Floats, Floats]]",
    parameters: "Floats",
) -> "Floats":
    import numpy as np  # noqa: PLC0415 - as above

    damping = 1e-3
    values, slopes = model(x, parameters)
    rest = float(((y - values) ** 2).sum())
    for _ in range(_ROUNDS):
        curvature = slopes.T @ slopes
        damped = curvature + damping * np.diag(np.diag(curvature) + 1e-12)
        step = np.linalg.solve(damped, slopes.T @ (y - values))
        tried = parameters + step
        new_values, new_slopes = model(x, tried)
        new_rest = float(((y - new_values) ** 2).sum())
        if not new_rest < rest:
            damping *= 10.0
            if damping > 1e12:  # noqa: PLR2004 - no step is small enough
                break
            continue
        gain, parameters, values, slopes = rest - new_rest, tried, new_values, new_slopes
        rest, damping = new_rest, damping / 10.0
        if gain <= 1e-12 * max(rest, 1e-300):
            break
    return parameters


def _gaussian(x: "Floats", parameters: "Floats") -> "tuple[Floats, Floats]":
    """Return the values, and their derivatives by the parameters."""
    import numpy as np  # noqa: PLC0415 - as above

    height, centre, width, offset = parameters
    u = (x - centre) / width
    bell = np.exp(-u * u / 2)
    slopes = [bell, height * bell * u / width, height * bell * u * u / width, np.ones_like(x)]
    return height * bell + offset, np.stack(slopes, axis=1)


def _lorentzian(x: "Floats", parameters: "Floats") -> "tuple[Floats, Floats]":
    import numpy as np  # noqa: PLC0415 - as above

    height, centre, width, offset = parameters
    u = (x - centre) / width
    bell = 1 / (1 + u * u)
    slope = 2 * height * bell * bell * u / width
    return height * bell + offset, np.stack([bell, slope, slope * u, np.ones_like(x)], axis=1)


_MODELS = {"gaussian": _gaussian, "lorentzian": _lorentzian}
