"""Signatures by which a receiver knows who sent a message, and when."""

import hashlib
import hmac

__all__ = ["SIGNATURE_HEADER", "sign", "verify"]

SIGNATURE_HEADER = "Milonga-Signature"
"""The header that carries the signature."""

TOLERANCE = 300.0
"""Seconds by which the clocks of sender and receiver may differ."""


def sign(secret: bytes, body: bytes, at: float) -> str:
    """Return the signature of a body: time and HMAC-SHA256 of time and body.

    Parameters
    ----------
    secret : bytes
        Known to sender and receiver.
    body : bytes
        What is sent.
    at : float
        Seconds since 1970, UTC. It is signed, so that nobody can send an old message again later.

    Examples
    --------
    >>> sign(b"secret", b"{}", 1900000000.0)[:20]
    't=1900000000,v1=c37d'
    """
    moment = str(int(at))
    return f"t={moment},v1={_digest(secret, moment, body)}"


def verify(
    secret: bytes, body: bytes, header: str, now: float, tolerance: float = TOLERANCE
) -> bool:
    """Return whether a signature is that of the body, and of about now.

    Parameters
    ----------
    secret, body : bytes
        As for `sign`.
    header : str
        The header's value.
    now : float
        Seconds since 1970, UTC.
    tolerance : float, optional
        Seconds by which the times may differ.
    """
    parts = dict(part.strip().partition("=")[::2] for part in header.split(","))
    moment, digest = parts.get("t", ""), parts.get("v1", "")
    if not (moment.isascii() and moment.isdigit() and digest.isascii()):
        return False
    fresh = abs(now - int(moment)) <= tolerance
    return hmac.compare_digest(_digest(secret, moment, body), digest) and fresh


def _digest(secret: bytes, moment: str, body: bytes) -> str:
    return hmac.new(secret, moment.encode() + b"." + body, hashlib.sha256).hexdigest()
