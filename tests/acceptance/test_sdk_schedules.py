"""PinBridge's clients create, edit, cancel, revive and delete schedules. Due ones are published."""

from typing import Any
from uuid import uuid4

import pytest
from pinbridge_sdk.errors import APIError, NotFoundError, ValidationError
from pinbridge_sdk.models.common import PinStatus, ScheduleStatus
from pinbridge_sdk.models.schedules import ScheduleCreate, ScheduleUpdate

from deploy.administration import NewWorkspace
from tests.acceptance.clients import in_days, send_with_run_at_soon
from tests.acceptance.rows import rows_for
from tests.support.waiting import eventually


def build_schedule(workspace: NewWorkspace, **fields: Any) -> dict[str, Any]:
    """Builds the fields of a schedule, without an idempotency key."""
    row = rows_for(workspace, 1, prefix="x", **{"run_at": in_days(30).isoformat(), **fields})[0]
    del row["idempotency_key"]
    return row


async def test_a_schedule_is_created_and_read(sdk: Any, workspace: NewWorkspace) -> None:
    fields = build_schedule(workspace)
    created = await sdk.schedules.create(ScheduleCreate(**fields))
    assert (created.status, created.run_at.isoformat(), created.pin_id) == (
        ScheduleStatus.SCHEDULED,
        fields["run_at"],
        None,
    )
    assert (created.payload["title"], str(created.pinterest_account_id)) == (
        fields["title"],
        fields["account_id"],
    )
    fetched = await sdk.schedules.get(created.id)
    assert fetched == created
    assert [schedule.id for schedule in await sdk.schedules.list()] == [created.id]
    assert await sdk.pins.list() == []


async def test_a_schedule_is_checked_without_being_stored(
    sdk: Any, workspace: NewWorkspace
) -> None:
    good = await sdk.schedules.validate(ScheduleCreate(**build_schedule(workspace)))
    assert (good.valid, good.dry_run) == (True, True)
    bad = await sdk.schedules.validate(build_schedule(workspace, board_id="nowhere"))
    assert (bad.valid, [check.name for check in bad.checks if check.status.value == "failed"]) == (
        False,
        ["board"],
    )
    past = await sdk.schedules.validate(build_schedule(workspace, run_at=in_days(-1).isoformat()))
    assert not past.valid
    assert await sdk.schedules.list() == []


async def test_a_schedule_is_edited_until_it_is_due(sdk: Any, workspace: NewWorkspace) -> None:
    created = await sdk.schedules.create(build_schedule(workspace))
    at = in_days(60)
    edited = await sdk.schedules.update(
        created.id, ScheduleUpdate(run_at=at, title="Another title", description=None)
    )
    assert (edited.id, edited.run_at, edited.payload["title"]) == (created.id, at, "Another title")
    assert "description" not in edited.payload
    assert edited.payload["link_url"] == created.payload["link_url"]
    with pytest.raises(ValidationError) as past:
        await sdk.schedules.update(created.id, {"run_at": in_days(-1).isoformat()})
    assert past.value.code == "run_at_in_past"


async def test_a_canceled_schedule_is_revived(sdk: Any, workspace: NewWorkspace) -> None:
    created = await sdk.schedules.create(build_schedule(workspace))
    for _ in range(2):
        canceled = await sdk.schedules.cancel(created.id)
        assert (canceled.id, canceled.status) == (created.id, ScheduleStatus.CANCELED)
    with pytest.raises(APIError) as refused:
        await sdk.schedules.update(created.id, {"title": "Too late"})
    assert (refused.value.status_code, refused.value.code) == (409, "schedule_not_pending")
    revived = await sdk.schedules.retry(created.id)
    assert (revived.id, revived.status, revived.run_at) == (
        created.id,
        ScheduleStatus.SCHEDULED,
        created.run_at,
    )


async def test_a_schedule_that_is_due_becomes_a_pin(sdk: Any, workspace: NewWorkspace) -> None:
    created = await send_with_run_at_soon(
        lambda run_at: sdk.schedules.create(build_schedule(workspace, run_at=run_at))
    )

    async def done() -> Any:
        fetched = await sdk.schedules.get(created.id)
        return fetched if fetched.status is ScheduleStatus.DONE else None

    schedule = await eventually(done, seconds=40)
    pin = await sdk.pins.get(schedule.pin_id)
    assert (pin.status, pin.title) == (PinStatus.PUBLISHED, created.payload["title"])
    for too_late in (sdk.schedules.cancel, sdk.schedules.retry, sdk.schedules.delete):
        with pytest.raises(APIError) as refused:
            await too_late(created.id)
        assert refused.value.status_code == 409


async def test_a_schedule_is_deleted(sdk: Any, workspace: NewWorkspace) -> None:
    created = await sdk.schedules.create(build_schedule(workspace))
    assert await sdk.schedules.delete(created.id) is None
    with pytest.raises(NotFoundError):
        await sdk.schedules.get(created.id)
    assert await sdk.schedules.list() == []


async def test_many_schedules_are_canceled_revived_and_deleted_at_once(
    sdk: Any, workspace: NewWorkspace
) -> None:
    ids = [(await sdk.schedules.create(build_schedule(workspace))).id for _ in range(3)]

    async def statuses() -> list[ScheduleStatus]:
        return [(await sdk.schedules.get(schedule_id)).status for schedule_id in ids]

    canceled = await sdk.schedules.bulk_cancel([*ids, uuid4()])
    assert (canceled.succeeded_count, len(canceled.results)) == (3, 4)
    assert await statuses() == [ScheduleStatus.CANCELED] * 3
    revived = await sdk.schedules.bulk_retry(ids[:2])
    assert [(result.id, result.status) for result in revived.results] == [
        (schedule_id, "succeeded") for schedule_id in ids[:2]
    ]
    assert await statuses() == [ScheduleStatus.SCHEDULED] * 2 + [ScheduleStatus.CANCELED]
    deleted = await sdk.schedules.bulk_delete(ids)
    assert (deleted.succeeded_count, deleted.skipped_count, deleted.failed_count) == (3, 0, 0)
    assert await sdk.schedules.list() == []
