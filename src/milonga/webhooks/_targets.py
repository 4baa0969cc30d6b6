"""Which addresses may be called (QW-06).

A subscriber names the address, so without a list of what is allowed a stranger could make a
server call any service in its network.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from milonga.errors import WebhookRefused

__all__ = ["LOOPBACK_ONLY", "TargetPolicy"]

_PORTS = {"http": 80, "https": 443}


class TargetPolicy:
    """Allows the hosts that are named, and by default only this machine.

    Parameters
    ----------
    hosts : iterable of str, optional
        Names or addresses, with a port (``hooks.example.org:8443``) or for any port. Names are not
        looked up here: a name that is allowed is allowed wherever it leads.
    loopback : bool, optional
        Whether ``localhost`` and loopback addresses are allowed, on any port.

    Examples
    --------
    >>> TargetPolicy().check("http://127.0.0.1:8000/hook")
    >>> TargetPolicy().check("http://10.0.0.7/")
    Traceback (most recent call last):
        ...
    milonga.errors.WebhookRefused: webhook: found host '10.0.0.7', expected a loopback address
    """

    def __init__(self, hosts: Iterable[str] = (), *, loopback: bool = True) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._loopback = loopback

    def check(self, href: str) -> None:
        """Do nothing if an address may be called.

        Raises
        ------
        WebhookRefused
            If it must not be called.
        """
        try:
            parts = urlsplit(href)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise WebhookRefused(f"webhook: found {href!r}, expected a URL: {error}") from error
        if parts.scheme not in _PORTS or not host:
            raise WebhookRefused(f"webhook: found {href!r}, expected an http or https URL")
        if parts.username is not None or parts.password is not None:
            raise WebhookRefused("webhook: found a URL with credentials, expected one without")
        if not self._allows(host, port or _PORTS[parts.scheme]):
            raise WebhookRefused(f"webhook: found host {host!r}, expected {self._expected()}")

    def _allows(self, host: str, port: int) -> bool:
        if self._loopback and _is_loopback(host):
            return True
        shown = f"[{host}]" if ":" in host else host
        return host in self._hosts or f"{shown}:{port}" in self._hosts

    def _expected(self) -> str:
        known = sorted(self._hosts)
        if self._loopback:
            known.append("a loopback address")
        return " or ".join(known) or "no host at all"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


LOOPBACK_ONLY = TargetPolicy()
"""The default: only this machine."""
