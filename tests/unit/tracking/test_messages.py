"""What a person reads at the end."""

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.tracking import PolicyRules, SubtaskResult, TaskAggregationPolicy, TaskTracker
from milonga.tracking._messages import MAX_CAUSE_BYTES, clip, printable

DONE = TaskStatus.COMPLETED


def failure(name, message, device=None, status=DONE, code=ResultCode.FAILED, **more):
    """Make a subtask that failed."""
    return SubtaskResult(name, status, code, message, device, **more)


def message_of(*subtasks, name="Configure", is_root=True, **rules):
    """Return the message of a task with these subtasks."""
    policy = TaskAggregationPolicy(name, is_root=is_root, rules=PolicyRules(**rules))
    return policy.aggregate(list(subtasks)).message


FINE = SubtaskResult("fine", DONE, ResultCode.OK, "all good")


def test_a_roots_message_has_a_header_and_causes():
    """MS-01: one line, then `Causes:`, then one bullet each."""
    assert message_of(FINE, failure("a", "no beam", "x"), failure("b", "", "y")).split("\n") == [
        "Task Configure completed in DEGRADED state",
        "Causes:",
        "- x: no beam",
        "- y: failed without message (ResultCode FAILED)",
    ]


@pytest.mark.parametrize(
    ("subtask", "verb"),
    [
        (FINE, "completed"),
        (failure("a", "x"), "failed"),
        (failure("a", "x", status=TaskStatus.FAILED), "failed"),
        (failure("a", "x", status=TaskStatus.REJECTED), "rejected"),
        (failure("a", "x", status=TaskStatus.ABORTED), "aborted"),
    ],
)
def test_the_header_says_what_became_of_the_task(subtask, verb):
    """MS-02: and only a root has one."""
    assert message_of(subtask).split("\n")[0] == f"Task Configure {verb}"
    assert message_of(subtask, is_root=False) == ("completed" if subtask is FINE else "x")


def test_a_group_says_how_many_succeeded():
    """MS-02, AG-09: in the header of a root, as a first line elsewhere."""
    group = (FINE, failure("b", "bad", "pst/1"), failure("c", "bad", "pst/2"))

    assert message_of(*group, name="configure_pst").startswith(
        "Task configure_pst completed in DEGRADED state: PST success 1/3\nCauses:\n- pst/1: bad"
    )
    assert message_of(*group, name="configure_pst", is_root=False) == (
        "PST success 1/3\npst/1: bad\npst/2: bad"
    )


def test_causes_are_flattened_and_said_once():
    """MS-03, A-14: three levels of roots repeat neither headers nor causes."""
    leaf = message_of(failure("a", "no beam", "leaf/1"), failure("b", "no beam", "leaf/1"))
    middle = message_of(
        failure("l1", leaf, devices=("leaf/1",)), failure("l2", leaf, devices=("leaf/1",))
    )
    top = message_of(failure("m", middle, failed_devices=("leaf/1",)), FINE)

    assert top.split("\n")[1:] == ["Causes:", "- leaf/1: no beam"]
    assert top.count("Task") == 1


def test_a_device_below_another_is_named_by_its_way():
    """MS-03, SR-06: over the wire a child is named once before each of its causes."""
    below = "Task On failed\nCauses:\n- leaf/1: no power\n- leaf/2: no power"

    text = message_of(failure("a", below, "sub/1"))

    assert text.split("\n")[2:] == ["- sub/1: leaf/1: no power", "- sub/1: leaf/2: no power"]


def test_a_header_without_causes_is_a_cause():
    """MS-03: better than nothing."""
    assert message_of(failure("a", "Task On failed", "x"), is_root=False) == "x: Task On failed"


def test_causes_are_in_order_of_registration():
    """AG-17, MS-03."""
    tracker = TaskTracker("t", 3)
    for name in ("c", "a", "b"):
        tracker.update_task(task_name=name, status="IN_PROGRESS")
    for name in ("b", "a", "c"):
        tracker.update_task(task_name=name, status=DONE, result=(3, f"{name} bad"))

    assert tracker.overall_resultcode[1] == "c bad\na bad\nb bad"


@pytest.mark.parametrize("is_root", [True, False])
def test_a_message_has_at_most_64_causes(is_root):
    """MS-04: of ten thousand, and it says how many are left."""
    text = message_of(*(failure(f"{n}", f"bad {n}") for n in range(10_000)), is_root=is_root)
    lines = text.split("\n")

    assert sum("bad" in line for line in lines) == 64
    assert lines[-1] == "... and 9936 more"


@pytest.mark.parametrize("is_root", [True, False])
@pytest.mark.parametrize("text", ["é" * 3000, "x" * 700, "déjà vu " * 30])
def test_a_message_has_at_most_8_kib(is_root, text):
    """MS-04: and is never cut inside a character."""
    message = message_of(*(failure(f"{n}", f"{n} {text}") for n in range(500)), is_root=is_root)
    shown = message.split("\n")

    assert len(message.encode()) <= 8192
    assert max(len(line.encode()) for line in shown) <= MAX_CAUSE_BYTES
    missing = int(shown[-1].split()[2])
    assert missing + sum(line[:3].strip("- ")[:1].isdigit() for line in shown[:-1]) == 500


def test_what_was_left_out_below_is_counted_above():
    """MS-04: ten shown of a hundred here, and forty left out there."""
    below = "bad\n... and 40 more"

    text = message_of(failure("a", below), max_causes=1, is_root=False)

    assert text == "bad\n... and 40 more"


def test_a_smaller_limit_can_be_set():
    """MS-04: the limits are rules."""
    text = message_of(
        *(failure(f"{n}", "y" * 90 + str(n)) for n in range(9)), max_message_bytes=256
    )

    assert len(text.encode()) <= 256
    assert text.split("\n")[-1].endswith("more")


@pytest.mark.parametrize(
    ("status", "code", "shown"),
    [
        (DONE, ResultCode.FAILED, "FAILED"),
        (TaskStatus.REJECTED, ResultCode.NOT_ALLOWED, "NOT_ALLOWED"),
        (TaskStatus.ABORTED, None, "ABORTED"),
        (TaskStatus.FAILED, ResultCode.OK, "FAILED"),
        (TaskStatus.REJECTED, None, "REJECTED"),
    ],
)
def test_a_failure_without_text_names_the_device_and_the_code(status, code, shown):
    """MS-05."""
    one = failure("a", "", "dev", status, code)

    assert message_of(one, is_root=False) == f"dev: failed without message (ResultCode {shown})"


def test_a_failure_without_text_and_device_names_the_subtask():
    """MS-05."""
    assert message_of(failure("a", ""), is_root=False).startswith("a: failed without message")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nul\x00", "nul\\x00"),
        ("bell\x07 tab\t", "bell\\x07 tab\\x09"),
        ("c1\x85", "c1\\x85"),
        ("déjà vu", "déjà vu"),
        ("fire \U0001f525", "fire \\U0001f525"),
        ("\ud800", "\\ud800"),
        ("one\r\ntwo", "one\ntwo"),
    ],
)
def test_messages_are_latin_1_without_control_characters(text, shown):
    """MS-06: what Tango can carry; line feeds separate causes."""
    tracker = TaskTracker("t", 1)
    tracker.update_task(task_name="a", status=DONE, result=(3, f"<{text}>"))

    assert tracker.overall_resultcode[1] == f"<{shown}>"
    assert tracker.overall_resultcode[1].encode("latin-1")
    assert printable(printable(text)) == printable(text)


def test_the_name_of_a_task_is_escaped_too():
    """MS-06."""
    assert message_of(FINE, name="Śc\x00an") == "Task \\u015ac\\x00an completed"


def test_a_cut_text_ends_between_characters():
    """MS-04."""
    for limit in range(12):
        assert len(clip("aéîöü€", limit).encode()) <= limit
    assert clip("aéîöü€", 9) == "aéî..."
