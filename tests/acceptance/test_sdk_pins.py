"""PinBridge's clients publish, import, edit, retry and delete pins."""

from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from pinbridge_sdk.errors import APIError, NotFoundError, ValidationError
from pinbridge_sdk.models.common import ImportJobStatus, ImportSourceType, PinStatus
from pinbridge_sdk.models.pins import PinCreate, PinImportCreate, PinRetryRequest, PinUpdate

from deploy.administration import NewWorkspace
from tests.acceptance.clients import create_failed_pins, import_rows, in_days, wait_for_import
from tests.acceptance.rows import rows_for

CSV = """\
account_id,board_id,title,image_url,idempotency_key
{account},{board},Shelf,https://cdn.example/s.jpg,csv-1
{account},{board},,,csv-2
"""


def build_csv(workspace: NewWorkspace) -> str:
    account = workspace.accounts[0]
    return CSV.format(account=account.id, board=account.boards[0])


async def test_rows_are_imported_and_followed_to_their_pins(
    sdk: Any, workspace: NewWorkspace
) -> None:
    now, later = rows_for(workspace, 2, prefix="json")
    at = in_days(30)
    accepted = await sdk.pins.import_json([now, PinImportCreate(**later, run_at=at)])
    assert (accepted.total_rows, accepted.source_type) == (2, ImportSourceType.JSON)
    await wait_for_import(sdk, accepted.id)
    job = await sdk.pins.get_import(accepted.id)
    assert (job.status, job.created_rows, job.failed_rows) == (ImportJobStatus.COMPLETED, 2, 0)
    pin = await sdk.pins.get(job.results[0].pin_id)
    assert (pin.idempotency_key, pin.status, pin.pinterest_pin_id) == (
        "json-1",
        PinStatus.PUBLISHED,
        None,
    )
    schedule = await sdk.schedules.get(job.results[1].schedule_id)
    assert (schedule.run_at, schedule.pin_id) == (at, None)


async def test_a_csv_is_imported_and_its_wrong_row_fails_alone(
    sdk: Any, workspace: NewWorkspace
) -> None:
    text = build_csv(workspace)
    accepted = await sdk.pins.import_csv(BytesIO(text.encode()), filename="autumn.csv")
    job = await wait_for_import(sdk, accepted.id)
    assert (job.source_filename, job.source_type, job.status) == (
        "autumn.csv",
        ImportSourceType.CSV,
        ImportJobStatus.COMPLETED_WITH_ERRORS,
    )
    results = [(row.row_number, row.status, row.error_code) for row in job.results]
    assert results == [(1, "created", None), (2, "failed", "validation_error")]


async def test_imports_are_listed_by_status_and_source(sdk: Any, workspace: NewWorkspace) -> None:
    good = await import_rows(sdk, rows_for(workspace, 1, prefix="good"))
    bad = await import_rows(sdk, rows_for(workspace, 1, prefix="bad", board_id="nowhere"))
    upload = await sdk.pins.import_csv(build_csv(workspace).encode(), filename="a.csv")
    await wait_for_import(sdk, upload.id)
    assert [job.id for job in await sdk.pins.list_imports()] == [upload.id, bad.id, good.id]
    assert [job.id for job in await sdk.pins.list_imports(source_type=ImportSourceType.CSV)] == [
        upload.id
    ]
    by_status = {
        status: [job.id for job in await sdk.pins.list_imports(status=status)]
        for status in ImportJobStatus
    }
    assert by_status == {
        ImportJobStatus.QUEUED: [],
        ImportJobStatus.PROCESSING: [],
        ImportJobStatus.COMPLETED: [good.id],
        ImportJobStatus.COMPLETED_WITH_ERRORS: [upload.id],
        ImportJobStatus.FAILED: [bad.id],
    }
    assert [job.id for job in await sdk.pins.list_imports(limit=1, offset=1)] == [bad.id]
    assert await sdk.pins.list_imports(offset=5) == []


async def test_a_pin_is_published_once_under_its_key(sdk: Any, workspace: NewWorkspace) -> None:
    (row,) = rows_for(
        workspace,
        1,
        prefix="single",
        related_terms=["lamp", "light"],
        dominant_color="6e7874",
        alt_text="A lamp",
    )
    created = await sdk.pins.create(PinCreate(**row))
    again = await sdk.pins.create(row)
    assert again == created
    assert (
        created.status,
        created.media_type.value,
        created.related_terms,
        created.dominant_color,
    ) == (
        PinStatus.PUBLISHED,
        "image",
        ["lamp", "light"],
        "#6E7874",
    )
    fetched = await sdk.pins.get(created.id)
    assert fetched == created


async def test_the_publishing_of_a_pin_is_a_job(sdk: Any, workspace: NewWorkspace) -> None:
    pin = await sdk.pins.create(rows_for(workspace, 1, prefix="job")[0])
    job = await sdk.jobs.get(pin.id)
    assert (job.job_id, job.pin_id, job.status, job.completed_at) == (
        pin.id,
        pin.id,
        PinStatus.PUBLISHED,
        pin.published_at,
    )
    with pytest.raises(NotFoundError):
        await sdk.jobs.get(uuid4())


async def test_a_pin_is_checked_without_being_stored(sdk: Any, workspace: NewWorkspace) -> None:
    (row,) = rows_for(workspace, 1, prefix="dry")
    good = await sdk.pins.validate(PinCreate(**row))
    assert (good.valid, good.dry_run, good.existing_pin_id) == (True, True, None)
    assert {check.status.value for check in good.checks} <= {"passed", "skipped"}
    assert good.resolved["title"] == row["title"]
    bad = await sdk.pins.validate({**row, "board_id": "nowhere"})
    assert (bad.valid, [check.name for check in bad.checks if check.status.value == "failed"]) == (
        False,
        ["board"],
    )
    assert await sdk.pins.list() == []
    pin = await sdk.pins.create(row)
    taken = await sdk.pins.validate(row)
    assert taken.existing_pin_id == pin.id


async def test_a_batch_answers_for_each_pin(sdk: Any, workspace: NewWorkspace) -> None:
    rows = rows_for(workspace, 3, prefix="batch")
    existing = await sdk.pins.create(rows[0])
    rows[2]["board_id"] = "nowhere"
    batch = await sdk.pins.create_batch([rows[0], PinCreate(**rows[1]), rows[2]])
    assert (batch.created_count, batch.existing_count, batch.failed_count) == (1, 1, 1)
    assert [
        (result.index, result.idempotency_key, result.status.value) for result in batch.results
    ] == [
        (0, "batch-1", "existing"),
        (1, "batch-2", "created"),
        (2, "batch-3", "failed"),
    ]
    assert batch.results[0].pin == existing
    assert batch.results[2].error["code"] == "board_not_found"


async def test_a_failed_pin_is_edited_and_published(sdk: Any, workspace: NewWorkspace) -> None:
    (failed,) = await create_failed_pins(sdk, workspace, 1)
    assert (failed.error_code, failed.published_at) == ("board_not_found", None)
    assert failed.failed_at is not None
    board = workspace.accounts[0].boards[0]
    edited = await sdk.pins.update(
        failed.id, PinUpdate(title="Another title", description=None, board_id=board)
    )
    assert (edited.title, edited.description, edited.board_id, edited.status) == (
        "Another title",
        None,
        board,
        PinStatus.FAILED,
    )
    published = await sdk.pins.retry(failed.id)
    assert (published.id, published.title, published.status, published.error_code) == (
        failed.id,
        "Another title",
        PinStatus.PUBLISHED,
        None,
    )
    with pytest.raises(APIError) as refused:
        await sdk.pins.update(failed.id, {"title": "Too late"})
    assert (refused.value.status_code, refused.value.code) == (409, "pin_already_published")


async def test_failed_pins_are_retried_on_another_board_and_in_bulk(
    sdk: Any, workspace: NewWorkspace
) -> None:
    first, second, third = await create_failed_pins(sdk, workspace, 3)
    account = workspace.accounts[1]
    moved = await sdk.pins.retry(
        first.id, PinRetryRequest(board_id=account.boards[1], account_id=account.id)
    )
    assert (moved.status, moved.board_id, moved.pinterest_account_id) == (
        PinStatus.PUBLISHED,
        account.boards[1],
        account.id,
    )
    await sdk.pins.update(second.id, {"board_id": workspace.accounts[0].boards[0]})
    retried = await sdk.pins.bulk_retry([second.id, third.id, first.id, uuid4()])
    outcomes = {result.id: result.status for result in retried.results}
    assert (outcomes[second.id], outcomes[third.id], len(outcomes)) == ("succeeded", "failed", 4)
    assert retried.succeeded_count == 1


async def test_pins_are_deleted_for_good(sdk: Any, workspace: NewWorkspace) -> None:
    rows = rows_for(workspace, 4, prefix="gone")
    first, second, third, fourth = [await sdk.pins.create(row) for row in rows]
    assert await sdk.pins.delete(first.id) is None
    deletion = await sdk.pins.delete(second.id, delete_from_pinterest=True)
    assert (deletion.id, deletion.deleted, deletion.removed_from_pinterest) == (
        second.id,
        True,
        False,
    )
    assert deletion.reason
    many = await sdk.pins.bulk_delete([third.id, uuid4()])
    assert (many.succeeded_count, len(many.results)) == (1, 2)
    assert [pin.id for pin in await sdk.pins.list()] == [fourth.id]
    with pytest.raises(NotFoundError):
        await sdk.pins.get(first.id)
    with pytest.raises(APIError) as deleted:
        await sdk.pins.create(rows[0])
    assert (deleted.value.status_code, deleted.value.code) == (409, "pin_deleted")


async def test_a_refused_import_raises_an_error_with_its_code(
    sdk: Any, workspace: NewWorkspace
) -> None:
    with pytest.raises(ValidationError) as empty:
        await sdk.pins.import_json([])
    assert (empty.value.status_code, empty.value.code) == (422, "empty_import")
    with pytest.raises(ValidationError) as columns:
        await sdk.pins.import_csv(b"title\nLamp\n", filename="a.csv")
    assert columns.value.code == "missing_columns"
    with pytest.raises(ValidationError) as invalid:
        await sdk.pins.create(
            {**rows_for(workspace, 1, prefix="invalid")[0], "board_id": "nowhere"}
        )
    assert invalid.value.code == "board_not_found"
