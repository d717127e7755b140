"""PinBridge's clients read lists with every filter and sort order, in pages, with totals."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, get_args

import pytest
import pytest_asyncio
from pinbridge_sdk import AsyncPinbridgeClient
from pinbridge_sdk.errors import ValidationError
from pinbridge_sdk.models.common import PinStatus, ScheduleStatus
from pinbridge_sdk.models.pins import PinSort
from pinbridge_sdk.models.schedules import ScheduleSort

from deploy.administration import NewWorkspace
from tests.acceptance.clients import cancel_one_schedule, create_failed_pins, import_rows, in_days
from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment

PIN_ORDERS: dict[str, Callable[[Any], Any]] = {
    "created_at": lambda pin: pin.created_at,
    "published_at": lambda pin: pin.published_at,
    "title": lambda pin: pin.title,
    "status": lambda pin: pin.status.value,
}
SCHEDULE_ORDERS: dict[str, Callable[[Any], Any]] = {
    "run_at": lambda schedule: schedule.run_at,
    "created_at": lambda schedule: schedule.created_at,
    "title": lambda schedule: schedule.payload["title"],
    "status": lambda schedule: schedule.status.value,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listed(pinflow: Deployment) -> NewWorkspace:
    """A workspace with six pins and six schedules, one of them canceled.

    Both clients read its lists in every order; no test changes it.
    """
    workspace = await asyncio.to_thread(new_workspace, pinflow.database_url, "Lists")
    async with AsyncPinbridgeClient(base_url=pinflow.base_url, api_key=workspace.api_key) as sdk:
        for prefix in ("one", "two"):
            await import_rows(sdk, rows_for(workspace, 3, prefix=prefix))
            rows = rows_for(workspace, 3, prefix=f"later-{prefix}")
            for days, row in enumerate(rows, start=10):
                row["run_at"] = in_days(days).isoformat()
            await import_rows(sdk, rows)
        await cancel_one_schedule(sdk)
    return workspace


async def test_pins_are_found_by_every_filter(sdk: Any, workspace: NewWorkspace) -> None:
    await import_rows(sdk, rows_for(workspace, 4, prefix="early"))
    special = {
        "title": "100% Wool_Throw",
        "description": "Scratchy",
        "link_url": "https://shop.example/throws",
    }
    await import_rows(sdk, rows_for(workspace, 1, prefix="late", **special))
    failed = await create_failed_pins(sdk, workspace, 1)

    async def find_keys(**filters: Any) -> set[str]:
        page = await sdk.pins.list_page(**filters)
        assert page.items == await sdk.pins.list(**filters)
        assert (page.total, page.has_more) == (len(page.items), False)
        return {pin.idempotency_key for pin in page.items}

    pins = await sdk.pins.list()
    assert len(pins) == 6
    (late,) = [pin for pin in pins if pin.idempotency_key == "late-1"]
    for account in workspace.accounts:
        expected = {pin.idempotency_key for pin in pins if pin.pinterest_account_id == account.id}
        assert await find_keys(account_id=account.id) == expected
    board = pins[0].board_id
    assert await find_keys(board_id=board) == {
        pin.idempotency_key for pin in pins if pin.board_id == board
    }
    assert (
        await find_keys(status="failed")
        == await find_keys(error_code="board_not_found")
        == {failed[0].idempotency_key}
    )
    assert await find_keys(status=PinStatus.PUBLISHED) == {pin.idempotency_key for pin in pins} - {
        failed[0].idempotency_key
    }
    for status in (PinStatus.QUEUED, PinStatus.DEFERRED, PinStatus.PUBLISHING):
        assert await find_keys(status=status) == set()
    assert await find_keys(error_code="account_not_found") == set()
    assert await find_keys(since=late.created_at) >= {"late-1"}
    assert await find_keys(until=late.created_at) == {f"early-{number}" for number in range(1, 5)}
    assert await find_keys(
        since=late.created_at, until=late.created_at + timedelta(microseconds=1)
    ) == {"late-1"}
    for text in ("100% wool_", "scratchy", "/throws"):
        assert await find_keys(q=text) == {"late-1"}
    assert await find_keys(q="100_") == set()
    assert await find_keys(removed=True) == set()
    assert len(await find_keys(removed=False)) == 6


@pytest.mark.parametrize("sort", get_args(PinSort))
async def test_pins_are_listed_in_every_order(
    connect: Callable[..., Awaitable[Any]], listed: NewWorkspace, sort: str
) -> None:
    sdk = await connect(listed.api_key)
    order, _, direction = sort.rpartition("_")
    pins = await sdk.pins.list(sort=sort)
    values = [PIN_ORDERS[order](pin) for pin in pins]
    assert (len(values), values) == (6, sorted(values, reverse=direction == "desc"))
    assert await read_ids_in_pages(sdk.pins.list_page, sort=sort) == [pin.id for pin in pins]


async def read_ids_in_pages(list_page: Callable[..., Any], **options: Any) -> list[Any]:
    """Reads a list in pages of four with PinBridge's client, and returns all ids."""
    ids: list[Any] = []
    while True:
        page = await list_page(limit=4, offset=len(ids), **options)
        ids += [item.id for item in page.items]
        assert page.total == 6
        if not page.has_more:
            return ids


async def test_schedules_are_found_by_every_filter(sdk: Any, workspace: NewWorkspace) -> None:
    rows = rows_for(workspace, 4, prefix="later")
    for days, row in enumerate(rows, start=10):
        row["run_at"] = in_days(days).isoformat()
    rows[3] |= {
        "title": "100% Wool_Throw",
        "description": "Scratchy",
        "link_url": "https://shop.example/throws",
    }
    job = await import_rows(sdk, rows)
    first, second, third, special = [
        await sdk.schedules.get(row.schedule_id) for row in job.results
    ]
    await sdk.schedules.cancel(first.id)

    async def find_ids(**filters: Any) -> set[Any]:
        page = await sdk.schedules.list_page(**filters)
        assert page.items == await sdk.schedules.list(**filters)
        assert (page.total, page.has_more) == (len(page.items), False)
        return {schedule.id for schedule in page.items}

    everything = {first.id, second.id, third.id, special.id}
    assert await find_ids() == everything
    for account in workspace.accounts:
        expected = {
            schedule.id
            for schedule in (first, second, third, special)
            if schedule.pinterest_account_id == account.id
        }
        assert await find_ids(account_id=account.id) == expected
    board = first.payload["board_id"]
    assert await find_ids(board_id=board) == {
        schedule.id
        for schedule in (first, second, third, special)
        if schedule.payload["board_id"] == board
    }
    assert await find_ids(status="canceled") == {first.id}
    assert await find_ids(status=ScheduleStatus.SCHEDULED) == everything - {first.id}
    for status in (
        ScheduleStatus.QUEUED,
        ScheduleStatus.DEFERRED,
        ScheduleStatus.RUNNING,
        ScheduleStatus.DONE,
        ScheduleStatus.FAILED,
    ):
        assert await find_ids(status=status) == set()
    assert await find_ids(since=third.run_at) == {third.id, special.id}
    assert await find_ids(until=third.run_at) == {first.id, second.id}
    for text in ("100% wool_", "scratchy", "/throws"):
        assert await find_ids(q=text) == {special.id}
    assert await find_ids(q="100_") == set()


@pytest.mark.parametrize("sort", get_args(ScheduleSort))
async def test_schedules_are_listed_in_every_order(
    connect: Callable[..., Awaitable[Any]], listed: NewWorkspace, sort: str
) -> None:
    sdk = await connect(listed.api_key)
    order, _, direction = sort.rpartition("_")
    schedules = await sdk.schedules.list(sort=sort)
    values = [SCHEDULE_ORDERS[order](schedule) for schedule in schedules]
    assert (len(values), values) == (6, sorted(values, reverse=direction == "desc"))
    assert await read_ids_in_pages(sdk.schedules.list_page, sort=sort) == [
        schedule.id for schedule in schedules
    ]


async def test_an_invalid_filter_value_is_refused_with_the_parameters_name(sdk: Any) -> None:
    for wrong in (
        {"status": "lost"},
        {"sort": "title"},
        {"since": "yesterday"},
        {"limit": 0},
        {"offset": -1},
    ):
        for lists in (sdk.pins, sdk.schedules):
            with pytest.raises(ValidationError) as refused:
                await lists.list(**wrong)
            assert (refused.value.code, next(iter(wrong)) in refused.value.message) == (
                "invalid_parameter",
                True,
            )
