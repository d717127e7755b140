"""Builds a small history and a consistent final state. Tests corrupt them."""

from collections import Counter
from dataclasses import dataclass

from tests.tools.chaos.final_state import Announcement, FinalState, Job, Pin
from tests.tools.chaos.history import (
    Absence,
    Channel,
    Counters,
    Expected,
    ForgottenRequest,
    History,
    Poll,
    RequestOutcome,
    Restore,
    Result,
    Row,
    SinglePin,
    Submission,
)

FIRST_KEY, SECOND_KEY, DIRECT_KEY, FUTURE_KEY = "first-1", "key-2", "direct", "later"
JOB, OTHER_JOB = "job-1", "job-2"
LOST_KEY, RECREATED_KEY = "gone", "remade"
SECOND_JOB, REUSED_ID_JOB, SECOND_BODY_JOB, FOURTH_JOB = (
    "job-2-copy",
    "job-3",
    "job-3-reuse",
    "job-4",
)
COPIED_AT, REPLACED_AT, RECOVERED_AT = 100.0, 110.0, 150.0
COMPLETE = Counters("completed_with_errors", 3, 3, 2, 0, 1)


@dataclass
class Scenario:
    history: History
    final_state: FinalState


def consistent_run() -> Scenario:
    """Builds a run of two imports and two direct calls.

    It has created, existing, failed and scheduled rows, and one key that both imports and a call
    use.
    """
    history = History(seed=1)
    rows = [
        Row(FIRST_KEY, Expected.PUBLISHED),
        Row(SECOND_KEY, Expected.PUBLISHED),
        Row("key-3", Expected.INVALID),
    ]
    history.submissions.append(Submission(0, Channel.JSON, rows, RequestOutcome.ACCEPTED, JOB))
    others = [
        Row("first-2", Expected.PUBLISHED),
        Row(SECOND_KEY, Expected.PUBLISHED),
        Row(FUTURE_KEY, Expected.PUBLISHED, scheduled=True),
    ]
    history.submissions.append(Submission(0, Channel.TOPIC, others, RequestOutcome.ACCEPTED))
    history.pins += [
        SinglePin(0, DIRECT_KEY, RequestOutcome.ACCEPTED, "pin-d", was_created=True),
        SinglePin(0, SECOND_KEY, RequestOutcome.ACCEPTED, "pin-2", was_created=False),
    ]
    counters = COMPLETE
    history.record_poll(JOB, Counters("processing", 3, 1, 0, 0, 1))
    history.record_poll(JOB, counters)
    final_state = FinalState()
    results = [
        created(1, "pin-1", FIRST_KEY),
        created(2, "pin-2", SECOND_KEY),
        Result(3, "failed", None, "key-3", "validation_error"),
    ]
    put_job(final_state, JOB, counters, results)
    others_results = [
        created(1, "pin-o", "first-2"),
        Result(2, "existing", "pin-2", SECOND_KEY, None),
        created(3, "pin-l", FUTURE_KEY),
    ]
    put_job(final_state, OTHER_JOB, Counters("completed", 3, 3, 2, 1, 0), others_results)
    put_pin(final_state, FIRST_KEY, Pin("pin-1", JOB, 1, "published", scheduled=False))
    put_pin(final_state, SECOND_KEY, Pin("pin-2", JOB, 2, "published", scheduled=False))
    put_pin(final_state, "first-2", Pin("pin-o", OTHER_JOB, 1, "published", scheduled=False))
    put_pin(final_state, FUTURE_KEY, Pin("pin-l", OTHER_JOB, 3, "published", scheduled=True))
    put_pin(final_state, DIRECT_KEY, Pin("pin-d", None, None, "published", scheduled=False))
    return Scenario(history, final_state)


def created(number: int, pin: str, key: str) -> Result:
    return Result(number, "created", pin, key, None)


def put_job(
    final_state: FinalState, job_id: str, counters: Counters, results: list[Result]
) -> None:
    """Adds a job to the API, the database and the announcements."""
    final_state.jobs[job_id] = Job(0, counters, completed=True, results=results)
    final_state.stored_jobs[job_id] = counters
    final_state.stored_results[job_id] = Counter(result.status for result in results)
    final_state.job_events[job_id] = [counters]
    final_state.announce(f"{job_id}:completed", Announcement(b"job"))


def put_pin(final_state: FinalState, key: str, pin: Pin) -> None:
    final_state.pins[0, key].append(pin)
    final_state.published[pin.pin_id] += 1
    final_state.scheduled[pin.pin_id] += pin.scheduled
    final_state.announce(
        f"{pin.pin_id}:published", Announcement(b"pin", (0, key), (pin.job_id, pin.row_number))
    )


def consistent_run_after_a_restore() -> Scenario:
    """Builds the same run with a restore that lost everything that it may lose.

    One direct pin is lost, and another was created again by a row. Rows that were `existing`
    because of these pins keep this result. One request on the topic became a second job. For
    another request, a second body with the same request id was accepted. Polls of a completed job
    got lower counters and a 404.
    """
    run = consistent_run()
    history, final_state = run.history, run.final_state
    reused = Submission(
        0,
        Channel.TOPIC,
        [Row("first-3", Expected.PUBLISHED), Row("key-6", Expected.PUBLISHED)],
        RequestOutcome.ACCEPTED,
    )
    reused.reused = RequestOutcome.ACCEPTED
    fourth_rows = [
        Row("first-4", Expected.PUBLISHED),
        *(Row(key, Expected.PUBLISHED) for key in (LOST_KEY, RECREATED_KEY, RECREATED_KEY)),
    ]
    history.submissions += [
        reused,
        Submission(0, Channel.JSON, fourth_rows, RequestOutcome.ACCEPTED, FOURTH_JOB),
    ]
    history.pins += [lost_pin(LOST_KEY, "pin-g"), lost_pin(RECREATED_KEY, "pin-r")]
    requests = {
        (0, "first-2"): ForgottenRequest(OTHER_JOB, ended=True),
        (0, "first-3"): ForgottenRequest(REUSED_ID_JOB, ended=False),
    }
    restore = Restore(COPIED_AT, REPLACED_AT, {(0, LOST_KEY), (0, RECREATED_KEY)}, requests)
    restore.recovered_at = RECOVERED_AT
    history.restores.append(restore)
    second_job_results = [
        existing(1, "pin-o", "first-2"),
        existing(2, "pin-2", SECOND_KEY),
        existing(3, "pin-l", FUTURE_KEY),
    ]
    put_job(final_state, SECOND_JOB, Counters("completed", 3, 3, 0, 3, 0), second_job_results)
    put_job(
        final_state,
        REUSED_ID_JOB,
        Counters("completed", 2, 2, 2, 0, 0),
        [created(1, "pin-3", "first-3"), created(2, "pin-6", "key-6")],
    )
    put_job(
        final_state,
        SECOND_BODY_JOB,
        Counters("completed", 1, 1, 0, 1, 0),
        [existing(1, "pin-3", "first-3")],
    )
    results = [
        created(1, "pin-4", "first-4"),
        existing(2, "pin-g", LOST_KEY),
        existing(3, "pin-r", RECREATED_KEY),
        created(4, "pin-r", RECREATED_KEY),
    ]
    put_job(final_state, FOURTH_JOB, Counters("completed", 4, 4, 2, 2, 0), results)
    put_pin(final_state, "first-3", Pin("pin-3", REUSED_ID_JOB, 1, "published", scheduled=False))
    put_pin(final_state, "key-6", Pin("pin-6", REUSED_ID_JOB, 2, "published", scheduled=False))
    put_pin(final_state, "first-4", Pin("pin-4", FOURTH_JOB, 1, "published", scheduled=False))
    put_pin(final_state, RECREATED_KEY, Pin("pin-r", FOURTH_JOB, 4, "published", scheduled=False))
    for key, pin_id in ((LOST_KEY, "pin-g"), (RECREATED_KEY, "pin-r")):
        final_state.announce(f"{pin_id}:published", Announcement(b"as it was", (0, key)))
    earlier = Counters("processing", 3, 1, 0, 0, 1)
    history.polls[JOB] = [
        Poll(earlier, sent_at=80, answered_at=81),
        Poll(COMPLETE, sent_at=108, answered_at=95),
        Poll(earlier, sent_at=140, answered_at=120),
        Poll(COMPLETE, sent_at=200, answered_at=141),
    ]
    history.absences.append(Absence(JOB, "404", sent_at=112, answered_at=113))
    history.record_results(JOB, final_state.jobs[JOB].results)
    return run


def lost_pin(key: str, pin_id: str) -> SinglePin:
    """Builds a direct call that was answered between the copy and the restore."""
    return SinglePin(
        0, key, RequestOutcome.ACCEPTED, pin_id, was_created=True, sent_at=104, answered_at=105
    )


def existing(number: int, pin: str, key: str) -> Result:
    return Result(number, "existing", pin, key, None)
