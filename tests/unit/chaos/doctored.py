"""A small history and the world that agrees with it, to be spoiled by tests."""

from collections import Counter
from dataclasses import dataclass

from tests.chaos.history import Channel, Counters, Expected, History, Row, SinglePin, Submission, Told
from tests.chaos.world import Job, Pin, Result, World

FIRST, SECOND, DIRECT, FUTURE = "first-1", "key-2", "direct", "later"
JOB, OTHER_JOB = "job-1", "job-2"


@dataclass
class Doctored:
    history: History
    world: World


def agreeing() -> Doctored:
    """Two imports and two direct calls: created, existing, failed and scheduled rows, a key that all of them race for."""
    history = History(seed=1)
    rows = [Row(FIRST, Expected.PUBLISHED), Row(SECOND, Expected.PUBLISHED), Row("key-3", Expected.INVALID)]
    history.submissions.append(Submission(0, Channel.JSON, rows, Told.DONE, JOB))
    others = [Row("first-2", Expected.PUBLISHED), Row(SECOND, Expected.PUBLISHED), Row(FUTURE, Expected.PUBLISHED, scheduled=True)]
    history.submissions.append(Submission(0, Channel.TOPIC, others, Told.DONE))
    history.pins += [SinglePin(0, DIRECT, Told.DONE, "pin-d", made=True), SinglePin(0, SECOND, Told.DONE, "pin-2", made=False)]
    counters = Counters("completed_with_errors", 3, 3, 2, 0, 1)
    history.saw(JOB, Counters("processing", 3, 1, 0, 0, 1))
    history.saw(JOB, counters)
    world = World()
    results = [created(1, "pin-1", FIRST), created(2, "pin-2", SECOND), Result(3, "failed", None, "key-3", "validation_error")]
    put_job(world, JOB, counters, results)
    others_results = [created(1, "pin-o", "first-2"), Result(2, "existing", "pin-2", SECOND, None), created(3, "pin-l", FUTURE)]
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


def put_pin(world: World, key: str, pin: Pin) -> None:
    world.pins[0, key].append(pin)
    world.published[pin.pin_id] += 1
    world.scheduled[pin.pin_id] += pin.scheduled
