"""Direct calls for accounts that were ever connected to Pinterest (ADR 0047)."""

from uuid import UUID

import pytest
import pytest_asyncio

from services.publisher.generations import read_keys, release_keys
from services.publisher.pins.creation import OnMismatch
from services.publisher.pins.dry_run.report import CheckName, CheckStatus, Report
from shared.access.cache import BoardCache
from shared.access.model import BoardCheck, Destination
from shared.contract.errors import ApiError
from shared.contract.events import RowStatus
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.integration.publisher.delivered import IN_2090, KEY, Delivered
from tests.support.factories import BOARD


@pytest_asyncio.fixture(loop_scope="module")
async def account(database: Database, workspace: Workspace) -> Delivered:
    account = Delivered(database, workspace)
    await account.connect()
    return account


async def test_a_direct_call_queues_its_pin(account: Delivered) -> None:
    pin_of_key = await account.pins.publish(account.principal, account.document())
    pin = await account.pin()
    assert pin_of_key.is_new
    assert (pin["state"], pin["delivery"], pin["published_at"], pin["run_at"]) == (
        "queued",
        "pinterest",
        None,
        None,
    )
    assert await account.outbox() == ["queued"]


@pytest.mark.parametrize("change", ["queued", "publishing", "confirming"])
async def test_a_repeated_call_gets_the_pin_however_far_it_is(
    account: Delivered, change: str
) -> None:
    await account.pins.publish(account.principal, account.document())
    await account.change(f"state = '{change}'")
    pin_of_key = await account.pins.publish(account.principal, account.document())
    assert (pin_of_key.is_new, pin_of_key.row["state"]) == (False, change)
    with pytest.raises(ApiError) as caught:
        await account.pins.publish(
            account.principal, account.document(title="New"), on_mismatch=OnMismatch.FAIL
        )
    assert caught.value.code == "idempotency_key_reused"
    assert await account.outbox() == ["queued"]


async def test_a_batch_queues_the_pins_of_connected_accounts_only(account: Delivered) -> None:
    other = await account.workspace.add_account(BOARD)
    documents = [
        account.document(),
        account.document(idempotency_key="other", account_id=str(other)),
        account.document(),
    ]
    items = await account.bulk.publish(account.principal, {"pins": documents})
    assert [item.status for item in items] == [
        RowStatus.CREATED,
        RowStatus.CREATED,
        RowStatus.EXISTING,
    ]
    states = [(await account.pin(account.pin_id(key)))["state"] for key in (KEY, "other")]
    assert states == ["queued", "published"]
    assert await account.outbox() == ["queued"]
    assert await account.outbox(account.pin_id("other")) == ["published"]


@pytest.mark.parametrize("in_batch", [False, True])
async def test_a_call_that_takes_a_released_key_queues_its_pin(
    account: Delivered, database: Database, in_batch: bool
) -> None:
    await account.pins.publish(account.principal, account.document())
    async with database.pipeline() as driver:
        await read_keys(driver, [account.pin_id()], lock=True)
        await release_keys(driver, [(account.pin_id(), account.pin_id())])
    if in_batch:
        pins = {"pins": [account.document()]}
        (item,) = await account.bulk.publish(account.principal, pins)
        row = item.row
    else:
        row = (await account.pins.publish(account.principal, account.document())).row
    assert row is not None
    assert (row["state"], row["delivery"], row["generation"]) == ("queued", "pinterest", 1)
    assert await account.outbox(row["pin_id"]) == ["queued"]


async def test_a_schedule_becomes_queued_when_it_is_due(account: Delivered) -> None:
    document = account.document(run_at=IN_2090)
    await account.schedules.create(account.principal, document, None)
    pin = await account.pin()
    assert (pin["state"], pin["delivery"]) == ("scheduled", "pinterest")
    await account.change("run_at = now() - interval '1 second'")
    assert await account.publish_due() == 1
    assert (await account.state(), await account.outbox()) == ("queued", ["scheduled", "queued"])
    again = await account.schedules.create(account.principal, document, None)
    assert (again.is_new, again.row["state"]) == (False, "queued")
    replayed = await account.pins.publish(account.principal, account.document())
    assert (replayed.is_new, replayed.row["state"]) == (False, "queued")


def find_check(report: Report, name: CheckName) -> tuple[CheckStatus, str]:
    (check,) = [check for check in report.checks if check.name is name]
    return check.status, check.message


async def test_a_dry_run_says_that_the_pin_would_be_delivered(account: Delivered) -> None:
    other = await account.workspace.add_account(BOARD)
    for account_id, is_delivered in ((account.workspace.account_id, True), (other, False)):
        document = account.document(account_id=str(account_id))
        report = await account.dry_run.check_pin(account.principal, document, None)
        assert report.valid
        _, message = find_check(report, CheckName.ACCOUNT)
        assert ("delivered to Pinterest" in message) is is_delivered


async def test_a_dry_run_warns_of_an_asset_that_cant_be_delivered(account: Delivered) -> None:
    asset = "a7a8c7f5-98a5-4b63-8f8c-4c2fd0b1e0d2"
    document = account.document(asset_id=asset, image_url=None)
    report = await account.dry_run.check_pin(account.principal, document, None)
    status, message = find_check(report, CheckName.MEDIA)
    assert status is CheckStatus.WARNING
    assert message.endswith("the pin would fail with media_rejected. Use image_url.")


async def test_a_dry_run_warns_of_what_pinterest_would_not_take(account: Delivered) -> None:
    odd = {
        "cover_image_url": "https://cdn.example/cover.jpg",
        "related_terms": ["lamp"],
        "link_url": "https://bit.ly/lamps",
    }
    codes = ["cover_ignored", "related_terms_ignored", "shortened_link"]
    other = await account.workspace.add_account(BOARD)
    for account_id, is_warned in ((account.workspace.account_id, True), (other, False)):
        document = account.document(account_id=str(account_id), **odd)
        later = {**document, "run_at": "2090-01-01T00:00:00Z"}
        pin = await account.dry_run.check_pin(account.principal, document, None)
        schedule = await account.dry_run.check_schedule(account.principal, later, None)
        for report in (pin, schedule):
            assert report.valid
            found = [check for check in report.checks if check.name is CheckName.DELIVERY]
            assert [check.details for check in found] == [{"codes": codes}] * is_warned
            assert [check.status for check in found] == [CheckStatus.WARNING] * is_warned
            assert [check.code for check in found] == ["cover_ignored"] * is_warned


async def test_a_dry_run_of_a_usual_pin_has_no_check_of_its_delivery(account: Delivered) -> None:
    report = await account.dry_run.check_pin(account.principal, account.document(), None)
    assert CheckName.DELIVERY not in {check.name for check in report.checks}


async def test_the_cache_knows_which_boards_belong_to_connected_accounts(
    account: Delivered,
) -> None:
    workspace = account.workspace
    other = await workspace.add_account(BOARD)
    connected = Destination(workspace.id, workspace.account_id, BOARD)
    gone = connected._replace(board_id="404")
    unconnected = connected._replace(account_id=other)
    cache = BoardCache(workspace.access)
    for _ in range(2):  # the second answer is from the cache
        checks = await cache.check([connected, gone, unconnected])
        assert checks.failing == {gone: BoardCheck.NO_BOARD}
        assert set(checks.connected) == {connected, gone}
    assert await cache.check([unconnected]) == ({}, frozenset())


async def test_a_connection_of_another_workspace_does_not_count(account: Delivered) -> None:
    destination = Destination(account.workspace.id, account.workspace.account_id, BOARD)
    elsewhere = destination._replace(workspace_id=UUID(int=1))
    checks = await account.workspace.access.check_destinations([elsewhere, destination])
    assert checks[elsewhere] == (BoardCheck.NO_ACCOUNT, False)
    assert checks[destination] == (BoardCheck.KNOWN, True)
