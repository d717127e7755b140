"""Lists of what one import created, with the other filters and in every order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.ingest.ids import new_job_id
from services.publisher.creation_times import find_creation_window
from services.publisher.pins.lists.sorting import PinSort, ScheduleSort
from shared.contract.events import MAX_ROWS
from shared.postgres.database import Database
from tests.integration.conftest import make_workspace
from tests.integration.publisher.conftest import Client
from tests.integration.publisher.imports import Import, later


@pytest.fixture
async def job(client: Client, database: Database) -> Import:
    """An import with published, waiting, due, done and canceled rows, among other pins."""
    before = Import(client, database, {}, {"run_at": later()})
    await before.settle()
    times = [None, None, *(later(hours=number) for number in (5, 3, 4, 2))]
    job = Import(client, database, *[{"run_at": time} for time in times])
    results = await job.settle()
    after = Import(client, database, {}, {"run_at": later()})
    await after.settle()
    await client.publish_pin()
    await client.make_due({"id": str(results[5].schedule_id)})
    await client.publish_due()
    await client.make_due({"id": str(results[4].schedule_id)})
    await client.post(f"/v1/schedules/{results[3].schedule_id}/cancel")
    return job


async def list_rows(client: Client, job: Import, path: str) -> list[int]:
    """Lists what the import created. Returns the row numbers, in the list's order."""
    separator = "&" if "?" in path else "?"
    answer = await client.get(f"{path}{separator}job_id={job.job_id}")
    assert answer.status_code == 200, answer.text
    titles = [_get_key(item) for item in answer.json()]
    return [
        next(row.row_number for row in job.rows if row.row.idempotency_key == key) for key in titles
    ]


def _get_key(item: dict[str, Any]) -> str:
    key: str = (
        item["idempotency_key"] if "idempotency_key" in item else item["payload"]["idempotency_key"]
    )
    return key


async def test_a_list_has_only_what_the_import_created(client: Client, job: Import) -> None:
    assert await list_rows(client, job, "/v1/pins") == [6, 5, 2, 1]
    assert sorted(await list_rows(client, job, "/v1/schedules")) == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/pins?status=published", [6, 2, 1]),
        ("/v1/pins?status=queued", [5]),
        ("/v1/pins?status=failed", []),
        ("/v1/pins?sort=created_at_asc&limit=2", [1, 2]),
        ("/v1/schedules?status=scheduled", [3]),
        ("/v1/schedules?status=queued", [5]),
        ("/v1/schedules?status=done", [6]),
        ("/v1/schedules?status=canceled", [4]),
        ("/v1/schedules?status=failed", []),
        ("/v1/schedules?sort=created_at_asc", [3, 4, 5, 6]),
    ],
)
async def test_the_filter_combines_with_others(
    client: Client, job: Import, path: str, expected: list[int]
) -> None:
    assert await list_rows(client, job, path) == expected


@pytest.mark.parametrize("sort", [*PinSort, *ScheduleSort])
async def test_every_order_has_the_same_items(client: Client, job: Import, sort: str) -> None:
    if sort in [*PinSort]:
        assert sorted(await list_rows(client, job, f"/v1/pins?sort={sort}")) == [1, 2, 5, 6]
    if sort in [*ScheduleSort]:
        assert sorted(await list_rows(client, job, f"/v1/schedules?sort={sort}")) == [3, 4, 5, 6]


async def test_a_deleted_pin_is_in_no_list(client: Client, job: Import) -> None:
    await job.undo()
    assert await list_rows(client, job, "/v1/pins") == []
    assert await list_rows(client, job, "/v1/schedules") == [4]


@pytest.mark.parametrize(
    "job_id",
    [
        "00000000-0000-0000-0000-000000000000",
        "7b0f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
)
async def test_an_id_that_no_import_has_lists_nothing(client: Client, job_id: str) -> None:
    await client.publish_pin()
    for path in ("/v1/pins", "/v1/schedules"):
        answer = await client.get(f"{path}?job_id={job_id}")
        assert (answer.status_code, answer.json()) == (200, [])


async def test_invariant_10_another_workspaces_import_lists_nothing(
    client: Client, job: Import, database: Database
) -> None:
    other = await make_workspace(database)
    for path in ("/v1/pins", "/v1/schedules"):
        answer = await client.send("GET", f"{path}?job_id={job.job_id}", **other.headers)
        assert (answer.status_code, answer.json()) == (200, [])


def test_the_window_of_a_job_contains_all_its_pins() -> None:
    start = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    for microseconds in (0, 1, 999, 1000, 500_999):
        accepted_at = start + timedelta(microseconds=microseconds)
        window = find_creation_window(new_job_id(accepted_at))
        assert window is not None
        first, last = (accepted_at + timedelta(microseconds=row) for row in (1, MAX_ROWS))
        assert window.accepted_from <= first <= last < window.created_until
