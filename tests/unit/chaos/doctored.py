"""A small history and the world that agrees with it, to be spoiled by tests."""

from collections import Counter
from dataclasses import dataclass

from tests.tools.chaos.history import (
    Absence,
    Channel,
    Counters,
    Expected,
    ForgottenRequest,
    History,
    Poll,
    Restore,
    Result,
    Row,
    SinglePin,
    Submission,
    Told,
)
from tests.tools.chaos.world import Announcement, Job, Pin, World

FIRST, SECOND, DIRECT, FUTURE = "first-1", "key-2", "direct", "later"
JOB, OTHER_JOB = "job-1", "job-2"
GONE, REMADE = "gone", "remade"
COPY, REUSED, REUSE, BESIDE = "job-2-copy", "job-3", "job-3-reuse", "job-4"
SNAPSHOT, REPLACED, RECOVERED = 100.0, 110.0, 150.0
ALL_OF_IT = Counters("completed_with_errors", 3, 3, 2, 0, 1)


@dataclass
class Doctored:
    history: History
    world: World


def agreeing() -> Doctored:
    """Two imports and two direct calls: created, existing, failed and scheduled rows, a key that
    all of them race for.
    """
    history = History(seed=1)
    rows = [
        Row(FIRST, Expected.PUBLISHED),
        Row(SECOND, Expected.PUBLISHED),
        Row("key-3", Expected.INVALID),
    ]
    history.submissions.append(Submission(0, Channel.JSON, rows, Told.DONE, JOB))
    others = [
        Row("first-2", Expected.PUBLISHED),
        Row(SECOND, Expected.PUBLISHED),
        Row(FUTURE, Expected.PUBLISHED, scheduled=True),
    ]
    history.submissions.append(Submission(0, Channel.TOPIC, others, Told.DONE))
    history.pins += [
        SinglePin(0, DIRECT, Told.DONE, "pin-d", made=True),
        SinglePin(0, SECOND, Told.DONE, "pin-2", made=False),
    ]
    counters = ALL_OF_IT
    history.saw(JOB, Counters("processing", 3, 1, 0, 0, 1))
    history.saw(JOB, counters)
    world = World()
    results = [
        created(1, "pin-1", FIRST),
        created(2, "pin-2", SECOND),
        Result(3, "failed", None, "key-3", "validation_error"),
    ]
    put_job(world, JOB, counters, results)
    others_results = [
        created(1, "pin-o", "first-2"),
        Result(2, "existing", "pin-2", SECOND, None),
        created(3, "pin-l", FUTURE),
    ]
    put_job(world, OTHER_JOB, Counters("completed", 3, 3, 2, 1, 0), others_results)
    put_pin(world, FIRST, Pin("pin-1", JOB, 1, "published", scheduled=False))
    put_pin(world, SECOND, Pin("pin-2", JOB, 2, "published", scheduled=False))
    put_pin(world, "first-2", Pin("pin-o", OTHER_JOB, 1, "published", scheduled=False))
    put_pin(world, FUTURE, Pin("pin-l", OTHER_JOB, 3, "published", scheduled=True))
    put_pin(world, DIRECT, Pin("pin-d", None, None, "published", scheduled=False))
    return Doctored(history, world)


def created(number: int, pin: str, key: str) -> Result:
    return Result(number, "created", pin, key, None)


def put_job(world: World, job_id: str, counters: Counters, results: list[Result]) -> None:
    """Into the API, the database and the announcements alike."""
    world.jobs[job_id] = Job(0, counters, completed=True, results=results)
    world.stored_jobs[job_id] = counters
    world.stored_results[job_id] = Counter(result.status for result in results)
    world.job_events[job_id] = [counters]
    world.announce(f"{job_id}:completed", Announcement(b"job"))


def put_pin(world: World, key: str, pin: Pin) -> None:
    world.pins[0, key].append(pin)
    world.published[pin.pin_id] += 1
    world.scheduled[pin.pin_id] += pin.scheduled
    world.announce(
        f"{pin.pin_id}:published", Announcement(b"pin", (0, key), (pin.job_id, pin.row_number))
    )


def agreeing_after_a_restore() -> Doctored:
    """The same, and all that a restore may lose is lost.

    Of two direct pins one is gone, and one was made again by a row; rows that became `existing` by
    them stay so. One request by topic became a second job. Of another one the body that came under
    the same request id was accepted. A job that had ended was seen with less, and not at all.
    """
    run = agreeing()
    history, world = run.history, run.world
    reused = Submission(
        0,
        Channel.TOPIC,
        [Row("first-3", Expected.PUBLISHED), Row("key-6", Expected.PUBLISHED)],
        Told.DONE,
    )
    reused.reused = Told.DONE
    beside = [
        Row("first-4", Expected.PUBLISHED),
        *(Row(key, Expected.PUBLISHED) for key in (GONE, REMADE, REMADE)),
    ]
    history.submissions += [reused, Submission(0, Channel.JSON, beside, Told.DONE, BESIDE)]
    history.pins += [lost_pin(GONE, "pin-g"), lost_pin(REMADE, "pin-r")]
    requests = {
        (0, "first-2"): ForgottenRequest(OTHER_JOB, ended=True),
        (0, "first-3"): ForgottenRequest(REUSED, ended=False),
    }
    restore = Restore(SNAPSHOT, REPLACED, {(0, GONE), (0, REMADE)}, requests)
    restore.recovered = RECOVERED
    history.restores.append(restore)
    copied = [
        existing(1, "pin-o", "first-2"),
        existing(2, "pin-2", SECOND),
        existing(3, "pin-l", FUTURE),
    ]
    put_job(world, COPY, Counters("completed", 3, 3, 0, 3, 0), copied)
    put_job(
        world,
        REUSED,
        Counters("completed", 2, 2, 2, 0, 0),
        [created(1, "pin-3", "first-3"), created(2, "pin-6", "key-6")],
    )
    put_job(world, REUSE, Counters("completed", 1, 1, 0, 1, 0), [existing(1, "pin-3", "first-3")])
    results = [
        created(1, "pin-4", "first-4"),
        existing(2, "pin-g", GONE),
        existing(3, "pin-r", REMADE),
        created(4, "pin-r", REMADE),
    ]
    put_job(world, BESIDE, Counters("completed", 4, 4, 2, 2, 0), results)
    put_pin(world, "first-3", Pin("pin-3", REUSED, 1, "published", scheduled=False))
    put_pin(world, "key-6", Pin("pin-6", REUSED, 2, "published", scheduled=False))
    put_pin(world, "first-4", Pin("pin-4", BESIDE, 1, "published", scheduled=False))
    put_pin(world, REMADE, Pin("pin-r", BESIDE, 4, "published", scheduled=False))
    for key, pin_id in ((GONE, "pin-g"), (REMADE, "pin-r")):
        world.announce(f"{pin_id}:published", Announcement(b"as it was", (0, key)))
    little = Counters("processing", 3, 1, 0, 0, 1)
    history.polls[JOB] = [
        Poll(little, asked=80, answered=81),
        Poll(ALL_OF_IT, asked=108, answered=95),
        Poll(little, asked=140, answered=120),
        Poll(ALL_OF_IT, asked=200, answered=141),
    ]
    history.absences.append(Absence(JOB, "404", asked=112, answered=113))
    history.saw_results(JOB, world.jobs[JOB].results)
    return run


def lost_pin(key: str, pin_id: str) -> SinglePin:
    """Returns a direct call that was answered between copy and restore."""
    return SinglePin(0, key, Told.DONE, pin_id, made=True, asked=104, answered=105)


def existing(number: int, pin: str, key: str) -> Result:
    return Result(number, "existing", pin, key, None)
