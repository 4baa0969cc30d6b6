"""One of the client processes that hammer a device server.

``python _hammer_client.py TRL SECONDS SEED``: commands, reads, and subscriptions that come and go,
from two threads. Prints JSON: how many commands it called and how many final events it missed.
"""

import json
import random
import sys
import threading
import time

import tango

FINAL = {3, 5, 6, 7}
READ = (
    "State",
    "healthState",
    "lrcQueue",
    "lrcExecuting",
    "lrcFinished",
    "longRunningCommandStatus",
    "longRunningCommandResult",
)
COMING_AND_GOING = ("lrcFinished", "longRunningCommandStatus", "State", "_lrcEvent")


class Follower:
    """Stays subscribed for the whole time and notes what has ended."""

    def __init__(self, proxy: tango.DeviceProxy) -> None:
        self.ends: dict[str, int] = {}
        self.news = threading.Condition()
        self._proxy = proxy
        self._subscription = proxy.subscribe_event(
            "_lrcEvent", tango.EventType.CHANGE_EVENT, self._heard
        )

    def _heard(self, event: tango.EventData) -> None:
        if event.err or not event.attr_value.value:
            return
        uid, text = event.attr_value.value
        if json.loads(text).get("status") in FINAL:
            with self.news:
                self.ends[uid] = self.ends.get(uid, 0) + 1
                self.news.notify()

    def await_first_event(self) -> None:
        """Call commands until the end of one is told: a publisher learns late of a new subscriber.

        cppTango 524.
        """
        limit = time.monotonic() + 30.0
        while True:
            self._proxy.command_inout("Reset")
            with self.news:
                if self.news.wait_for(lambda: self.ends, timeout=0.5):
                    return
            assert time.monotonic() < limit, "no event comes"

    def close(self) -> None:
        """End the subscription."""
        self._proxy.unsubscribe_event(self._subscription)


def call(proxy: tango.DeviceProxy, follower: Follower, until: float) -> dict[str, int]:
    """Call commands, wait for each one's end."""
    counts = {"called": 0, "refused": 0, "missed": 0}
    while time.monotonic() < until:
        code, text = proxy.command_inout("Reset")
        if code[0] != 2:
            counts["refused"] += 1
            continue
        counts["called"] += 1
        with follower.news:
            if not follower.news.wait_for(lambda uid=text[0]: uid in follower.ends, timeout=5.0):
                counts["missed"] += 1
    return counts


def disturb(trl: str, until: float, chance: random.Random) -> None:
    """Read attributes; subscribe and unsubscribe."""
    proxy = tango.DeviceProxy(trl)
    while time.monotonic() < until:
        proxy.read_attributes(list(chance.sample(READ, 3)))
        subscription = proxy.subscribe_event(
            chance.choice(COMING_AND_GOING), tango.EventType.CHANGE_EVENT, lambda _event: None
        )
        proxy.command_inout("CheckLongRunningCommandStatus", "1_2_On")
        proxy.unsubscribe_event(subscription)


def main() -> None:
    """Hammer, then say what happened."""
    trl, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    proxy = tango.DeviceProxy(trl)
    follower = Follower(proxy)
    follower.await_first_event()
    until = time.monotonic() + seconds
    disturber = threading.Thread(target=disturb, args=(trl, until, random.Random(seed)))  # noqa: S311
    disturber.start()
    counts = call(proxy, follower, until)
    disturber.join()
    follower.close()
    counts["twice"] = sum(count > 1 for count in follower.ends.values())
    print(json.dumps(counts))  # noqa: T201


if __name__ == "__main__":
    main()
