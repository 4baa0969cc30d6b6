"""What a device looks like when the work of a command is over."""

import math
from dataclasses import dataclass

__all__ = ["Expectation"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a device looks like when the work of a command is over.

    At a device with long-running commands, this and the result of the command must agree.

    Parameters
    ----------
    attribute : str
        The attribute that tells.
    reached : tuple of str
        Values, as texts, with which the work is done.
    failed : tuple of str
        Values with which it has failed. One that the attribute had before the command counts
        only once it has been left, so that a device can be brought out of FAULT.
    timeout : float
        Seconds from the call to the value; from the result, at a device that gives one.

    Raises
    ------
    ValueError
        If there is no value to wait for, one is in both, or the timeout is not positive.
    """

    attribute: str = "State"
    reached: tuple[str, ...] = ("ON",)
    failed: tuple[str, ...] = ("FAULT",)
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not self.reached:
            raise ValueError("reached: found no value, expected at least one to wait for")
        both = {text.casefold() for text in self.reached} & {t.casefold() for t in self.failed}
        if both:
            raise ValueError(f"reached and failed: found {sorted(both)} in both")
        if not 0 < self.timeout < math.inf:
            raise ValueError(f"timeout: found {self.timeout!r}, expected seconds > 0")
