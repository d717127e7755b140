"""PinBridge's public clients, unmodified, against Pinflow."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from pinbridge_sdk import AsyncPinbridgeClient, PinbridgeClient
from pinbridge_sdk.errors import APIError, AuthenticationError, NotFoundError, ValidationError

from deploy.administration import NewWorkspace
from tests.acceptance.rows import rows_for
from tests.deployment import Deployment
from tests.waiting import eventually

CSV = (
    "account_id,board_id,title,image_url,idempotency_key\n{account},board-1,Shelf,https://cdn.example/s.jpg,{key}\n{account},board-1,,,x\n"
)


@pytest.fixture
def sdk(pinflow: Deployment, workspace: NewWorkspace) -> Iterator[Any]:
    """Typed Any: the SDK adds its resources at run time."""
    with PinbridgeClient(base_url=pinflow.base_url, api_key=workspace.api_key) as client:
        yield client


async def ended(client: Any, job_id: object) -> Any:
    async def job() -> Any:
        found = await client.pins.get_import(str(job_id))
        return found if found.completed_at is not None else None

    return await eventually(job)


def test_the_sdk_imports_reads_and_lists(sdk: Any, workspace: NewWorkspace) -> None:
    accounts = sdk.pinterest.list_accounts()
    assert {account.id for account in accounts} == {account.id for account in workspace.accounts}
    boards = sdk.pinterest.list_boards(accounts[0].id)
    assert [board.id for board in boards] == ["board-1", "board-2", "board-3"]

    accepted = sdk.pins.import_json(rows_for(workspace, 3, prefix="sdk"))
    assert (accepted.total_rows, accepted.source_type.value) == (3, "json")
    text = CSV.format(account=accounts[0].id, key="sdk-csv")
    uploaded = sdk.pins.import_csv(BytesIO(text.encode()), filename="autumn.csv")
    jobs = [_wait_for(sdk, one.id) for one in (accepted, uploaded)]
    assert [(job.created_rows, job.failed_rows) for job in jobs] == [(3, 0), (1, 1)]
    assert [result.status for result in jobs[1].results] == ["created", "failed"]
    assert jobs[1].source_filename == "autumn.csv"

    listed = sdk.pins.list_imports()
    assert [job.id for job in listed] == [uploaded.id, accepted.id]
    assert [job.id for job in sdk.pins.list_imports(source_type="csv")] == [uploaded.id]
    assert [job.id for job in sdk.pins.list_imports(status="completed")] == [accepted.id]
    assert sdk.pins.list_imports(limit=1, offset=5) == []

    pins = sdk.pins.list(limit=2)
    assert len(pins) == 2
    page = sdk.pins.list_page(limit=2, offset=2)
    assert page.total == 4
    pin = sdk.pins.get(jobs[0].results[0].pin_id)
    assert (pin.idempotency_key, pin.status.value, pin.pinterest_pin_id) == ("sdk-1", "published", None)


def _wait_for(sdk: Any, job_id: object) -> Any:
    def ended() -> Any:
        job = sdk.pins.get_import(str(job_id))
        return job if job.completed_at is not None else None

    return asyncio.run(eventually(ended))


def test_the_sdk_creates_one_pin_once(sdk: Any, workspace: NewWorkspace) -> None:
    (row,) = rows_for(workspace, 1, prefix="single")
    made, again = sdk.pins.create(row), sdk.pins.create(row)
    assert made.id == again.id
    assert made.status.value == "published"


def test_the_sdk_reads_a_schedule(sdk: Any, workspace: NewWorkspace) -> None:
    at = datetime.now(UTC) + timedelta(days=30)
    accepted = sdk.pins.import_json(rows_for(workspace, 1, prefix="later", run_at=at.isoformat()))
    job = _wait_for(sdk, accepted.id)
    schedule = sdk.schedules.get(job.results[0].schedule_id)
    assert (schedule.run_at, schedule.status.value, schedule.pin_id) == (at, "scheduled", None)


def test_the_sdk_reads_errors(sdk: Any, pinflow: Deployment, workspace: NewWorkspace) -> None:
    with pytest.raises(ValidationError) as empty:
        sdk.pins.import_json([])
    assert empty.value.code == "empty_import"
    with pytest.raises(NotFoundError):
        sdk.pins.get("no-uuid")
    stranger: Any = PinbridgeClient(base_url=pinflow.base_url, api_key="pf_wrong")
    with stranger, pytest.raises(AuthenticationError):
        stranger.pins.list()
    with pytest.raises(APIError) as invalid:
        sdk.pins.create({**rows_for(workspace, 1, prefix="invalid")[0], "board_id": "nowhere"})
    assert invalid.value.code == "board_not_found"


def test_the_sdk_reads_the_system(sdk: Any) -> None:
    assert sdk.system.root().service == "pinflow"
    assert sdk.system.health().status == "ok"
    assert sdk.system.readiness().status == "ok"


async def test_the_asynchronous_sdk_does_the_same(pinflow: Deployment, workspace: NewWorkspace) -> None:
    sdk: Any = AsyncPinbridgeClient(base_url=pinflow.base_url, api_key=workspace.api_key)
    async with sdk:
        accepted = await sdk.pins.import_json(rows_for(workspace, 20, prefix="async"))
        job = await ended(sdk, accepted.id)
        assert (job.status.value, job.created_rows) == ("completed", 20)
        text = CSV.format(account=workspace.accounts[0].id, key="async-csv")
        uploaded = await sdk.pins.import_csv(BytesIO(text.encode()), filename="a.csv")
        await ended(sdk, uploaded.id)
        assert [job.id for job in await sdk.pins.list_imports(limit=1)] == [uploaded.id]
        assert len(await sdk.pins.list(limit=50)) == 21
        assert len(await sdk.pinterest.list_accounts()) == 2
        assert len(await sdk.pinterest.list_boards(workspace.accounts[1].id)) == 3
