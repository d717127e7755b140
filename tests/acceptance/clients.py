"""Imports rows and prepares pins through PinBridge's clients."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pinbridge_sdk.errors import APIError, ValidationError

from deploy.administration import NewWorkspace
from shared.contract.errors import ErrorCode
from tests.acceptance.rows import rows_for
from tests.support.waiting import eventually

SOON_SECONDS = (1, 3, 9)
"""The delay of schedules that must be due soon, at each try. One second is usually enough."""


async def send_with_run_at_soon(send: Callable[[str], Awaitable[Any]]) -> Any:
    """Calls `send` with a run_at that is due soon, and returns its result.

    Calls it again with a longer delay if a busy machine took longer than the delay for the request.
    """
    for seconds in SOON_SECONDS:
        try:
            return await send((datetime.now(UTC) + timedelta(seconds=seconds)).isoformat())
        except ValidationError as error:
            if error.code != "run_at_in_past" or seconds == SOON_SECONDS[-1]:
                raise
    raise AssertionError("unreachable")


def in_days(days: int) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


async def wait_for_import(sdk: Any, job_id: object) -> Any:
    """Waits until the import has ended, and returns it.

    On a busy machine the status service may not have read it yet.
    """

    async def ended_job() -> Any:
        try:
            job = await sdk.pins.get_import(str(job_id))
        except APIError as error:
            if error.code != ErrorCode.STATUS_BEHIND:
                raise
            return None
        return job if job.completed_at is not None else None

    return await eventually(ended_job, seconds=40)


async def import_rows(sdk: Any, rows: list[dict[str, Any]]) -> Any:
    accepted = await sdk.pins.import_json(rows)
    return await wait_for_import(sdk, accepted.id)


async def create_failed_pins(
    sdk: Any, workspace: NewWorkspace, count: int, *, prefix: str = "failed"
) -> list[Any]:
    """Creates pins that failed because their board was deleted before they were due."""
    account = workspace.accounts[0]
    board = await sdk.pinterest.create_board({"account_id": str(account.id), "name": "Passing"})
    destination = {
        "account_id": str(account.id),
        "board_id": board.id,
        "run_at": in_days(1).isoformat(),
    }
    job = await import_rows(sdk, rows_for(workspace, count, prefix=prefix, **destination))
    await sdk.pinterest.delete_board(board.id, account_id=account.id)
    for row in job.results:
        await send_with_run_at_soon(
            lambda run_at: sdk.schedules.update(row.schedule_id, {"run_at": run_at})  # noqa: B023
        )

    async def failed() -> Any:
        pins = await sdk.pins.list(status="failed", board_id=board.id, sort="title_asc")
        return pins if len(pins) == count else None

    return list(await eventually(failed, seconds=40))


async def cancel_one_schedule(sdk: Any) -> None:
    """Cancels a schedule, so that the schedules are in two states."""
    await sdk.schedules.cancel((await sdk.schedules.list(limit=1))[0].id)
