"""Attributes to which nobody listens: nothing is made or sent, and nothing is missed later."""

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import CommandTable, Publisher, Push


def test_no_value_is_made_for_an_attribute_that_nobody_watches() -> None:
    """j.5: to make and send all tables at each report is most of what the original costs."""
    table = CommandTable(is_watched=lambda name: name == "lrcQueue")
    uid, pushes = table.open("On")

    report = table.report(uid, TaskStatus.QUEUED)

    assert report is not None
    values = {push.attribute: push.value for push in (*pushes, *report.before, *report.after)}
    assert len(values.pop("lrcQueue")) == 1  # type: ignore[arg-type]
    assert values.pop("_lrcEvent") == (uid, '{"status": 1}')
    assert set(values.values()) == {None}
    assert table.value("longRunningCommandStatus") == (uid, "QUEUED"), "who reads gets it"


def test_whether_anybody_listens_is_asked_after_the_change() -> None:
    """Who begins to listen a moment later reads what the change has made."""
    seen: list[TaskStatus] = []

    def is_watched(_name: str) -> bool:
        seen.extend(record.status for record in records)
        return False

    records = []
    table = CommandTable(is_watched=is_watched)
    uid, _ = table.open("On")
    records.append(table._waiting[uid])

    table.report(uid, TaskStatus.COMPLETED, result=(ResultCode.OK, "done"))

    assert set(seen) == {TaskStatus.COMPLETED}


def test_a_value_that_comes_back_is_sent_though_it_was_the_last_one_sent() -> None:
    """A listener that came while nothing was sent has read something else by then."""
    sent: list[object] = []
    publisher = Publisher(lambda _name, value: sent.append(value), lambda _delay, _function: None)

    publisher.put([Push("lrcQueue", (), 1)])
    publisher.put([Push("lrcQueue", None, 2)])
    publisher.put([Push("lrcQueue", (), 3)])

    assert sent == [(), ()]
    assert publisher.statistics()["sent"] == 2


def test_an_old_value_does_not_follow_a_newer_one_that_was_not_made() -> None:
    """Versions count for what nobody listened to as well."""
    sent: list[object] = []
    publisher = Publisher(lambda _name, value: sent.append(value), lambda _delay, _function: None)

    publisher.put([Push("lrcQueue", None, 2)])
    publisher.put([Push("lrcQueue", ("old",), 1)])

    assert sent == []
