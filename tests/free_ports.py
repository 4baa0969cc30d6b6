"""Ports for servers that a test starts some time after it has chosen them."""

import random
import socket

LOOPBACK = "127.0.0.1"


def free_ports(number: int) -> list[int]:
    """Find ports that nobody listens at, outside of those that the system hands out by itself.

    Another process that asks the system for any port does not get them meanwhile.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 12_000):
        if len(found) == number:
            break
        try:
            socket.create_server((LOOPBACK, port)).close()
        except OSError:
            continue
        found.append(port)
    return found


def free_port() -> int:
    """Find one such port."""
    (port,) = free_ports(1)
    return port
