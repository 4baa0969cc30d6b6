"""Tango device servers for hierarchical command tracking.

This package loads nothing heavy: each of its rooms is imported by its own name.
"""

__version__ = "0.1.0"
