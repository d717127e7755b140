"""Does what stands agree with what clients were told? Pure: a history and a world in, violations out; doctored ones test it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from tests.chaos.history import Counters, Expected, History, Row, Submission, Told
from tests.chaos.world import Job, Key, Pin, Result, World

TERMINAL = {"completed", "completed_with_errors", "failed"}


class Effect(StrEnum):
    LOST = "lost"
    DOUBLED = "doubled"
    WRONG = "wrong"


class Violation(NamedTuple):
    """`rule` is an invariant of design.md, or the word that says what else was promised."""

    rule: str
    what: str
    effect: Effect = Effect.WRONG

    def __str__(self) -> str:
        return f"{self.effect}, {self.rule}: {self.what}"


Violations = Iterator[Violation]


class Evidence:
    """The history and the world, with what several checks look up."""

    def __init__(self, history: History, world: World) -> None:
        self.history = history
        self.world = world
        self.jobs_of = _jobs_by_marker(world)

    def jobs_of_submission(self, submission: Submission) -> list[str]:
        return self.jobs_of.get((submission.workspace, submission.marker), [])

    def standing(self) -> Iterator[tuple[Submission, str, Job]]:
        """Every submission that has become a job."""
        for submission in self.history.submissions:
            for job_id in self.jobs_of_submission(submission):
                yield submission, job_id, self.world.jobs[job_id]


def check(history: History, world: World) -> list[Violation]:
    evidence = Evidence(history, world)
    return [violation for rule in RULES for violation in rule(evidence)]


def accepted_means_durable(evidence: Evidence) -> Violations:
    """Told 202, or acknowledged on the topic: one job, whole. Told nothing: none. Not told: none or one, whole."""
    for submission in evidence.history.submissions:
        jobs = evidence.jobs_of_submission(submission)
        name = f"{submission.channel} import {submission.marker}, told {submission.told} ({submission.answer})"
        if len(jobs) > 1:
            yield Violation("invariant 1", f"{name}: stands as {jobs}", Effect.DOUBLED)
        elif jobs and submission.told is Told.NOTHING:
            yield Violation("invariant 1", f"{name}: stands as {jobs[0]}")
        elif not jobs and submission.told is Told.DONE:
            yield Violation("invariant 1", f"{name}: stands nowhere", Effect.LOST)
        elif jobs and submission.job_id and jobs != [submission.job_id]:
            yield Violation("invariant 1", f"{name}: named {submission.job_id}, stands as {jobs[0]}")
    for _, job_id, job in evidence.standing():
        if not job.completed or job.counters.status not in TERMINAL:
            yield Violation("invariant 2", f"job {job_id} never ends: {job.counters}", Effect.LOST)


def nothing_from_nowhere(evidence: Evidence) -> Violations:
    """No job without a submission: a part of an import, or another's."""
    known = {job_id for _, job_id, _ in evidence.standing()}
    for job_id in evidence.world.jobs.keys() - known:
        yield Violation("invariant 1", f"job {job_id} is no submission's: {evidence.world.jobs[job_id].counters}")
    for job_id in evidence.world.stored_jobs.keys() - evidence.world.jobs.keys():
        yield Violation("invariant 1", f"the database has a job that the API does not: {job_id}")


def each_row_settles_once(evidence: Evidence) -> Violations:
    for submission, job_id, job in evidence.standing():
        numbers = [result.row_number for result in job.results]
        if numbers != list(range(1, len(submission.rows) + 1)):
            yield Violation("invariant 2", f"job {job_id} of {len(submission.rows)} rows has results {_shortened(numbers)}", Effect.LOST)
            continue
        for row, result in zip(submission.rows, job.results, strict=True):
            yield from _settled_as_expected(job_id, row, result)


def _settled_as_expected(job_id: str, row: Row, result: Result) -> Violations:
    name = f"row {result.row_number} of job {job_id}"
    if result.key != row.key:
        yield Violation("invariant 7", f"{name} has the key {result.key}, sent was {row.key}")
    if row.expected is Expected.PUBLISHED:
        if result.status not in {"created", "existing"}:
            yield Violation("invariant 9", f"{name} failed ({result.error_code}): nothing is wrong with it")
    elif (result.status, result.error_code) != ("failed", row.expected.value):
        yield Violation("invariant 2", f"{name} is {result.status} ({result.error_code}), expected was {row.expected.value}")


def one_publication_a_key(evidence: Evidence) -> Violations:
    """One row in the store for whatever was created, and one that says so."""
    makers = _makers(evidence)
    for key, who in makers.items():
        if len(who) > 1:
            yield Violation("invariant 3", f"{key} was created {len(who)} times: {who}", Effect.DOUBLED)
    for key, pins in evidence.world.pins.items():
        if len(pins) > 1:
            yield Violation("invariant 3", f"{key} is published {len(pins)} times: {pins}", Effect.DOUBLED)
    for key in makers.keys() - evidence.world.pins.keys():
        yield Violation("invariant 3", f"{key} was created and is not in the store", Effect.LOST)


def _makers(evidence: Evidence) -> dict[Key, list[str]]:
    """Who says to have created what is published under a key."""
    makers: dict[Key, list[str]] = defaultdict(list)
    for submission, job_id, job in evidence.standing():
        for result in job.results:
            if result.status == "created":
                makers[submission.workspace, str(result.key)].append(f"{job_id}/{result.row_number}")
    for pin in evidence.history.pins:
        if pin.made:
            makers[pin.workspace, pin.key].append("a direct call")
    return makers


def outcomes_agree_with_the_store(evidence: Evidence) -> Violations:
    """`created` is said by the row that the store has as the pin's origin, by all others `existing`; both name the pin that is there."""
    for submission, job_id, job in evidence.standing():
        for result in job.results:
            if result.status == "failed":
                continue
            name = f"row {result.row_number} of job {job_id}"
            pin = next(iter(evidence.world.pins.get((submission.workspace, str(result.key)), ())), None)
            if pin is None:
                yield Violation("invariant 3", f"{name} is {result.status}, but its key {result.key} is not in the store", Effect.LOST)
            elif result.pin != pin.pin_id:
                yield Violation("invariant 4", f"{name} names the pin {result.pin}, the store {pin.pin_id}")
            elif (result.status == "created") != ((pin.job_id, pin.row_number) == (job_id, result.row_number)):
                yield Violation("invariant 4", f"{name} is {result.status}, the store has as origin {pin.job_id}/{pin.row_number}")
    for single in evidence.history.pins:
        if single.told is Told.DONE and single.pin_id not in {
            pin.pin_id for pin in evidence.world.pins.get((single.workspace, single.key), ())
        }:
            yield Violation("invariant 3", f"the pin {single.pin_id} was answered for {single.key} and is not in the store", Effect.LOST)


def nothing_published_from_nowhere(evidence: Evidence) -> Violations:
    """Each pin in the store has an origin that a client knows of."""
    made = {(job_id, result.row_number) for _, job_id, job in evidence.standing() for result in job.results if result.status == "created"}
    asked = {(pin.workspace, pin.key) for pin in evidence.history.pins if pin.told is not Told.NOTHING}
    for key, pins in evidence.world.pins.items():
        for pin in pins:
            if pin.job_id is None and key not in asked:
                yield Violation("invariant 3", f"{key} was made by a direct call that nobody made")
            elif pin.job_id is not None and (pin.job_id, pin.row_number) not in made:
                yield Violation("invariant 4", f"{key} has as origin {pin.job_id}/{pin.row_number}, which does not say so")


def counters_equal_results(evidence: Evidence) -> Violations:
    for job_id, job in evidence.world.jobs.items():
        counted = _count(job)
        if job.counters[1:] != counted:
            yield Violation("invariant 5", f"job {job_id} says {job.counters[1:]}, its results {counted}")
        if job.completed and job.counters.status != _status_of(job.counters):
            yield Violation("invariant 5", f"job {job_id} is {job.counters.status} with {job.counters}")
        stored = evidence.world.stored_results.get(job_id, Counter())
        in_database = tuple(stored.get(status, 0) for status in ("created", "existing", "failed"))
        if in_database != counted[2:] or evidence.world.stored_jobs.get(job_id) != job.counters:
            yield Violation("invariant 5", f"job {job_id} is {job.counters} in the API, {in_database} in the database")


def counters_only_grow(evidence: Evidence) -> Violations:
    for job_id, polls in evidence.history.polls.items():
        job = evidence.world.jobs.get(job_id)
        for earlier, later in pairwise([*polls, *([job.counters] if job else [])]):
            fell = any(after < before for before, after in zip(earlier[2:], later[2:], strict=True))
            if fell or later.total != earlier.total or (earlier.status in TERMINAL and later != earlier):
                yield Violation("invariant 5", f"job {job_id} went from {earlier} to {later}")
        for poll in polls:
            if poll.processed != poll.created + poll.existing + poll.failed or (poll.status in TERMINAL) != (poll.processed == poll.total):
                yield Violation("invariant 5", f"job {job_id} was seen as {poll}")


def rows_keep_their_order(evidence: Evidence) -> Violations:
    """Of equal keys in one job none but the first is `created`."""
    for submission, job_id, job in evidence.standing():
        first: dict[str, int] = {}
        for number, row in enumerate(submission.rows, 1):
            if row.expected is Expected.PUBLISHED:
                first.setdefault(row.key, number)
        for result in job.results:
            if result.status == "created" and first.get(str(result.key)) != result.row_number:
                yield Violation("invariant 7", f"job {job_id}: row {result.row_number} was created before row {first.get(str(result.key))}")


def everything_is_announced(evidence: Evidence) -> Violations:
    """At least once each; a job with the counters that it ended with."""
    world = evidence.world
    for key, pins in world.pins.items():
        for pin in pins:
            yield from _announced(key, pin, world)
    for job_id, job in world.jobs.items():
        announced = world.job_events.get(job_id, [])
        if not announced:
            yield Violation("announcements", f"the end of job {job_id} was never announced", Effect.LOST)
        elif any(event != job.counters for event in announced):
            yield Violation("announcements", f"job {job_id} was announced as {announced}, it is {job.counters}")
    known = {pin.pin_id for pins in world.pins.values() for pin in pins}
    for pin_id in (world.published.keys() | world.scheduled.keys()) - known:
        yield Violation("announcements", f"pin {pin_id} was announced and is not in the store")


def _announced(key: Key, pin: Pin, world: World) -> Violations:
    if pin.state != "published":
        yield Violation("invariant 2", f"{key} is {pin.state} long after it was due", Effect.LOST)
    elif not world.published[pin.pin_id]:
        yield Violation("announcements", f"{key}: the publication of pin {pin.pin_id} was never announced", Effect.LOST)
    if pin.scheduled and not world.scheduled[pin.pin_id]:
        yield Violation("announcements", f"{key}: the schedule of pin {pin.pin_id} was never announced", Effect.LOST)


def only_what_deserves_it_is_a_dead_letter(evidence: Evidence) -> Violations:
    letters = dict(evidence.world.dead_letters)
    reused = letters.pop("request_id_reused", 0)
    if reused < evidence.history.reused_requests:
        yield Violation("invariant 8", f"{evidence.history.reused_requests} request ids were reused, dead letters tell of {reused}")
    for code, count in letters.items():
        yield Violation("invariant 8", f"{count} dead letters with {code}: nothing of this run deserves it")


def no_surprises(evidence: Evidence) -> Violations:
    for surprise in evidence.history.surprises:
        yield Violation("answers", surprise)


RULES: tuple[Callable[[Evidence], Violations], ...] = (
    accepted_means_durable,
    nothing_from_nowhere,
    each_row_settles_once,
    one_publication_a_key,
    outcomes_agree_with_the_store,
    nothing_published_from_nowhere,
    counters_equal_results,
    counters_only_grow,
    rows_keep_their_order,
    everything_is_announced,
    only_what_deserves_it_is_a_dead_letter,
    no_surprises,
)


def _jobs_by_marker(world: World) -> dict[Key, list[str]]:
    """Jobs by the key of their first row: it names the submission."""
    found: dict[Key, list[str]] = defaultdict(list)
    for job_id, job in world.jobs.items():
        if job.results:
            found[job.workspace, str(job.results[0].key)].append(job_id)
    return found


def _count(job: Job) -> tuple[int, int, int, int, int]:
    each = [sum(result.status == status for result in job.results) for status in ("created", "existing", "failed")]
    return job.counters.total, sum(each), each[0], each[1], each[2]


def _status_of(counters: Counters) -> str:
    if not counters.failed:
        return "completed"
    return "failed" if counters.failed == counters.total else "completed_with_errors"


def _shortened(numbers: list[int]) -> str:
    return f"{numbers[:5]}…{numbers[-3:]} ({len(numbers)})" if len(numbers) > 10 else str(numbers)
