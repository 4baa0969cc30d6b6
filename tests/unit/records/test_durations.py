"""How long commands took before, as the records have it."""

from typing import Any

from milonga.records import NewTask, Recorder, RecordStore, Situation, recent_durations


def test_the_last_runs_that_went_well_say_how_long_a_command_and_its_steps_took(
    timed: RecordStore, clock: Any
) -> None:
    """Of each command a few, the oldest first; what failed or runs says nothing."""
    with Recorder(timed, "srv/1") as recorder:

        def ran(uid: str, seconds: float, end: Situation, **more: Any) -> None:
            command = uid.partition("_")[2]
            fields = {"device": "lab/a/1", "command": command} | more
            recorder.open(NewTask(uid=uid, task_name=command, **fields))
            leaf = f"{uid}/children/lab/x/1"
            recorder.open(NewTask(uid=leaf, task_name="lab/x/1", parent_uid=uid, device="lab/x/1"))
            for each in (uid, leaf):
                recorder.change(each, situation=Situation.RUNNING)
            assert recorder.flush(10.0)
            clock.advance(seconds)
            recorder.finish(leaf, Situation.DONE)
            recorder.finish(uid, end)
            assert recorder.flush(10.0)

        for number in range(8):
            ran(f"{number}_On", 10.0 + number, Situation.DONE)
        ran("20_On", 99.0, Situation.FAILED)
        ran("21_On", 99.0, Situation.DONE, device="lab/b/1")
        ran("22_Off", 3.0, Situation.DONE)

        found = recent_durations(timed, "lab/a/1")

    assert [seconds for name, way, seconds in found if (name, way) == ("On", "")] == [
        *(13.0, 14.0, 15.0, 16.0, 17.0)
    ]
    assert ("On", "children/lab/x/1", 17.0) in found
    assert [each for each in found if each[0] == "Off" and not each[1]] == [("Off", "", 3.0)]
    assert 99.0 not in {seconds for _, _, seconds in found}


def test_a_device_without_records_has_no_history(store: RecordStore) -> None:
    """An empty store is not an error."""
    assert recent_durations(store, "lab/a/1") == []
