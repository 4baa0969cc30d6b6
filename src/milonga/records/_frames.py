"""Messages over a stream of bytes: a length, then JSON; nothing else is understood (LI-04).

This module needs only the standard library, as the process of an analysis loads it by itself.
"""

import json
import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_FRAME", "BadFrame", "FrameReader", "Message", "frame"]

MAX_FRAME = 16 * 1024 * 1024
"""Bytes of one message; what is larger goes to a file."""

_LENGTH = struct.Struct(">I")


class BadFrame(ValueError):
    """What came is no message; nothing after it can be understood either."""


@dataclass(frozen=True)
class Message:
    """One message.

    Parameters
    ----------
    signal : str
        What it says, such as TASK_STARTED.
    contents : any
        A JSON value.
    """

    signal: str
    contents: Any = None


def frame(message: Message) -> bytes:
    r"""Return a message as bytes.

    Raises
    ------
    BadFrame
        If it is too large.

    Examples
    --------
    >>> frame(Message("TASK_DONE"))
    b'\x00\x00\x00\x13["TASK_DONE", null]'
    """
    body = json.dumps([message.signal, message.contents]).encode()
    if len(body) > MAX_FRAME:
        raise BadFrame(
            f"message {message.signal}: found {len(body)} bytes, expected <= {MAX_FRAME}"
        )
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Puts messages together from pieces of any length.

    Parameters
    ----------
    max_frame : int, optional
        Bytes of one message, which bounds what is kept.
    """

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take a piece, and return the messages that are complete with it.

        Raises
        ------
        BadFrame
            If it cannot be part of a message.
        """
        self._kept += data
        messages = []
        while len(self._kept) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._kept)
            if length > self._max_frame:
                raise BadFrame(f"frame: found {length} bytes, expected <= {self._max_frame}")
            end = _LENGTH.size + length
            if len(self._kept) < end:
                break
            messages.append(_parsed(bytes(self._kept[_LENGTH.size : end])))
            del self._kept[:end]
        return messages


def _parsed(body: bytes) -> Message:
    try:
        signal, contents = json.loads(body)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadFrame(f"frame: found {body[:40]!r}, expected [signal, contents]") from error
    if not isinstance(signal, str):
        raise BadFrame(f"frame: found signal {signal!r:.40}, expected a text")
    return Message(signal, contents)
