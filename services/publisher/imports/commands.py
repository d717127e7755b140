"""Cancels and undoes imports, and reads what the store has for a row."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID, uuid4

import structlog

from services.publisher.creation_times import compute_created_at
from services.publisher.existing_pins import find_existing_state
from services.publisher.imports import rules
from services.publisher.imports.metrics import count_cancellation, count_undo
from services.publisher.imports.repository import (
    CommandTransaction,
    ImportId,
    ImportRepository,
    StoredUndo,
    UndoneBefore,
)
from services.publisher.imports.rules import CancelAction, LeftReason, UndoAction
from services.publisher.imports.schemas import (
    CancelRequest,
    ImportReference,
    RowReference,
    UndoneImports,
    UndoRequest,
)
from shared.contract.errors import RETRY_AFTER, ApiError, ErrorCode
from shared.contract.schedule_ids import derive_schedule_id
from shared.postgres.row import Row

log = structlog.get_logger()

_OPEN_REASONS = frozenset({LeftReason.ACCOUNT_NOT_PERMITTED, LeftReason.PUBLISHING})
"""The reasons that may not hold for a later undo."""
_DecidedCancel: TypeAlias = tuple[Row, CancelAction | LeftReason]


class ImportCommands:
    """The use cases of whole imports. Every command can be repeated. Raises ApiError.

    The callers check that the import belongs to the workspace, and what the API key may do.
    """

    def __init__(self, imports: ImportRepository, topic: str) -> None:
        """Takes the name of the topic `imports`."""
        self._imports = imports
        self._topic = topic

    async def cancel(self, command: CancelRequest) -> dict[str, Any]:
        """Fails the rows that have not settled. If asked, also stops what waits.

        Schedules are canceled. Pins without one that wait for Pinterest are withdrawn. A repeated
        cancellation cancels no schedule that somebody retried since, and gives the same answer
        otherwise.
        """
        target = _identify(command)
        decided: list[_DecidedCancel] = []
        async with self._imports.transaction(
            target, complete=command.cancel_schedules
        ) as transaction:
            canceled_at = await transaction.cancel_rows(self._topic)
        if canceled_at is None:
            raise _not_started()
        if command.cancel_schedules:
            # A transaction of its own: no batch can settle while the positions are locked, and this
            # one may wait for the scheduler. From now on no row of the import adds a pin
            async with self._imports.transaction(target, complete=True) as transaction:
                decided = await _stop_waiting(transaction, command)
        count_cancellation(decision for _, decision in decided)
        log.info("import_canceled", **_describe(command))
        return {
            "canceled_at": canceled_at,
            "canceled_schedules": _dump_stopped(decided, "schedule_id"),
            "withdrawn_pins": _dump_stopped(decided, "pin_id"),
            "left": _dump_left(decided),
        }

    async def undo(self, command: UndoRequest) -> dict[str, Any]:
        """Deletes what nobody has changed since, and releases its keys. Does so once.

        A pin that is on Pinterest is removed there first, by the delivery process (ADR 0049).

        A repeated undo, and the slower of two at once, returns the record of the first. It undoes
        only what the first one's API key was not permitted to, and what was being sent to Pinterest
        then, and adds that to the record.
        """
        target = _identify(command)
        if command.dry_run:
            return await self._plan_undo(target, command)
        try:
            return await self._undo(target, command)
        except UndoneBefore:
            async with self._imports.transaction(target) as transaction:
                stored = await transaction.find_undo()
                if stored is None:
                    raise AssertionError(
                        "The other undo was committed, but has no record."
                    ) from None
                result = await _follow(transaction, stored.result)
            return _describe_record(stored, result, is_replay=True)

    async def _plan_undo(self, target: ImportId, command: UndoRequest) -> dict[str, Any]:
        """Returns the record that an undo would have. It has no id before the first undo."""
        async with self._imports.transaction(target, complete=True) as transaction:
            stored = await transaction.find_undo()
            plan = _plan(await transaction.read_pins(), stored, command)
            result = await _follow(transaction, plan.result)
        return _describe_record(stored, result, is_replay=plan.is_done)

    async def _undo(self, target: ImportId, command: UndoRequest) -> dict[str, Any]:
        async with self._imports.transaction(target, complete=True) as transaction:
            stored = await transaction.find_undo()
            if stored is not None and not _find_open_rows(stored):
                raise UndoneBefore
            pins = await transaction.lock_pins()
            # Read after the locks: another undo of these pins has committed, or waits for them
            stored = await transaction.find_undo(lock=True)
            plan = _plan(pins, stored, command)
            if plan.is_done:
                raise UndoneBefore
            await transaction.release(plan.undone)
            await transaction.request_removals(plan.removing)
            if stored is None:
                undo_id = uuid4()
                undone_at = await transaction.record_undo(undo_id, plan.result)
                stored = StoredUndo(undo_id, undone_at, plan.result)
            else:
                await transaction.extend_undo(plan.result)
            result = await _follow(transaction, plan.result)
        count_undo(decision for _, decision in plan.decided)
        counts = {name: len(items) for name, items in plan.result.items()}
        log.info("import_undone", **counts, **_describe(command))
        return _describe_record(stored, result, is_replay=False)

    async def summarize_undos(self, command: UndoneImports) -> dict[str, Any]:
        """Says which of the imports were undone, and how far."""
        undos = await self._imports.summarize_undos(command.workspace_id, command.job_ids)
        return {"undos": undos}

    async def read_row(self, command: RowReference) -> dict[str, Any]:
        """Reads the row's recorded outcome, its pin, and when its import was canceled."""
        created_at = compute_created_at(command.accepted_at, command.row_number)
        async with self._imports.transaction(_identify(command)) as transaction:
            outcome, pin = await transaction.read_row(command.row_number, created_at)
            canceled_at = await transaction.find_cancellation()
            attempts = []
            if pin is not None and pin["delivery"] is not None:
                attempts = await transaction.read_attempts(pin["pin_id"])
        described = None if pin is None else _describe_pin(pin, datetime.now(UTC))
        return {
            "outcome": outcome,
            "pin": described,
            "canceled_at": canceled_at,
            "attempts": attempts,
        }


def _describe_pin(pin: Row, now: datetime) -> dict[str, Any]:
    """Adds the schedule's id, and translates the columns of the state as rows' results do."""
    run_at = pin["run_at"]
    state = find_existing_state(
        pin["state"],
        is_deleted=pin["deleted_at"] is not None,
        is_due=run_at is not None and run_at <= now,
    )
    schedule = {} if run_at is None else {"schedule_id": derive_schedule_id(pin["pin_id"])}
    return {**pin, "state": state, **schedule}


async def _stop_waiting(
    transaction: CommandTransaction, command: CancelRequest
) -> list[_DecidedCancel]:
    """Cancels the import's schedules and withdraws its pins that wait for Pinterest."""
    decided = [
        (pin, decision)
        for pin in await transaction.lock_pins()
        if (decision := rules.decide_cancel(pin, command.account_ids)) is not None
    ]
    if waiting := _find_ids(decided, CancelAction.CANCEL):
        await transaction.cancel_schedules(waiting)
    if queued := _find_ids(decided, CancelAction.WITHDRAW):
        await transaction.withdraw_pins(queued)
    return decided


def _find_ids(decided: Iterable[_DecidedCancel], action: CancelAction) -> list[UUID]:
    return [pin["pin_id"] for pin, decision in decided if decision is action]


async def _follow(transaction: CommandTransaction, result: dict[str, Any]) -> dict[str, Any]:
    """Adds what became of the pins that the undo removes from Pinterest."""
    removals = await transaction.read_removals(rules.find_removing(result))
    return rules.follow_removals(result, removals) if removals else result


class _UndoPlan(NamedTuple):
    """The decisions of an undo, and the result for its record."""

    decided: Sequence[tuple[Row, UndoAction | LeftReason]]
    result: dict[str, Any]
    is_done: bool
    """True if an earlier undo has left nothing to do."""

    @property
    def undone(self) -> list[Row]:
        """The pins to delete, whose keys are released at once."""
        # Not by value: a LeftReason has equal ones
        return [
            pin
            for pin, decision in self.decided
            if isinstance(decision, UndoAction) and decision is not UndoAction.REMOVING
        ]

    @property
    def removing(self) -> list[Row]:
        """The pins to remove from Pinterest first."""
        return [pin for pin, decision in self.decided if decision is UndoAction.REMOVING]


def _plan(pins: Iterable[Row], stored: StoredUndo | None, command: UndoRequest) -> _UndoPlan:
    decided = [(pin, rules.decide_undo(pin, command.account_ids)) for pin in pins]
    if stored is None:
        return _UndoPlan(decided, _describe_undo(decided), is_done=False)
    open_rows = _find_open_rows(stored)
    added = [
        (pin, decision)
        for pin, decision in decided
        if pin["origin_row"] in open_rows and decision not in _OPEN_REASONS
    ]
    result = _merge(stored.result, _describe_undo(added))
    return _UndoPlan(added, result, is_done=not added)


def _find_open_rows(stored: StoredUndo) -> set[int]:
    """Returns the rows that a later undo, or one with another API key, may still undo."""
    return {item["row_number"] for item in stored.result["left"] if item["reason"] in _OPEN_REASONS}


def _merge(earlier: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces the results of rows in the result of an undo."""
    replaced = {item["row_number"] for items in added.values() for item in items}
    return {
        name: sorted(
            [
                *(item for item in items if item["row_number"] not in replaced),
                *added[name],
            ],
            key=itemgetter("row_number"),
        )
        for name, items in earlier.items()
    }


def _describe_undo(decided: Sequence[tuple[Row, UndoAction | LeftReason]]) -> dict[str, Any]:
    undone = [item for item in decided if isinstance(item[1], UndoAction)]
    left = [item for item in decided if isinstance(item[1], LeftReason)]
    result = {"undone": rules.dump_pins(undone, "action"), "left": rules.dump_pins(left, "reason")}
    return {
        name: [
            {key: str(value) if isinstance(value, UUID) else value for key, value in item.items()}
            for item in items
        ]
        for name, items in result.items()
    }


def _describe_record(
    stored: StoredUndo | None, result: Mapping[str, Any], *, is_replay: bool
) -> dict[str, Any]:
    return {
        "undo_id": None if stored is None else stored.undo_id,
        "undone_at": None if stored is None else stored.undone_at,
        "is_replay": is_replay,
        **result,
    }


def _dump_stopped(decided: Iterable[_DecidedCancel], id_name: str) -> list[dict[str, Any]]:
    """Builds the items of schedules that are canceled, or of pins that are withdrawn.

    `id_name` is the id by which they are known: a schedule's pin is not published yet.
    """
    stopped = [item for item in decided if isinstance(item[1], CancelAction)]
    return [
        {"row_number": item["row_number"], id_name: item[id_name]}
        for item in rules.dump_pins(stopped, "action")
        # A pin without a schedule has no schedule_id
        if (item["schedule_id"] is None) == (id_name == "pin_id")
    ]


def _dump_left(decided: Iterable[_DecidedCancel]) -> list[dict[str, Any]]:
    """Builds the items of what was left. Schedules have no pin_id."""
    left = rules.dump_pins([item for item in decided if isinstance(item[1], LeftReason)], "reason")
    return [{**item, "pin_id": None} if item["schedule_id"] else item for item in left]


def _identify(command: ImportReference) -> ImportId:
    return ImportId(command.workspace_id, command.job_id, command.accepted_at)


def _describe(command: ImportReference) -> dict[str, str]:
    return {"job_id": str(command.job_id), "workspace_id": str(command.workspace_id)}


def _not_started() -> ApiError:
    return ApiError(
        ErrorCode.SERVICE_UNAVAILABLE,
        "The publisher has not read the topic of imports yet. Send the request again in a minute.",
        HTTPStatus.SERVICE_UNAVAILABLE,
        headers=RETRY_AFTER,
    )
