"""What plans are made of and what they take, for those who write and run plans.

bluesky's own words, so that a plan can be annotated, and a device be told from another, by code
that does not import bluesky.
"""

from bluesky.protocols import Movable, Readable, Stoppable, Triggerable
from bluesky.utils import FailedStatus, Msg, MsgGenerator

__all__ = [
    "FailedStatus",
    "Movable",
    "Msg",
    "MsgGenerator",
    "Readable",
    "Stoppable",
    "Triggerable",
]
