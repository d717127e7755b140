"""Follows the keys of a campaign through its steps, and compares them with the final state. No I/O.

The steps of a campaign come one after the other, so each row, cancellation and undo has exactly one
allowed result. What stays open is only whether a schedule that is due within seconds was published
before a step, and which of two clocks was ahead.
"""

from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, assert_never
from uuid import UUID

from services.publisher.ids import compute_generation_id
from shared.contract.events import OnExisting
from tests.tools.chaos.final_state import FinalState, Pin
from tests.tools.chaos.history import (
    Campaign,
    CancelAnswer,
    CancelStep,
    DryRunStep,
    Expected,
    ImportStep,
    RaceStep,
    Result,
    SteeredRow,
    Step,
    Timing,
    TouchKind,
    TouchStep,
    UndoAnswer,
    UndoStep,
)
from tests.tools.chaos.violations import Effect, Violation, Violations

WAITING, PUBLISHED = {"scheduled", "queued"}, {"published"}


class Period(NamedTuple):
    """The time of a change, as far as the client knows it."""

    earliest: datetime
    latest: datetime


@dataclass(slots=True)
class ModelPin:
    """One generation of a key."""

    pin_id: str
    job_id: str
    row_number: int
    title: str
    content_as_of: Period
    may_wait: bool
    may_be_published: bool
    is_schedule: bool
    is_touched: bool = False
    is_canceled: bool = False
    is_deleted: bool = False

    @property
    def states(self) -> set[str]:
        """The states that an existing row may report."""
        if self.is_deleted:
            return {"deleted"}
        if self.is_canceled:
            return {"canceled"}
        waiting = WAITING if self.may_be_published else {"scheduled"}
        return (waiting if self.may_wait else set()) | (
            PUBLISHED if self.may_be_published else set()
        )

    @property
    def final_state(self) -> str:
        if self.is_canceled:
            return "cancelled"
        return "published" if self.may_be_published else "scheduled"

    def take_timing(self, timing: Timing, *, is_schedule: bool) -> None:
        self.is_schedule = is_schedule
        self.may_wait = is_schedule
        self.may_be_published = timing is not Timing.FAR or not is_schedule

    def cancel(self) -> None:
        self.is_canceled, self.may_be_published = True, False

    def delete(self) -> None:
        """Deletes the pin. A waiting schedule is also canceled."""
        if self.may_wait and not self.may_be_published:
            self.cancel()
        self.is_deleted = True


@dataclass(slots=True)
class ModelKey:
    pins: list[ModelPin] = field(default_factory=list)
    released: Period | None = None
    """When the key was released. None if it is not free."""


Keys = defaultdict[str, ModelKey]


def check_campaign(campaign: Campaign, final_state: FinalState) -> Violations:
    """Checks every step, and then the pins of every key."""
    if campaign.is_broken:  # a violation of its own
        return
    model = _Model(campaign.workspace_id, final_state)
    for step in campaign.steps:
        yield from model.follow(step)
    for key, expected in model.keys.items():
        stored = final_state.pins.get((campaign.workspace, key), [])
        yield from _compare(key, expected, sorted(stored, key=lambda pin: pin.generation))


class _Model:
    def __init__(self, workspace_id: UUID, final_state: FinalState) -> None:
        self._workspace_id = workspace_id
        self._final_state = final_state
        self.keys: Keys = defaultdict(ModelKey)
        self._rows: dict[str, list[SteeredRow]] = {}

    def follow(self, step: Step) -> Violations:
        match step:
            case ImportStep():
                yield from self._import(step)
            case DryRunStep():
                yield from self._dry_run(step)
            case CancelStep():
                yield from self._cancel(step)
            case UndoStep():
                yield from self._undo(step)
            case TouchStep():
                yield from self._touch(step)
            case RaceStep():
                if step.was_edited:
                    yield from self._touch(step.edit)
                yield from self._undo(step.undo)
            case _:
                assert_never(step)

    def _import(self, step: ImportStep) -> Violations:
        job_id = step.submission.job_id
        job = self._final_state.jobs.get(job_id or "")
        if job_id is None or job is None or len(job.results) != len(step.rows):
            return  # a violation of another rule
        self._rows[job_id] = step.rows
        for row, result in zip(step.rows, job.results, strict=True):
            on_existing = step.submission.on_existing
            yield from self._settle(job_id, row, result, on_existing, job.accepted_at)

    def _dry_run(self, step: DryRunStep) -> Violations:
        """Checks that a dry run says what the import would do. Changes no key."""
        keys, self.keys = self.keys, deepcopy(self.keys)
        if len(step.results) != len(step.rows):
            yield Violation("dry run", f"{len(step.results)} results for {len(step.rows)} rows")
        else:
            for row, result in zip(step.rows, step.results, strict=True):
                if row.expected is not Expected.PUBLISHED:
                    if (result.status, result.error_code) != ("failed", row.expected.value):
                        yield Violation("dry run", f"{row} would be {result}")
                elif result.status == "failed":
                    yield Violation("dry run", f"{row} would be {result}")
                yield from self._settle("dry run", row, result, step.on_existing, step.checked_at)
        self.keys = keys

    def _settle(
        self,
        job_id: str,
        row: SteeredRow,
        result: Result,
        on_existing: OnExisting,
        accepted_at: datetime,
    ) -> Violations:
        """Checks a row's result, and follows what it changed."""
        if row.is_shared or row.expected is not Expected.PUBLISHED or result.status == "failed":
            return
        name = f"row {result.row_number} of {job_id}, {row.key}, {on_existing}, {result}"
        key = self.keys[row.key]
        holder = key.pins[-1] if key.pins else None
        if result.status == "created":
            if holder is not None and (reason := _find_obstacle(key, on_existing, accepted_at)):
                what = f"{name}: {reason}, {holder}"
                yield Violation("invariant 3", what, Effect.DUPLICATED)
            if holder is not None:
                holder.is_deleted = True
            key.pins.append(self._create(job_id, row, result, accepted_at, len(key.pins)))
            key.released = None
            if result.pin != key.pins[-1].pin_id:
                yield Violation("invariant 3", f"{name} does not name pin {key.pins[-1]}")
        elif holder is None:
            yield Violation("invariant 3", f"{name}: the key was never used", Effect.LOST)
        else:
            if _must_create(key, on_existing, accepted_at):
                what = f"{name}: the key is free: {key}, {accepted_at}"
                yield Violation("undo", what, Effect.LOST)
            yield from _check_existing(name, holder, row, result, on_existing, accepted_at)

    def _create(
        self, job_id: str, row: SteeredRow, result: Result, accepted_at: datetime, generation: int
    ) -> ModelPin:
        pin_id = compute_generation_id(self._workspace_id, row.key, generation)
        pin = ModelPin(
            str(pin_id),
            job_id,
            result.row_number,
            row.title,
            Period(accepted_at, accepted_at),
            may_wait=False,
            may_be_published=True,
            is_schedule=False,
        )
        pin.take_timing(row.timing, is_schedule=result.is_schedule)
        return pin

    def _cancel(self, step: CancelStep) -> Violations:
        job = self._final_state.jobs.get(step.job_id)
        if job is None:
            return
        canceled = sum(result.error_code == "canceled" for result in job.results)
        for answer in step.answers:
            before, after = answer.counters, job.counters
            has_fallen = any(new < old for old, new in zip(before[2:], after[2:], strict=True))
            if has_fallen or before.total != after.total or answer.canceled_rows > canceled:
                yield Violation("cancel", f"job {step.job_id} went from {answer} to {after}")
        lists = {(answer.canceled, answer.left) for answer in step.answers}
        if len(lists) > 1:
            yield Violation("cancel", f"the cancellations of {step.job_id} differ: {lists}")
        if step.answers:
            yield from self._cancel_schedules(step, step.answers[0])

    def _cancel_schedules(self, step: CancelStep, answer: CancelAnswer) -> Violations:
        left = dict(answer.left)
        expected = {
            number: pin
            for number, pin in self._created(step.job_id).items()
            if pin.is_schedule and step.with_schedules
        }
        listed = sorted([*answer.canceled, *(number for number, _ in answer.left)])
        if listed != sorted(expected):
            yield Violation(
                "cancel",
                f"job {step.job_id} has the schedules {sorted(expected)}, the answer has {listed}",
                Effect.LOST,
            )
        for number, pin in expected.items():
            name = f"row {number} of job {step.job_id}, {pin}"
            if number in answer.canceled:
                if pin.is_deleted or pin.is_touched or not pin.may_wait:
                    yield Violation("cancel", f"{name} was canceled")
                pin.cancel()
            elif left.get(number) == "published":
                if pin.is_deleted or pin.is_touched or not pin.may_be_published:
                    yield Violation("cancel", f"{name} was left as published")
                pin.may_wait = False
            elif number in left and left[number] != _find_hindrance(pin):
                yield Violation("cancel", f"{name} was left as {left[number]}")

    def _undo(self, step: UndoStep) -> Violations:
        if not step.answers or step.answered_at is None or step.job_id not in self._rows:
            return
        if len(set(step.answers)) > 1:
            what = f"the undos of job {step.job_id} differ: {step.answers}"
            yield Violation("undo", what, Effect.DUPLICATED)
        answer = step.answers[0]
        listed = sorted(number for number, _ in (*answer.undone, *answer.left))
        created = self._created(step.job_id)
        shared = self._created_shared(step.job_id)
        if listed != sorted([*created, *shared]):
            yield Violation(
                "undo",
                f"job {step.job_id} created the rows {sorted([*created, *shared])}, but its undo "
                f"has {listed}",
                Effect.LOST,
            )
        for number, reason in answer.left:
            if number in shared:
                yield Violation("undo", f"row {number} of {step.job_id} was left as {reason}")
        released = Period(answer.undone_at, step.answered_at)
        for number, pin in created.items():
            yield from self._undo_pin(step.job_id, number, pin, answer, released)

    def _undo_pin(
        self, job_id: str, number: int, pin: ModelPin, answer: UndoAnswer, released: Period
    ) -> Violations:
        name = f"row {number} of job {job_id}, {pin},"
        action, reason = dict(answer.undone).get(number), dict(answer.left).get(number)
        hindrance = _find_hindrance(pin)
        if action is None:
            if reason is not None and reason != hindrance:
                yield Violation("undo", f"{name} was left as {reason}, not {hindrance}")
            return
        if hindrance is not None:
            yield Violation("undo", f"{name} was undone, although it is {hindrance}")
        is_waiting = pin.may_wait and not pin.is_canceled
        is_possible = is_waiting if action == "canceled" else pin.may_be_published | pin.is_canceled
        if not is_possible:
            yield Violation("undo", f"{name} was undone as {action}")
        if action == "canceled":
            pin.cancel()
        elif not pin.is_canceled:
            pin.may_wait = False
        pin.is_deleted = True
        key = self.keys[self._rows[job_id][number - 1].key]
        if key.pins[-1] is not pin:
            yield Violation("undo", f"{name} was undone, but has not its key: {key}")
        key.released = released

    def _touch(self, step: TouchStep) -> Violations:
        key = self.keys[step.key]
        if not key.pins:
            yield Violation("undo", f"{step} changed a pin of a key that was never used")
            return
        pin = key.pins[-1]
        pin.is_touched = True
        pin.content_as_of = Period(step.sent_at, step.answered_at)
        match step.kind:
            case TouchKind.EDIT:
                pin.title = step.title or pin.title
            case TouchKind.CANCEL:
                pin.cancel()
            case TouchKind.DELETE:
                pin.delete()
            case kind:
                assert_never(kind)

    def _created(self, job_id: str) -> dict[int, ModelPin]:
        """Returns the pins that the job has created under the campaign's own keys."""
        keys = {row.key for row in self._rows.get(job_id, ())}
        return {
            pin.row_number: pin
            for key in keys
            if key in self.keys
            for pin in self.keys[key].pins
            if pin.job_id == job_id
        }

    def _created_shared(self, job_id: str) -> set[int]:
        return {
            number
            for number, (row, result) in enumerate(
                zip(self._rows[job_id], self._final_state.jobs[job_id].results, strict=True), 1
            )
            if row.is_shared and result.status == "created"
        }


def _find_obstacle(key: ModelKey, on_existing: OnExisting, accepted_at: datetime) -> str | None:
    """Returns why no row may take a used key, or None."""
    pin = key.pins[-1]
    if key.released is not None:
        is_later = accepted_at > key.released.earliest
        return None if is_later else f"accepted at {accepted_at}, before {key.released}"
    if on_existing is not OnExisting.REVIVE or not (pin.is_deleted or pin.is_canceled):
        return "the key is taken"
    is_later = accepted_at > pin.content_as_of.earliest
    return None if is_later else f"accepted at {accepted_at}, before the pin was changed"


def _must_create(key: ModelKey, on_existing: OnExisting, accepted_at: datetime) -> bool:
    if key.released is not None:
        return accepted_at > key.released.latest
    pin = key.pins[-1]
    is_revived = on_existing is OnExisting.REVIVE and (pin.is_deleted or pin.is_canceled)
    return is_revived and accepted_at > pin.content_as_of.latest


def _check_existing(
    name: str,
    pin: ModelPin,
    row: SteeredRow,
    result: Result,
    on_existing: OnExisting,
    accepted_at: datetime,
) -> Violations:
    """Checks an existing row against the pin that has the key. Follows an update."""
    if result.pin != pin.pin_id:
        yield Violation("invariant 3", f"{name} does not name pin {pin}")
    is_open = pin.may_wait and not (pin.is_canceled or pin.is_deleted)
    if result.updated:
        is_later = accepted_at > pin.content_as_of.earliest
        if on_existing is not OnExisting.UPDATE or not is_open or not is_later:
            yield Violation("update", f"{name} was updated: {accepted_at}, {pin}")
        pin.title, pin.is_touched = row.title, True
        pin.content_as_of = Period(accepted_at, accepted_at)
        pin.take_timing(row.timing, is_schedule=True)
        if result.existing_state not in WAITING:
            yield Violation("update", f"{name} is not waiting: {pin}")
        return
    must_update = on_existing is OnExisting.UPDATE and is_open and not pin.may_be_published
    if must_update and accepted_at > pin.content_as_of.latest:
        yield Violation("update", f"{name} was not updated: {accepted_at}, {pin}", Effect.LOST)
    if result.existing_state not in pin.states:
        yield Violation("invariant 4", f"{name}: the state can only be {pin.states}, {pin}")
    elif result.existing_state == "published":
        pin.may_wait = False


def _find_hindrance(pin: ModelPin) -> str | None:
    """Returns the only true reason to leave a pin, or None."""
    if pin.is_deleted:
        return "deleted"
    if pin.is_touched:
        return "canceled" if pin.is_canceled else "changed"
    return None


def _compare(key: str, expected: ModelKey, stored: list[Pin]) -> Violations:
    if len(stored) != len(expected.pins):
        yield Violation(
            "invariant 3",
            f"{key} has {len(stored)} pins, not {len(expected.pins)}: {stored}, {expected}",
            Effect.LOST if len(stored) < len(expected.pins) else Effect.DUPLICATED,
        )
        return
    for pin, model in zip(stored, expected.pins, strict=True):
        found = (pin.pin_id, pin.job_id, pin.row_number, pin.title, pin.deleted, pin.state)
        wanted = (
            model.pin_id,
            model.job_id,
            model.row_number,
            model.title,
            model.is_deleted,
            model.final_state,
        )
        if found != wanted:
            is_lost = pin.deleted and not model.is_deleted
            what = f"{key} has {found}, not {wanted}: {expected}"
            yield Violation("store", what, Effect.LOST if is_lost else Effect.WRONG)
