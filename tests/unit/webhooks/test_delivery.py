"""Messages arrive: signed, in order, at least once, and only where they may go."""

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milonga.errors import WebhookRefused
from milonga.records import (
    NewTask,
    RecordCommands,
    Recorder,
    RecordStore,
    Situation,
    WebhookOutbox,
    add_step,
    clear_step,
    save_task_result,
    start_task,
)
from milonga.webhooks import (
    SIGNATURE_HEADER,
    DeliverySettings,
    TargetPolicy,
    WebhookDeliverer,
    sign,
    verify,
)

Deliver = Callable[..., WebhookDeliverer]
SOON = 20.0


def emptied(store: RecordStore) -> bool:
    """Wait until nothing waits."""
    outbox, deadline = WebhookOutbox(store), time.monotonic() + SOON
    while outbox.waiting() and time.monotonic() < deadline:
        time.sleep(0.005)
    return outbox.waiting() == 0


def test_a_hook_is_called_with_source_and_event(
    store: RecordStore, task: int, receiver: Any, deliver: Deliver
) -> None:
    """QW-01, QW-03, QW-05: the query of the original, and a body that says what and which."""
    deliver(secret=b"secret")
    save_task_result(store, None, task)
    calls = receiver.wait_for(2)

    assert [call.query["event"] for call in calls] == ["details", "status"]
    assert calls[1].query == {"key": "a b", "source": f"/tasks/{task}/", "event": "status"}
    body = calls[1].json
    assert body.keys() == {"event", "uid", "sequence", "status", "source", "time"}
    assert (body["status"], body["event"]) == ("SUCCESS", "status")
    header = calls[1].headers[SIGNATURE_HEADER]
    assert verify(b"secret", calls[1].body, header, time.time())
    assert not verify(b"other", calls[1].body, header, time.time())


def test_messages_about_a_task_arrive_in_order(
    store: RecordStore, task: int, receiver: Any, deliver: Deliver
) -> None:
    """QW-05: also when some have to be sent again."""
    receiver.answers += [500, 204, 503, 503, 503, 204]
    for _ in range(10):
        add_step(store, None, task, "s", "/do", "/ui")
        clear_step(store, task)
    save_task_result(store, None, task)
    deliverer = deliver()
    assert emptied(store)

    sequences = [call.json["sequence"] for call in receiver.calls]
    assert sequences == sorted(sequences)
    assert receiver.calls[-1].json["event"] == "status"
    assert deliverer.statistics().failed >= 1
    assert deliverer.statistics().delivered == len(set(sequences))


@pytest.mark.parametrize("answer", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(
    store: RecordStore,
    task: int,
    receiver: Any,
    new_receiver: Callable[..., Any],
    deliver: Deliver,
    answer: int,
) -> None:
    """QW-06: it counts as no success."""
    elsewhere = new_receiver()
    receiver.location = elsewhere.url
    receiver.answers += [answer] * 2
    deliver()
    save_task_result(store, None, task)
    receiver.wait_for(3)
    assert emptied(store)

    assert elsewhere.calls == []


def test_a_receiver_may_be_away(
    store: RecordStore, task: int, receiver: Any, new_receiver: Callable[..., Any], deliver: Deliver
) -> None:
    """QW-02, QW-05: what could not be sent is sent when it is back."""
    port = receiver.port
    receiver.close()
    deliverer = deliver()
    save_task_result(store, None, task)
    deadline = time.monotonic() + SOON
    while deliverer.statistics().failed < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    again = new_receiver(port)

    assert [call.json["event"] for call in again.wait_for(2)] == ["details", "status"]
    assert emptied(store)


def test_what_waits_survives_a_restart(
    store: RecordStore, task: int, receiver: Any, deliver: Deliver
) -> None:
    """QW-05: messages are on disk from the moment of the change, whoever delivers them."""
    add_step(store, None, task, "s", "/do", "/ui")
    first = deliver()
    receiver.wait_for(1)
    assert first.close(SOON)
    save_task_result(store, None, task)
    with RecordStore(store.url) as again:
        assert WebhookOutbox(again).waiting() > 0
    deliver()
    assert emptied(store)

    assert "status" in {call.json["event"] for call in receiver.calls}


def test_a_hook_that_is_gone_is_called_no_more(
    store: RecordStore, task: int, receiver: Any, deliver: Deliver
) -> None:
    """QW-05: 410 means what it says."""
    receiver.answers += [410, 410]
    deliverer = deliver()
    save_task_result(store, None, task)
    assert emptied(store)
    assert deliverer.close(SOON)

    assert deliverer.statistics().given_up == 2
    assert len(receiver.calls) == 2


def test_what_is_too_old_is_given_up(
    store: RecordStore, task: int, receiver: Any, deliver: Deliver
) -> None:
    """QW-05: after some hours nobody needs to hear of it."""
    receiver.answers += [500] * 100
    deliverer = deliver({"give_up_after": 0.0, "tries": 1})
    save_task_result(store, None, task)
    assert emptied(store)
    assert deliverer.close(SOON)

    assert deliverer.statistics().given_up == 2


def test_an_address_that_is_not_allowed_is_not_called(
    store: RecordStore, task: int, receiver: Any, deliver: Deliver
) -> None:
    """QW-06: also if somebody subscribed when it was."""
    deliverer = deliver(targets=TargetPolicy(loopback=False))
    save_task_result(store, None, task)
    assert emptied(store)
    assert deliverer.close(SOON)

    assert deliverer.statistics().refused == 2
    assert receiver.calls == []


def test_what_another_server_may_send_is_left_to_it(
    store: RecordStore, receiver: Any, deliver: Deliver
) -> None:
    """QW-06: its list of hosts may be another; that it is silent does not say that it is gone."""
    with Recorder(store, "srv/1") as recorder:
        recorder.open(NewTask(uid="c1", task_name="On"))
        assert recorder.flush(SOON)
        wish = {"uid": "c1", "webhookHref": receiver.url, "event": "status"}
        RecordCommands(store).subscribe(json.dumps(wish))
        recorder.finish("c1", Situation.DONE)
        assert recorder.flush(SOON)
    other = WebhookOutbox(store, owner="srv/2", silent_for=-60.0)
    with WebhookDeliverer(other, targets=TargetPolicy(loopback=False)) as deliverer:
        deadline = time.monotonic() + SOON
        while not deliverer.statistics().refused and time.monotonic() < deadline:
            time.sleep(0.005)
    assert deliverer.statistics().given_up == 0

    with WebhookDeliverer(WebhookOutbox(store, owner="srv/1")):
        assert emptied(store)
    assert [call.json["uid"] for call in receiver.calls] == ["c1"]


def test_one_hook_that_hangs_does_not_hold_up_others(
    store: RecordStore, task: int, receiver: Any, new_receiver: Callable[..., Any], deliver: Deliver
) -> None:
    """QW-02: requests are made at the same time, and each has a timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        other = start_task(store, "Scan")
        hook = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        RecordCommands(store).post_task(
            other, json.dumps({"command": "subscribe", "webhookHref": hook})
        )
        deliverer = deliver({"timeout": 0.3, "tries": 1, "retry_first": 100.0})
        save_task_result(store, None, other)
        save_task_result(store, None, task)
        receiver.wait_for(2)
        deadline = time.monotonic() + SOON
        while deliverer.statistics().failed < 1 and time.monotonic() < deadline:
            time.sleep(0.005)

    assert deliverer.statistics().failed == 1


def follow(store: RecordStore, hook: str) -> None:
    """End a task that a hook follows, so that one message waits for it."""
    number = start_task(store, "Scan")
    wish = {"command": "subscribe", "webhookHref": hook, "event": "status"}
    RecordCommands(store).post_task(number, json.dumps(wish))
    save_task_result(store, None, number)


def test_an_answer_that_never_ends_is_none(
    store: RecordStore, dripper: Any, deliver: Deliver
) -> None:
    """QW-02: a request has a deadline as a whole, however often a byte comes."""
    follow(store, dripper.url)
    deliverer = deliver({"timeout": 0.2, "tries": 1, "give_up_after": 0.0})
    assert emptied(store)
    assert deliverer.close(SOON)

    assert deliverer.statistics().given_up == 1


def test_a_silent_hook_with_many_messages_leaves_room_for_others(
    store: RecordStore, receiver: Any, deliver: Deliver
) -> None:
    """QW-02: once it has failed it is called with one message at a time."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        hook = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for _ in range(40):
            follow(store, hook)
        deliverer = deliver({"timeout": 0.5, "tries": 1, "at_once": 2})
        deadline = time.monotonic() + SOON
        while not deliverer.statistics().failed and time.monotonic() < deadline:
            time.sleep(0.005)
        follow(store, receiver.url)
        receiver.wait_for(1)


def test_a_hook_that_answers_again_gets_all_that_waits(
    store: RecordStore, receiver: Any, deliver: Deliver
) -> None:
    """QW-05: one message that it never takes does not keep it from the others."""
    follow(store, receiver.url)
    receiver.refuses = "/tasks/1/"
    for _ in range(10):
        follow(store, receiver.url)
    deliverer = deliver({"tries": 1, "at_once": 1})
    outbox, deadline = WebhookOutbox(store), time.monotonic() + SOON
    while outbox.waiting() > 1 and time.monotonic() < deadline:
        time.sleep(0.005)

    assert outbox.waiting() == 1
    assert deliverer.statistics().delivered == 10


def test_the_end_breaks_off_what_is_under_way(
    store: RecordStore, dripper: Any, deliver: Deliver
) -> None:
    """QW-05: what is not delivered stays in the outbox."""
    follow(store, dripper.url)
    deliverer = deliver({"timeout": 3600.0})
    deadline = time.monotonic() + SOON
    while not dripper.answering and time.monotonic() < deadline:
        time.sleep(0.005)

    assert deliverer.close(0.0)
    assert WebhookOutbox(store).waiting() == 1


def test_an_outbox_that_fails_is_tried_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The thread goes on, and does not spin."""

    class Broken:
        """An outbox that cannot be read."""

        def __init__(self) -> None:
            self.asked = threading.Semaphore(0)

        def take(self, limit: int, **_: Any) -> list[Any]:
            """Fail."""
            del limit
            self.asked.release()
            raise OSError("no disk")

    outbox = Broken()
    settings = DeliverySettings(look_every=0.01)
    with WebhookDeliverer(outbox, settings=settings) as deliverer:  # type: ignore[arg-type]
        for _ in range(3):
            assert outbox.asked.acquire(timeout=SOON)

    assert 3 <= deliverer.statistics().outbox_errors < 100
    assert "cannot be read" in caplog.text


# Targets and signatures


@pytest.mark.parametrize(
    "href",
    [
        "http://127.0.0.1/",
        "http://127.9.9.9:8000/x?y",
        "https://localhost:1/",
        "http://[::1]:8000/",
        "http://hooks.example.org/a",
        "http://other.example.org:8443/a",
    ],
)
def test_what_is_on_the_list_may_be_called(href: str) -> None:
    """QW-06: this machine, and hosts that are named."""
    TargetPolicy(["Hooks.example.org", "other.example.org:8443"]).check(href)


@pytest.mark.parametrize(
    "href",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "http://0.0.0.0/",
        "http://[::ffff:10.0.0.1]/",
        "http://2130706433/",
        "http://other.example.org/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://user:pass@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http:///x",
        "http://[bad/",
        "",
    ],
)
def test_what_is_not_on_the_list_must_not_be_called(href: str) -> None:
    """QW-06: also not in another spelling."""
    with pytest.raises(WebhookRefused, match="webhook: found"):
        TargetPolicy(["other.example.org:8443"]).check(href)


@given(st.binary(max_size=50), st.binary(min_size=1, max_size=10), st.text(max_size=80))
def test_only_the_right_signature_is_right(body: bytes, secret: bytes, noise: str) -> None:
    """QW-05: HMAC of time and body; nothing else verifies, and nothing raises."""
    header = sign(secret, body, 1000.0)

    assert verify(secret, body, header, 1000.0)
    assert not verify(secret, body + b"x", header, 1000.0)
    assert not verify(secret, body, header, 2000.0)
    assert not verify(secret, body, noise, 1000.0)
