"""Does what stands agree with what clients were told?

Pure: a history and a world in, violations out; doctored ones test it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import combinations, pairwise
from typing import NamedTuple

from tests.tools.chaos.final_state import Announcement, FinalState, Job, Pin
from tests.tools.chaos.history import (
    Counters,
    Expected,
    History,
    Key,
    Poll,
    RequestOutcome,
    Result,
    Row,
    SinglePin,
    Submission,
)

TERMINAL = {"completed", "completed_with_errors", "failed"}


class Effect(StrEnum):
    LOST = "lost"
    DOUBLED = "doubled"
    WRONG = "wrong"


class Violation(NamedTuple):
    """`rule` is an invariant of docs/explanation/architecture.md, or names another promise."""

    rule: str
    what: str
    effect: Effect = Effect.WRONG

    def __str__(self) -> str:
        return f"{self.effect}, {self.rule}: {self.what}"


Violations = Iterator[Violation]


class Evidence:
    """The history and the final state, with what several checks look up."""

    def __init__(self, history: History, final_state: FinalState) -> None:
        self.history = history
        self.final_state = final_state
        self.jobs_by_marker = _group_jobs_by_marker(final_state)
        self.forgotten_pins = {
            key for restore in history.restores for key in restore.forgotten_pins
        }
        """Keys of which a restore has lost a direct pin: what depended on it stands without it."""
        self.times_forgotten = Counter(
            key for restore in history.restores for key in restore.forgotten_requests
        )
        """By request id."""

    def find_jobs(self, submission: Submission) -> list[str]:
        return self.jobs_by_marker.get((submission.workspace, submission.marker), [])

    def submitted_jobs(self) -> Iterator[tuple[Submission, str, Job]]:
        """Every submission that has become a job."""
        for submission in self.history.submissions:
            for job_id in self.find_jobs(submission):
                yield submission, job_id, self.final_state.jobs[job_id]

    def find_rows(self, submission: Submission, job: Job) -> list[Row]:
        """Returns the rows of which the job was made: those of the other body, or all."""
        return submission.rows[:1] if self.is_reuse(submission, job) else submission.rows

    def is_reuse(self, submission: Submission, job: Job) -> bool:
        """Tells whether the job is plainly that of the other body under the submission's request
        id.
        """
        return (
            submission.reused is not None and job.counters.total == 1 and len(submission.rows) > 1
        )

    def may_be_lost(self, pin: SinglePin) -> bool:
        """Tells whether a restore may have lost what the direct call has made."""
        return any(restore.may_have_lost(pin) for restore in self.history.restores)


def check(history: History, final_state: FinalState) -> list[Violation]:
    evidence = Evidence(history, final_state)
    return [violation for rule in RULES for violation in rule(evidence)]


def accepted_means_durable(evidence: Evidence) -> Violations:
    """An accepted import is one complete job. A refused import is none. If the outcome is
    unknown, it is none or one complete job.

    Each time that a restore forgets a request id there may be one job more.
    """
    for submission in evidence.history.submissions:
        jobs = evidence.find_jobs(submission)
        allowed = 1 + evidence.times_forgotten[submission.workspace, submission.marker]
        reuses = sum(
            evidence.is_reuse(submission, evidence.final_state.jobs[job_id]) for job_id in jobs
        )
        name = (
            f"{submission.channel} import {submission.marker}, told {submission.outcome} "
            f"({submission.answer})"
        )
        if len(jobs) > allowed or reuses > allowed - 1:
            yield Violation("invariant 1", f"{name}: stands as {jobs}", Effect.DOUBLED)
        elif jobs and submission.outcome is RequestOutcome.REFUSED:
            yield Violation("invariant 1", f"{name}: stands as {jobs[0]}")
        elif len(jobs) == reuses and submission.outcome is RequestOutcome.ACCEPTED:
            yield Violation("invariant 1", f"{name}: stands nowhere", Effect.LOST)
        elif jobs and submission.job_id and jobs != [submission.job_id]:
            yield Violation(
                "invariant 1", f"{name}: named {submission.job_id}, stands as {jobs[0]}"
            )
    for _, job_id, job in evidence.submitted_jobs():
        if not job.completed or job.counters.status not in TERMINAL:
            yield Violation("invariant 2", f"job {job_id} never ends: {job.counters}", Effect.LOST)


def a_forgotten_request_is_not_published_twice(evidence: Evidence) -> Violations:
    """A request that had become a job with all its results may become another one, whose good rows
    are all `existing`. Only the keys of forgotten direct pins may be created.
    """
    submissions = {(one.workspace, one.marker): one for one in evidence.history.submissions}
    earlier: dict[Key, set[str]] = defaultdict(set)
    for restore in evidence.history.restores:
        for key, (first, has_ended) in restore.forgotten_requests.items():
            earlier[key].add(first)
            if not has_ended or (submission := submissions.get(key)) is None:
                continue
            if first not in evidence.final_state.jobs:
                yield Violation(
                    "invariant 1",
                    f"job {first} had ended before a restore, and is gone",
                    Effect.LOST,
                )
            for job_id in set(evidence.find_jobs(submission)) - earlier[key]:
                for result in evidence.final_state.jobs[job_id].results:
                    if (
                        result.status == "created"
                        and (submission.workspace, str(result.key)) not in evidence.forgotten_pins
                    ):
                        what = (
                            f"row {result.row_number} of job {job_id} was created, job {first} is "
                            "the same import"
                        )
                        yield Violation("invariant 3", what, Effect.DOUBLED)


def every_job_has_a_submission(evidence: Evidence) -> Violations:
    """No job without a submission: a part of an import, or another's."""
    known = {job_id for _, job_id, _ in evidence.submitted_jobs()}
    for job_id in evidence.final_state.jobs.keys() - known:
        yield Violation(
            "invariant 1",
            f"job {job_id} is no submission's: {evidence.final_state.jobs[job_id].counters}",
        )
    for job_id in evidence.final_state.stored_jobs.keys() - evidence.final_state.jobs.keys():
        yield Violation("invariant 1", f"the database has a job that the API does not: {job_id}")


def each_row_settles_once(evidence: Evidence) -> Violations:
    for submission, job_id, job in evidence.submitted_jobs():
        rows, numbers = (
            evidence.find_rows(submission, job),
            [result.row_number for result in job.results],
        )
        if numbers != list(range(1, len(rows) + 1)):
            yield Violation(
                "invariant 2",
                f"job {job_id} of {len(rows)} rows has results {_shortened(numbers)}",
                Effect.LOST,
            )
            continue
        for row, result in zip(rows, job.results, strict=True):
            yield from _settled_as_expected(job_id, row, result)


def _settled_as_expected(job_id: str, row: Row, result: Result) -> Violations:
    name = f"row {result.row_number} of job {job_id}"
    if result.key != row.key:
        yield Violation("invariant 7", f"{name} has the key {result.key}, sent was {row.key}")
    if row.expected is Expected.PUBLISHED:
        if result.status not in {"created", "existing"}:
            yield Violation(
                "invariant 9", f"{name} failed ({result.error_code}): nothing is wrong with it"
            )
    elif (result.status, result.error_code) != ("failed", row.expected.value):
        yield Violation(
            "invariant 2",
            f"{name} is {result.status} ({result.error_code}), expected was {row.expected.value}",
        )


def each_key_is_published_once(evidence: Evidence) -> Violations:
    """One row in the store for whatever was created, and one that says so. Besides it only direct
    calls whose pins a restore has lost.
    """
    rows, calls = _creating_rows(evidence), _creating_calls(evidence)
    for key in rows.keys() | calls.keys():
        lasting = [call for call in calls[key] if not evidence.may_be_lost(call)]
        makers = [*rows[key], *("a direct call" for _ in lasting)]
        if len(makers) > 1:
            yield Violation(
                "invariant 3", f"{key} was created {len(makers)} times: {makers}", Effect.DOUBLED
            )
        for earlier, later in pairwise(calls[key]):
            if not any(
                one.may_have_lost(earlier) and one.replaced < later.answered_at
                for one in evidence.history.restores
            ):
                yield Violation(
                    "invariant 3",
                    f"{key} was created by two direct calls, and no restore lay between",
                    Effect.DOUBLED,
                )
        if makers and key not in evidence.final_state.pins:
            yield Violation(
                "invariant 3", f"{key} was created and is not in the store", Effect.LOST
            )
    for key, pins in evidence.final_state.pins.items():
        if len(pins) > 1:
            yield Violation(
                "invariant 3", f"{key} is published {len(pins)} times: {pins}", Effect.DOUBLED
            )


def _creating_rows(evidence: Evidence) -> dict[Key, list[str]]:
    """Finds the rows that say to have created what is published under a key."""
    rows: dict[Key, list[str]] = defaultdict(list)
    for submission, job_id, job in evidence.submitted_jobs():
        for result in job.results:
            if result.status == "created":
                rows[submission.workspace, str(result.key)].append(f"{job_id}/{result.row_number}")
    return rows


def _creating_calls(evidence: Evidence) -> dict[Key, list[SinglePin]]:
    """Finds the direct calls that were told to have created a key, the earliest first."""
    calls: dict[Key, list[SinglePin]] = defaultdict(list)
    for pin in sorted(evidence.history.pins, key=lambda pin: pin.sent_at):
        if pin.was_created:
            calls[pin.workspace, pin.key].append(pin)
    return calls


def outcomes_agree_with_the_store(evidence: Evidence) -> Violations:
    """`created` is said by the row that the store has as the pin's origin, by all others
    `existing`; both name the pin that is there.

    A row stays `existing` although the direct pin that was before it is lost.
    """
    for submission, job_id, job in evidence.submitted_jobs():
        for result in job.results:
            if result.status == "failed":
                continue
            name = f"row {result.row_number} of job {job_id}"
            key = submission.workspace, str(result.key)
            pin = next(iter(evidence.final_state.pins.get(key, ())), None)
            if pin is None and result.status == "existing" and key in evidence.forgotten_pins:
                continue
            if pin is None:
                yield Violation(
                    "invariant 3",
                    f"{name} is {result.status}, but its key {result.key} is not in the store",
                    Effect.LOST,
                )
            elif result.pin != pin.pin_id:
                yield Violation(
                    "invariant 4", f"{name} names the pin {result.pin}, the store {pin.pin_id}"
                )
            elif (result.status == "created") != (
                (pin.job_id, pin.row_number) == (job_id, result.row_number)
            ):
                yield Violation(
                    "invariant 4",
                    f"{name} is {result.status}, the store has as origin "
                    f"{pin.job_id}/{pin.row_number}",
                )


def direct_pins_are_stored(evidence: Evidence) -> Violations:
    """Each under the id that was answered.

    One that was made between copy and restore may be gone.
    """
    for single in evidence.history.pins:
        there = {
            pin.pin_id for pin in evidence.final_state.pins.get((single.workspace, single.key), ())
        }
        if not there and evidence.may_be_lost(single):
            continue
        if single.outcome is RequestOutcome.ACCEPTED and single.pin_id not in there:
            yield Violation(
                "invariant 3",
                f"the pin {single.pin_id} was answered for {single.key} and is not in the store",
                Effect.LOST,
            )


def every_pin_has_an_origin(evidence: Evidence) -> Violations:
    """Each pin in the store has an origin that a client knows of."""
    made = {
        (job_id, result.row_number)
        for _, job_id, job in evidence.submitted_jobs()
        for result in job.results
        if result.status == "created"
    }
    asked = {
        (pin.workspace, pin.key)
        for pin in evidence.history.pins
        if pin.outcome is not RequestOutcome.REFUSED
    }
    for key, pins in evidence.final_state.pins.items():
        for pin in pins:
            if pin.job_id is None and key not in asked:
                yield Violation("invariant 3", f"{key} was made by a direct call that nobody made")
            elif pin.job_id is not None and (pin.job_id, pin.row_number) not in made:
                yield Violation(
                    "invariant 4",
                    f"{key} has as origin {pin.job_id}/{pin.row_number}, which does not say so",
                )


def counters_equal_results(evidence: Evidence) -> Violations:
    for job_id, job in evidence.final_state.jobs.items():
        counted = _count(job)
        if job.counters[1:] != counted:
            yield Violation(
                "invariant 5", f"job {job_id} says {job.counters[1:]}, its results {counted}"
            )
        if job.completed and job.counters.status != _status_of(job.counters):
            yield Violation(
                "invariant 5", f"job {job_id} is {job.counters.status} with {job.counters}"
            )
        stored = evidence.final_state.stored_results.get(job_id, Counter())
        in_database = tuple(stored.get(status, 0) for status in ("created", "existing", "failed"))
        if (
            in_database != counted[2:]
            or evidence.final_state.stored_jobs.get(job_id) != job.counters
        ):
            yield Violation(
                "invariant 5",
                f"job {job_id} is {job.counters} in the API, {in_database} in the database",
            )


def counters_only_grow(evidence: Evidence) -> Violations:
    """From a restore until its recovery ends a poll may see less; at the end nothing is less."""
    for job_id, polls in evidence.history.polls.items():
        job = evidence.final_state.jobs.get(job_id)
        last = [Poll(job.counters, sent_at=math.inf, answered_at=math.inf)] if job else []
        for earlier, later in combinations([*polls, *last], 2):
            if _went_back(earlier.counters, later.counters) and not _is_recovering(
                evidence, earlier, later
            ):
                yield Violation(
                    "invariant 5", f"job {job_id} went from {earlier.counters} to {later.counters}"
                )
        for poll, _, _ in polls:
            if poll.processed != poll.created + poll.existing + poll.failed or (
                poll.status in TERMINAL
            ) != (poll.processed == poll.total):
                yield Violation("invariant 5", f"job {job_id} was seen as {poll}")


def _went_back(before: Counters, after: Counters) -> bool:
    fell = any(new < old for old, new in zip(before[2:], after[2:], strict=True))
    return fell or after.total != before.total or (before.status in TERMINAL and after != before)


def _is_recovering(evidence: Evidence, earlier: Poll, later: Poll) -> bool:
    """Tells whether the second poll may have seen an older Postgres than the first."""
    return any(
        earlier.sent_at < restore.replaced < later.answered_at and later.sent_at < restore.recovered
        for restore in evidence.history.restores
    )


def accepted_jobs_are_found(evidence: Evidence) -> Violations:
    """Between a restore and the end of its recovery they may be missing."""
    for absence in evidence.history.absences:
        if not any(
            one.replaced < absence.answered_at and absence.sent_at < one.recovered
            for one in evidence.history.restores
        ):
            yield Violation(
                "answers",
                f"job {absence.job_id} was accepted, then answered {absence.answer}",
                Effect.LOST,
            )


def outcomes_are_stable(evidence: Evidence) -> Violations:
    """What a poll has seen of a row is what all later ones see, and the end."""
    for job_id, earlier, later in evidence.history.contradictions:
        yield Violation("invariant 4", f"a row of job {job_id} went from {earlier} to {later}")
    for job_id, seen in evidence.history.results.items():
        job = evidence.final_state.jobs.get(job_id)
        final = {result.row_number: result for result in job.results} if job else {}
        for number, result in seen.items():
            if final.get(number) != result:
                yield Violation(
                    "invariant 4",
                    f"a row of job {job_id} was seen as {result}, and is {final.get(number)}",
                )


def rows_keep_their_order(evidence: Evidence) -> Violations:
    """Of equal keys in one job none but the first is `created`; unless that one became `existing`
    by a direct pin that a restore has lost.
    """
    for submission, job_id, job in evidence.submitted_jobs():
        first: dict[str, int] = {}
        for number, row in enumerate(evidence.find_rows(submission, job), 1):
            if row.expected is Expected.PUBLISHED:
                first.setdefault(row.key, number)
        for result in job.results:
            if (submission.workspace, str(result.key)) in evidence.forgotten_pins:
                continue
            if result.status == "created" and first.get(str(result.key)) != result.row_number:
                yield Violation(
                    "invariant 7",
                    f"job {job_id}: row {result.row_number} was created before row "
                    f"{first.get(str(result.key))}",
                )


def everything_is_announced(evidence: Evidence) -> Violations:
    """At least once each; a job with the counters that it ended with."""
    final_state = evidence.final_state
    for key, pins in final_state.pins.items():
        for pin in pins:
            yield from _announced(key, pin, final_state)
    for job_id, job in final_state.jobs.items():
        announced = final_state.job_events.get(job_id, [])
        if not announced:
            yield Violation(
                "announcements", f"the end of job {job_id} was never announced", Effect.LOST
            )
        elif any(event != job.counters for event in announced):
            yield Violation(
                "announcements", f"job {job_id} was announced as {announced}, it is {job.counters}"
            )
    for event_id, announcements in final_state.announcements.items():
        yield from _announced_alike(event_id, announcements, evidence)


def _announced_alike(
    event_id: str, announcements: list[Announcement], evidence: Evidence
) -> Violations:
    """An event may come again, as it was. Under a key whose direct pin was lost another one may
    have been announced; the store has the origin of one of them.
    """
    key = announcements[0].key
    if len(announcements) > 1 and key not in evidence.forgotten_pins:
        yield Violation(
            "announcements", f"the event {event_id} says different things: {announcements}"
        )
    if key is None:
        return
    pins = evidence.final_state.pins.get(key, [])
    if not pins and key not in evidence.forgotten_pins:
        yield Violation("announcements", f"{event_id}: {key} was announced and is not in the store")
    if pins and not any(
        (pin.job_id, pin.row_number) == one.origin for pin in pins for one in announcements
    ):
        yield Violation(
            "announcements",
            f"{event_id} was announced with other origins than the store has: {announcements}, "
            f"{pins}",
        )


def _announced(key: Key, pin: Pin, final_state: FinalState) -> Violations:
    if pin.state != "published":
        yield Violation("invariant 2", f"{key} is {pin.state} long after it was due", Effect.LOST)
    elif not final_state.published[pin.pin_id]:
        yield Violation(
            "announcements",
            f"{key}: the publication of pin {pin.pin_id} was never announced",
            Effect.LOST,
        )
    if pin.scheduled and not final_state.scheduled[pin.pin_id]:
        yield Violation(
            "announcements",
            f"{key}: the schedule of pin {pin.pin_id} was never announced",
            Effect.LOST,
        )


def dead_letters_are_expected(evidence: Evidence) -> Violations:
    """A request id that was reused, unless a restore had forgotten it and the other body became a
    job.
    """
    letters = dict(evidence.final_state.dead_letters)
    told = letters.pop("request_id_reused", 0)
    reused = [
        submission
        for submission in evidence.history.submissions
        if submission.reused is RequestOutcome.ACCEPTED
    ]
    refused = sum(not _was_reuse_accepted(evidence, submission) for submission in reused)
    if told < refused:
        yield Violation(
            "invariant 8", f"{refused} request ids were reused, dead letters tell of {told}"
        )
    for code, count in letters.items():
        yield Violation(
            "invariant 8", f"{count} dead letters with {code}: nothing of this run deserves it"
        )


def _was_reuse_accepted(evidence: Evidence, submission: Submission) -> bool:
    jobs = evidence.find_jobs(submission)
    if not evidence.times_forgotten[submission.workspace, submission.marker]:
        return False
    if len(submission.rows) == 1:  # both bodies have the same rows
        return len(jobs) > 1
    return any(evidence.is_reuse(submission, evidence.final_state.jobs[job_id]) for job_id in jobs)


def no_unexpected_answers(evidence: Evidence) -> Violations:
    for surprise in evidence.history.unexpected_answers:
        yield Violation("answers", surprise)


RULES: tuple[Callable[[Evidence], Violations], ...] = (
    accepted_means_durable,
    a_forgotten_request_is_not_published_twice,
    every_job_has_a_submission,
    each_row_settles_once,
    each_key_is_published_once,
    outcomes_agree_with_the_store,
    direct_pins_are_stored,
    every_pin_has_an_origin,
    counters_equal_results,
    counters_only_grow,
    accepted_jobs_are_found,
    outcomes_are_stable,
    rows_keep_their_order,
    everything_is_announced,
    dead_letters_are_expected,
    no_unexpected_answers,
)


def _group_jobs_by_marker(final_state: FinalState) -> dict[Key, list[str]]:
    """Jobs by the key of their first row: it names the submission."""
    found: dict[Key, list[str]] = defaultdict(list)
    for job_id, job in final_state.jobs.items():
        if job.results:
            found[job.workspace, str(job.results[0].key)].append(job_id)
    return found


def _count(job: Job) -> tuple[int, int, int, int, int]:
    each = [
        sum(result.status == status for result in job.results)
        for status in ("created", "existing", "failed")
    ]
    return job.counters.total, sum(each), each[0], each[1], each[2]


def _status_of(counters: Counters) -> str:
    if not counters.failed:
        return "completed"
    return "failed" if counters.failed == counters.total else "completed_with_errors"


def _shortened(numbers: list[int]) -> str:
    return f"{numbers[:5]}…{numbers[-3:]} ({len(numbers)})" if len(numbers) > 10 else str(numbers)
