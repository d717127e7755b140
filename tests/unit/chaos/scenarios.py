"""A small history and the world that agrees with it, to be spoiled by tests."""

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

FIRST, SECOND, DIRECT, FUTURE = "first-1", "key-2", "direct", "later"
JOB, OTHER_JOB = "job-1", "job-2"
GONE, REMADE = "gone", "remade"
COPY, REUSED, REUSE, BESIDE = "job-2-copy", "job-3", "job-3-reuse", "job-4"
SNAPSHOT, REPLACED, RECOVERED = 100.0, 110.0, 150.0
COMPLETE = Counters("completed_with_errors", 3, 3, 2, 0, 1)


@dataclass
class Scenario:
    history: History
    final_state: FinalState


def consistent_run() -> Scenario:
    """Two imports and two direct calls: created, existing, failed and scheduled rows, a key that
    all of them race for.
    """
    history = History(seed=1)
    rows = [
        Row(FIRST, Expected.PUBLISHED),
        Row(SECOND, Expected.PUBLISHED),
        Row("key-3", Expected.INVALID),
    ]
    history.submissions.append(Submission(0, Channel.JSON, rows, RequestOutcome.ACCEPTED, JOB))
    others = [
        Row("first-2", Expected.PUBLISHED),
        Row(SECOND, Expected.PUBLISHED),
        Row(FUTURE, Expected.PUBLISHED, scheduled=True),
    ]
    history.submissions.append(Submission(0, Channel.TOPIC, others, RequestOutcome.ACCEPTED))
    history.pins += [
        SinglePin(0, DIRECT, RequestOutcome.ACCEPTED, "pin-d", was_created=True),
        SinglePin(0, SECOND, RequestOutcome.ACCEPTED, "pin-2", was_created=False),
    ]
    counters = COMPLETE
    history.record_poll(JOB, Counters("processing", 3, 1, 0, 0, 1))
    history.record_poll(JOB, counters)
    final_state = FinalState()
    results = [
        created(1, "pin-1", FIRST),
        created(2, "pin-2", SECOND),
        Result(3, "failed", None, "key-3", "validation_error"),
    ]
    put_job(final_state, JOB, counters, results)
    others_results = [
        created(1, "pin-o", "first-2"),
        Result(2, "existing", "pin-2", SECOND, None),
        created(3, "pin-l", FUTURE),
    ]
    put_job(final_state, OTHER_JOB, Counters("completed", 3, 3, 2, 1, 0), others_results)
    put_pin(final_state, FIRST, Pin("pin-1", JOB, 1, "published", scheduled=False))
    put_pin(final_state, SECOND, Pin("pin-2", JOB, 2, "published", scheduled=False))
    put_pin(final_state, "first-2", Pin("pin-o", OTHER_JOB, 1, "published", scheduled=False))
    put_pin(final_state, FUTURE, Pin("pin-l", OTHER_JOB, 3, "published", scheduled=True))
    put_pin(final_state, DIRECT, Pin("pin-d", None, None, "published", scheduled=False))
    return Scenario(history, final_state)


def created(number: int, pin: str, key: str) -> Result:
    return Result(number, "created", pin, key, None)


def put_job(
    final_state: FinalState, job_id: str, counters: Counters, results: list[Result]
) -> None:
    """Into the API, the database and the announcements alike."""
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
    """The same, and all that a restore may lose is lost.

    Of two direct pins one is gone, and one was made again by a row; rows that became `existing` by
    them stay so. One request by topic became a second job. Of another one the body that came under
    the same request id was accepted. A job that had ended was seen with less, and not at all.
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
    beside = [
        Row("first-4", Expected.PUBLISHED),
        *(Row(key, Expected.PUBLISHED) for key in (GONE, REMADE, REMADE)),
    ]
    history.submissions += [
        reused,
        Submission(0, Channel.JSON, beside, RequestOutcome.ACCEPTED, BESIDE),
    ]
    history.pins += [lost_pin(GONE, "pin-g"), lost_pin(REMADE, "pin-r")]
    requests = {
        (0, "first-2"): ForgottenRequest(OTHER_JOB, ended=True),
        (0, "first-3"): ForgottenRequest(REUSED, ended=False),
    }
    restore = Restore(SNAPSHOT, REPLACED, {(0, GONE), (0, REMADE)}, requests)
    restore.recovered_at = RECOVERED
    history.restores.append(restore)
    copied = [
        existing(1, "pin-o", "first-2"),
        existing(2, "pin-2", SECOND),
        existing(3, "pin-l", FUTURE),
    ]
    put_job(final_state, COPY, Counters("completed", 3, 3, 0, 3, 0), copied)
    put_job(
        final_state,
        REUSED,
        Counters("completed", 2, 2, 2, 0, 0),
        [created(1, "pin-3", "first-3"), created(2, "pin-6", "key-6")],
    )
    put_job(
        final_state, REUSE, Counters("completed", 1, 1, 0, 1, 0), [existing(1, "pin-3", "first-3")]
    )
    results = [
        created(1, "pin-4", "first-4"),
        existing(2, "pin-g", GONE),
        existing(3, "pin-r", REMADE),
        created(4, "pin-r", REMADE),
    ]
    put_job(final_state, BESIDE, Counters("completed", 4, 4, 2, 2, 0), results)
    put_pin(final_state, "first-3", Pin("pin-3", REUSED, 1, "published", scheduled=False))
    put_pin(final_state, "key-6", Pin("pin-6", REUSED, 2, "published", scheduled=False))
    put_pin(final_state, "first-4", Pin("pin-4", BESIDE, 1, "published", scheduled=False))
    put_pin(final_state, REMADE, Pin("pin-r", BESIDE, 4, "published", scheduled=False))
    for key, pin_id in ((GONE, "pin-g"), (REMADE, "pin-r")):
        final_state.announce(f"{pin_id}:published", Announcement(b"as it was", (0, key)))
    little = Counters("processing", 3, 1, 0, 0, 1)
    history.polls[JOB] = [
        Poll(little, sent_at=80, answered_at=81),
        Poll(COMPLETE, sent_at=108, answered_at=95),
        Poll(little, sent_at=140, answered_at=120),
        Poll(COMPLETE, sent_at=200, answered_at=141),
    ]
    history.absences.append(Absence(JOB, "404", sent_at=112, answered_at=113))
    history.record_results(JOB, final_state.jobs[JOB].results)
    return run


def lost_pin(key: str, pin_id: str) -> SinglePin:
    """Returns a direct call that was answered between copy and restore."""
    return SinglePin(
        0, key, RequestOutcome.ACCEPTED, pin_id, was_created=True, sent_at=104, answered_at=105
    )


def existing(number: int, pin: str, key: str) -> Result:
    return Result(number, "existing", pin, key, None)
