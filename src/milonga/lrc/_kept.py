"""The devices that the client library has called, kept for the next call."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from milonga.lrc._child import ChildDevice, child_device

__all__ = ["KeptDevices", "kept_devices"]


class KeptDevices:
    """Devices by resource locator. Safe across threads.

    Parameters
    ----------
    limit : int
        How many are kept; beyond that, those go that were called longest ago and are idle.
    """

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._devices: OrderedDict[str, ChildDevice] = OrderedDict()
        self._lent: Counter[str] = Counter()

    @contextmanager
    def lent(self, trl: str) -> Iterator[ChildDevice]:
        """Lend the device, which is not the caller's to close, to send commands to it."""
        key = trl.casefold()
        with self._lock:
            device = self._devices.pop(key, None)
            if device is None:
                device = child_device(trl, stay_connected=False)
            idle = self._idle() if len(self._devices) >= self._limit else []
            self._devices[key] = device
            self._lent[key] += 1
        for other in idle:
            other.close()
        try:
            yield device
        finally:
            with self._lock:
                self._lent[key] -= 1
                if not self._lent[key]:
                    del self._lent[key]

    def close(self) -> None:
        """Close all; the next call makes new ones."""
        with self._lock:
            devices, self._devices = self._devices, OrderedDict()
        for device in devices.values():
            device.close()

    def __len__(self) -> int:
        return len(self._devices)

    def _idle(self) -> list[ChildDevice]:
        surplus = len(self._devices) + 1 - self._limit
        keys = [
            key
            for key, device in self._devices.items()
            if not (key in self._lent or device.is_busy)
        ]
        return [self._devices.pop(key) for key in keys[:surplus]]


kept_devices = KeptDevices()
