"""Analyses that come with Milonga: what a command does with the documents of its runs.

They run in processes of their own and need numpy, and matplotlib for plots. A device allows them
by its property ``Analyses``, as it does those of a site.
"""

from milonga.analyses._fit_peak import fit_peak
from milonga.analyses._peak import SHAPES, PeakFit, fit

__all__ = ["SHAPES", "PeakFit", "fit", "fit_peak"]
