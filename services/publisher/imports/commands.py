"""Cancels and undoes imports, and reads what the store has for a row."""

from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import structlog

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
    UndoRequest,
)
from shared.contract.errors import RETRY_AFTER, ApiError, ErrorCode
from shared.contract.schedule_ids import derive_schedule_id
from shared.postgres.row import Row

log = structlog.get_logger()


class ImportCommands:
    """The use cases of whole imports. Every command can be repeated. Raises ApiError.

    The callers check that the import belongs to the workspace, and what the API key may do.
    """

    def __init__(self, imports: ImportRepository, topic: str) -> None:
        """Takes the name of the topic `imports`."""
        self._imports = imports
        self._topic = topic

    async def cancel(self, command: CancelRequest) -> dict[str, Any]:
        """Fails the rows that have not settled. Cancels waiting schedules if asked.

        A repeated cancellation cancels no schedule that somebody retried since, and gives the same
        answer otherwise.
        """
        target = _identify(command)
        schedules: list[tuple[Row, CancelAction | LeftReason]] = []
        async with self._imports.transaction(
            target, complete=command.cancel_schedules
        ) as transaction:
            canceled_at = await transaction.cancel_rows(self._topic)
            if canceled_at is None:
                raise _not_started()
            if command.cancel_schedules:
                schedules = await _cancel_schedules(transaction, command)
        count_cancellation(decision for _, decision in schedules)
        log.info("import_canceled", **_describe(command))
        return {
            "canceled_at": canceled_at,
            "canceled_schedules": [
                _without_pin_id(item)
                for item in rules.dump_pins(
                    [item for item in schedules if isinstance(item[1], CancelAction)], "action"
                )
            ],
            "left": [
                _without_pin_id(item)
                for item in rules.dump_pins(
                    [item for item in schedules if isinstance(item[1], LeftReason)], "reason"
                )
            ],
        }

    async def undo(self, command: UndoRequest) -> dict[str, Any]:
        """Deletes what nobody has changed since, and releases its keys. Does so once.

        A repeated undo, and the slower of two at once, answers the first one's record.
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
                raise AssertionError("The other undo was committed, but has no record.") from None
            return _describe_replay(stored)

    async def _plan_undo(self, target: ImportId, command: UndoRequest) -> dict[str, Any]:
        async with self._imports.transaction(target, complete=True) as transaction:
            if (stored := await transaction.find_undo()) is not None:
                return _describe_replay(stored)
            pins = await transaction.read_pins()
        decided = [(pin, rules.decide_undo(pin, command.account_ids)) for pin in pins]
        return {"undo_id": None, "undone_at": None, "is_replay": False, **_describe_undo(decided)}

    async def _undo(self, target: ImportId, command: UndoRequest) -> dict[str, Any]:
        async with self._imports.transaction(target, complete=True) as transaction:
            pins = await transaction.lock_pins()
            # Read after the locks: another undo of the same pins is now either committed or waits
            if await transaction.find_undo() is not None:
                raise UndoneBefore
            decided = [(pin, rules.decide_undo(pin, command.account_ids)) for pin in pins]
            undone = [pin for pin, decision in decided if isinstance(decision, UndoAction)]
            await transaction.release(undone)
            result, undo_id = _describe_undo(decided), uuid4()
            undone_at = await transaction.record_undo(undo_id, result)
        count_undo(decision for _, decision in decided)
        log.info(
            "import_undone", undone=len(undone), left=len(result["left"]), **_describe(command)
        )
        return {"undo_id": undo_id, "undone_at": undone_at, "is_replay": False, **result}

    async def read_row(self, command: RowReference) -> dict[str, Any]:
        """Reads the row's recorded outcome, its pin, and when its import was canceled."""
        created_at = command.accepted_at + command.row_number * rules.MICROSECOND
        async with self._imports.transaction(_identify(command)) as transaction:
            outcome, pin = await transaction.read_row(command.row_number, created_at)
            canceled_at = await transaction.find_cancellation()
        if pin is not None and pin["run_at"] is not None:
            pin = {**pin, "schedule_id": derive_schedule_id(pin["pin_id"])}
        return {"outcome": outcome, "pin": pin, "canceled_at": canceled_at}


async def _cancel_schedules(
    transaction: CommandTransaction, command: CancelRequest
) -> list[tuple[Row, CancelAction | LeftReason]]:
    schedules = [pin for pin in await transaction.lock_pins() if pin["run_at"] is not None]
    decided = [
        (schedule, rules.decide_cancel(schedule, command.account_ids)) for schedule in schedules
    ]
    waiting: list[UUID] = [
        schedule["pin_id"] for schedule, decision in decided if decision is CancelAction.CANCEL
    ]
    if waiting:
        await transaction.cancel_schedules(waiting)
    return decided


def _describe_undo(decided: list[tuple[Row, UndoAction | LeftReason]]) -> dict[str, Any]:
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


def _describe_replay(stored: StoredUndo) -> dict[str, Any]:
    return {
        "undo_id": stored.undo_id,
        "undone_at": stored.undone_at,
        "is_replay": True,
        **stored.result,
    }


def _without_pin_id(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in {"pin_id", "action"}}


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
