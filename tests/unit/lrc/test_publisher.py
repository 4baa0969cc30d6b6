"""Pushing from many threads."""

import threading

from milonga.lrc import Publisher, Push


class Sink:
    """Takes pushes; can be made to refuse them."""

    def __init__(self) -> None:
        self.got: list[tuple[str, object]] = []
        self.refusals = 0
        self.retries: list[tuple[float, object]] = []

    def push(self, name: str, value: object) -> None:
        """Take a push, or refuse it."""
        if self.refusals:
            self.refusals -= 1
            raise TimeoutError
        self.got.append((name, value))

    def retry(self, delay: float, function: object) -> None:
        """Note what is to be tried again."""
        self.retries.append((delay, function))


def test_equal_values_are_sent_once() -> None:
    """lrc-protocol 3.4: no repeated empty lists."""
    sink = Sink()
    publisher = Publisher(sink.push, sink.retry)

    for version in range(3):
        publisher.put([Push("lrcQueue", (), version)])

    assert sink.got == [("lrcQueue", ())]


def test_an_older_value_never_follows_a_newer() -> None:
    """Two threads may bring their news in the wrong order."""
    sink = Sink()
    publisher = Publisher(sink.push, sink.retry)

    publisher.put([Push("lrcExecuting", ("new",), 2)])
    publisher.put([Push("lrcExecuting", ("old",), 1)])

    assert sink.got == [("lrcExecuting", ("new",))]


def test_news_are_never_overtaken() -> None:
    """The end of one command must reach its clients although another's start was faster."""
    sink = Sink()
    publisher = Publisher(sink.push, sink.retry)

    publisher.put([Push("_lrcEvent", ("2", "started"))])
    publisher.put([Push("_lrcEvent", ("1", "ended"))])

    assert [value for _, value in sink.got] == [("2", "started"), ("1", "ended")]


def test_a_busy_device_loses_nothing() -> None:
    """What the device had no time for is tried again, and order is kept."""
    sink = Sink()
    publisher = Publisher(sink.push, sink.retry, is_busy=lambda _: True)
    sink.refusals = 2

    publisher.put([Push("a", 1, 1), Push("b", 2, 2)])
    publisher.put([Push("c", 3, 3)])
    while sink.retries:
        sink.retries.pop()[1]()  # type: ignore[operator]

    assert sink.got == [("a", 1), ("b", 2), ("c", 3)]


def test_a_push_that_cannot_work_does_not_hold_up_the_others() -> None:
    """An error that is not about time is logged, and the rest goes out."""
    sink = Sink()
    publisher = Publisher(sink.push, sink.retry)
    sink.refusals = 1

    publisher.put([Push("a", 1, 1), Push("b", 2, 2)])

    assert sink.got == [("b", 2)]
    assert publisher.statistics()["failed"] == 1


def test_nobody_waits_for_somebody_elses_push() -> None:
    """A thread that brings news while another pushes leaves them with that one."""
    entered, release = threading.Event(), threading.Event()
    got: list[object] = []

    def push(_name: str, value: object) -> None:
        got.append(value)
        if value == 1:
            entered.set()
            assert release.wait(10)

    publisher = Publisher(push, lambda _delay, _function: None)
    first = threading.Thread(target=publisher.put, args=([Push("a", 1, 1)],))
    first.start()
    assert entered.wait(10)

    publisher.put([Push("a", 2, 2)])  # returns although the first push goes on

    assert got == [1]
    release.set()
    first.join(10)
    assert got == [1, 2]


def test_all_threads_news_arrive_in_their_order() -> None:
    """Eight threads, and each one's pushes stay in order."""
    sink = Sink()
    retries = threading.Thread  # a retry runs at once, on a thread of its own

    def retry(_delay: float, function: object) -> None:
        retries(target=function).start()  # type: ignore[arg-type]

    publisher = Publisher(sink.push, retry)

    def bring(name: str) -> None:
        for number in range(200):
            publisher.put([Push(name, number, number)])

    threads = [threading.Thread(target=bring, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    deadline = threading.Event()
    while publisher.statistics()["waiting"] and not deadline.wait(0.01):
        pass

    for n in range(8):
        assert [value for name, value in sink.got if name == f"t{n}"] == list(range(200))
