"""What scenarios with PinBridge's clients have in common."""

from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.administration import NewWorkspace
from tests.acceptance.rows import rows_for
from tests.support.waiting import eventually

SOON = timedelta(seconds=1)
"""Time enough for a request that names this moment as one to come."""


def in_days(days: int) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


async def ended(sdk: Any, job_id: object) -> Any:
    """The import, once it has ended."""

    async def job() -> Any:
        found = await sdk.pins.get_import(str(job_id))
        return found if found.completed_at is not None else None

    return await eventually(job)


async def imported(sdk: Any, rows: list[dict[str, Any]]) -> Any:
    accepted = await sdk.pins.import_json(rows)
    return await ended(sdk, accepted.id)


async def failed_pins(
    sdk: Any, workspace: NewWorkspace, count: int, *, prefix: str = "failed"
) -> list[Any]:
    """Pins whose board was gone when they were due."""
    account = workspace.accounts[0]
    board = await sdk.pinterest.create_board({"account_id": str(account.id), "name": "Passing"})
    there = {"account_id": str(account.id), "board_id": board.id, "run_at": in_days(1).isoformat()}
    job = await imported(sdk, rows_for(workspace, count, prefix=prefix, **there))
    await sdk.pinterest.delete_board(board.id, account_id=account.id)
    for row in job.results:
        await sdk.schedules.update(
            row.schedule_id, {"run_at": (datetime.now(UTC) + SOON).isoformat()}
        )

    async def failed() -> Any:
        pins = await sdk.pins.list(status="failed", board_id=board.id, sort="title_asc")
        return pins if len(pins) == count else None

    return list(await eventually(failed))


async def cancel_one(sdk: Any) -> None:
    """So that the schedules are not all in one state."""
    await sdk.schedules.cancel((await sdk.schedules.list(limit=1))[0].id)
