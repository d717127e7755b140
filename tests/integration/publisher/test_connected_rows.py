"""Rows of accounts that were ever connected to Pinterest, on the real Postgres (ADR 0047)."""

from datetime import UTC, datetime
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio
from msgspec.structs import replace

from services.publisher.generations import read_keys, release_keys
from services.publisher.ids import compute_generation_id
from services.publisher.rows.outcome_history_parsing import parse_outcomes
from services.publisher.rows.records import build_outcome_records
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from shared.access.cache import BoardCache
from shared.contract.events import OnExisting, RowStatus
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.topics import TopicName
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.integration.publisher.delivered import IN_2090, KEY, Delivered, find_ids
from tests.property.records import build_consumer_records
from tests.support.factories import BOARD

UPDATE, REVIVE = OnExisting.UPDATE, OnExisting.REVIVE


@pytest_asyncio.fixture(loop_scope="module")
async def account(database: Database, workspace: Workspace) -> Delivered:
    account = Delivered(database, workspace)
    await account.connect()
    return account


async def test_a_row_is_created_when_its_pin_is_queued(account: Delivered) -> None:
    row = account.row()
    settled = await account.settle(row)
    pin_id, pin = account.pin_id(), await account.pin()
    assert find_ids(settled.results) == [("created", pin_id, None)]
    assert (pin["state"], pin["delivery"], pin["published_at"]) == ("queued", "pinterest", None)
    assert settled.event_ids == [f"{pin_id}:queued"]
    assert dict(settled.events[0].headers)["ce_type"] == b"pinflow.pin.queued.v1"


async def test_invariant_4_a_row_is_redelivered_the_same_in_every_state(
    account: Delivered,
) -> None:
    """Also after Pinterest has the pin: only the delivery process announces that."""
    row = account.row()
    first = await account.settle(row)
    events = [record.value for record in first.events]
    changes = ["state = 'publishing'", "state = 'confirming'", "state = 'queued'"]
    for change in changes:
        await account.change(change)
        again = await account.settle(row)
        assert find_ids(again.results) == find_ids(first.results)
        assert [record.value for record in again.events] == events
    await account.deliver()
    again = await account.settle(row)
    assert (again.event_ids, find_ids(again.results)) == (
        first.event_ids,
        find_ids(first.results),
    )
    assert [record.value for record in again.events] == events


async def test_a_batch_with_both_kinds_of_accounts_delivers_only_the_connected(
    account: Delivered,
) -> None:
    other = await account.workspace.add_account(BOARD)
    rows = [
        account.row(idempotency_key="connected"),
        account.row(idempotency_key="later", run_at=IN_2090),
        account.row(idempotency_key="other", account_id=str(other)),
        account.row(idempotency_key="other later", account_id=str(other), run_at=IN_2090),
    ]
    settled = await account.settle(*rows)
    assert {result.status for result in settled.results} == {RowStatus.CREATED}
    keys = [row.row.idempotency_key for row in rows]
    pins = [await account.pin(account.pin_id(key)) for key in keys]
    assert [(pin["state"], pin["delivery"]) for pin in pins] == [
        ("queued", "pinterest"),
        ("scheduled", "pinterest"),
        ("published", None),
        ("scheduled", None),
    ]
    assert sorted(settled.event_ids) == sorted(
        f"{account.pin_id(key)}:{change}"
        for key, change in zip(keys, ("queued", "scheduled", "published", "scheduled"), strict=True)
    )


async def test_an_event_of_an_unconnected_row_has_no_further_field(account: Delivered) -> None:
    other = await account.workspace.add_account(BOARD)
    settled = await account.settle(account.row(account_id=str(other)))
    (event,) = settled.events
    assert list(orjson.loads(event.value)) == [
        "version",
        "pin_id",
        "workspace_id",
        "account_id",
        "board_id",
        "idempotency_key",
        "job_id",
        "row_number",
        "published_at",
    ]


async def test_an_account_stays_connected_after_it_is_disconnected(account: Delivered) -> None:
    await account.execute(
        "update access.connections set disconnected_at = now() where account_id = :id",
        id=account.workspace.account_id,
    )
    await account.settle(account.row())
    assert await account.state() == "queued"


async def test_a_board_of_a_connected_account_is_a_number(account: Delivered) -> None:
    """A board of the time before the connection can't be on Pinterest."""
    workspace = account.workspace
    await workspace.operator.add_board(workspace.id, workspace.account_id, "lamps", name="Lamps")
    result = await account.settle_one(board_id="lamps")
    assert (result.status, result.error_code) == ("failed", "board_not_found")


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("state = 'queued'", "queued"),
        ("state = 'publishing'", "publishing"),
        ("state = 'confirming'", "publishing"),
    ],
)
async def test_an_existing_row_says_how_far_the_delivery_is(
    account: Delivered, change: str, state: str
) -> None:
    await account.settle(account.row())
    await account.change(change)
    result = await account.settle_one()
    assert (result.status, result.existing_state, result.pin_id, result.schedule_id) == (
        "existing",
        state,
        account.pin_id(),
        None,
    )


async def test_a_due_schedule_becomes_queued_and_shows_its_pin(account: Delivered) -> None:
    row = account.row(run_at=IN_2090)
    created = await account.settle(row)
    pin_id, schedule_id = account.pin_id(), derive_schedule_id(account.pin_id())
    assert find_ids(created.results) == [("created", None, schedule_id)]
    waiting = await account.settle_one()
    assert (waiting.pin_id, waiting.schedule_id) == (None, schedule_id)
    await account.change("run_at = now() - interval '1 second'")
    assert await account.publish_due() == 1
    pin = await account.pin()
    assert (pin["state"], pin["published_at"]) == ("queued", None)
    assert pin["run_at"] is not None
    assert await account.outbox() == ["queued"]
    queued = await account.settle_one()
    assert (queued.existing_state, queued.pin_id, queued.schedule_id) == (
        "queued",
        pin_id,
        schedule_id,
    )
    assert find_ids((await account.settle(row)).results) == find_ids(created.results)


async def test_a_due_schedule_fails_without_its_board(account: Delivered) -> None:
    await account.settle(account.row(run_at=IN_2090))
    await account.change("run_at = now() - interval '1 second', board_id = '404'")
    assert await account.publish_due() == 1
    assert (await account.state(), await account.outbox()) == ("failed", ["failed"])


# Updates


async def test_an_update_of_a_queued_pin_leaves_it_queued(account: Delivered) -> None:
    await account.settle(account.row())
    await account.change("deliver_after = now(), deferral_code = 'media_unreachable'")
    result = await account.settle_one(on_existing=UPDATE, title="New")
    pin = await account.pin()
    assert (result.updated, result.existing_state, result.pin_id) == (
        True,
        "queued",
        account.pin_id(),
    )
    assert (pin["title"], pin["state"], pin["run_at"]) == ("New", "queued", None)
    assert (pin["deliver_after"], pin["deferral_code"]) == (None, None)
    assert await account.outbox() == []


async def test_an_update_gives_a_queued_pin_a_time(account: Delivered) -> None:
    """The row that created it keeps reporting the same ids, also after its key is released."""
    row = account.row()
    first = await account.settle(row)
    result = await account.settle_one(on_existing=UPDATE, run_at=IN_2090)
    assert (result.existing_state, await account.state()) == ("scheduled", "scheduled")
    assert await account.outbox() == ["scheduled"]
    again = await account.settle(row)
    assert find_ids(again.results) == find_ids(first.results)
    assert again.event_ids == first.event_ids
    await release(account)
    assert find_ids((await account.settle(row)).results) == find_ids(first.results)
    successor = account.row()
    await account.settle(successor)
    assert find_ids((await account.settle(row)).results) == find_ids(first.results)


async def release(account: Delivered) -> None:
    async with account._database.pipeline() as driver:
        await read_keys(driver, [account.pin_id()], lock=True)
        await release_keys(driver, [(account.pin_id(), account.pin_id())])


async def test_an_update_queues_a_schedule_at_once(account: Delivered) -> None:
    await account.settle(account.row(run_at=IN_2090))
    await account.settle_one(on_existing=UPDATE)
    pin = await account.pin()
    assert pin["state"] == "queued"
    assert pin["run_at"] <= datetime.now(UTC)
    assert await account.outbox() == ["queued"]


async def test_an_update_queues_a_failed_pin_again(account: Delivered) -> None:
    await account.settle(account.row())
    await account.fail("media_unreachable")
    result = await account.settle_one(on_existing=UPDATE, image_url="https://img.example/new.png")
    assert (result.updated, await account.state()) == (True, "queued")
    assert await account.outbox() == ["queued"]


@pytest.mark.parametrize("change", ["state = 'publishing'", "state = 'confirming'"])
async def test_an_update_never_changes_a_pin_that_may_be_on_its_way(
    account: Delivered, change: str
) -> None:
    await account.settle(account.row())
    await account.change(change)
    before = await account.pin()
    result = await account.settle_one(on_existing=UPDATE, title="New")
    assert (result.status, result.updated, result.existing_state) == (
        "existing",
        None,
        "publishing",
    )
    assert await account.pin() == before


@pytest.mark.parametrize("code", ["publish_unconfirmed", "validation_error"])
async def test_an_update_never_sends_an_unconfirmed_pin_again(
    account: Delivered, code: str
) -> None:
    """Also if a later attempt was refused, and even if the attempts are lost."""
    await account.settle(account.row())
    if code != "publish_unconfirmed":
        await account.attempt("unconfirmed")
    await account.fail(code)
    before = await account.pin()
    result = await account.settle_one(on_existing=UPDATE, title="New")
    assert (result.updated, result.existing_state) == (None, "failed")
    assert await account.pin() == before


# Revival


async def delete(account: Delivered) -> None:
    await account.change("deleted_at = now(), touched_at = now()")


async def test_a_pin_that_was_never_sent_is_revived(account: Delivered) -> None:
    await account.settle(account.row())
    await delete(account)
    result = await account.settle_one(on_existing=REVIVE)
    second = compute_generation_id(account.workspace.id, KEY, 1)
    assert (result.status, result.pin_id) == ("created", second)
    pin = await account.pin(second)
    assert (pin["state"], pin["delivery"]) == ("queued", "pinterest")


@pytest.mark.parametrize("outcome", ["refused", "not_sent", "absent"])
async def test_a_pin_that_is_surely_not_on_pinterest_is_revived(
    account: Delivered, outcome: str
) -> None:
    await account.settle(account.row())
    await account.attempt(outcome)
    await delete(account)
    assert (await account.settle_one(on_existing=REVIVE)).status == "created"


@pytest.mark.parametrize("outcome", [None, "unconfirmed"])
async def test_a_deleted_pin_that_may_be_on_pinterest_is_not_revived(
    account: Delivered, outcome: str | None
) -> None:
    await account.settle(account.row())
    await account.attempt(outcome)
    await delete(account)
    result = await account.settle_one(on_existing=REVIVE)
    assert (result.status, result.existing_state) == ("existing", "deleted")
    assert await account.live_pins() == 0


async def test_a_deleted_pin_is_revived_only_after_its_removal_from_pinterest(
    account: Delivered,
) -> None:
    await account.settle(account.row())
    await account.deliver()
    await delete(account)
    assert (await account.settle_one(on_existing=REVIVE)).existing_state == "deleted"
    await account.change("removed_at = now()")
    assert (await account.settle_one(on_existing=REVIVE)).status == "created"


async def test_a_released_pin_is_no_longer_queued(account: Delivered) -> None:
    """Either it is canceled, or it is deleted: the index of queued pins has neither."""
    await account.settle(account.row(run_at=IN_2090))
    await account.change("run_at = now() - interval '1 second'")
    await account.publish_due()
    await release(account)
    pin = await account.pin()
    assert (pin["state"], pin["deleted_at"] is None) == ("cancelled", False)


# Restores


async def test_a_row_that_a_restored_postgres_lost_is_queued_even_if_its_account_is_revoked(
    account: Delivered, database: Database
) -> None:
    """Never published: the delivery process decides from its attempts what became of the pin."""
    row = account.row()
    service = RowService(RowRepository(database), BoardCache(account.workspace.access))
    records = build_outcome_records((await service.settle([row], advance=Advance())).outcomes)
    await account.execute("delete from publisher.pins where pin_id = :id", id=account.pin_id())
    await account.execute(
        "update access.accounts set revoked_at = now() where id = :id",
        id=account.workspace.account_id,
    )
    outcomes = parse_outcomes(build_consumer_records(TopicName.OUTCOMES, records))
    await RowRepository(database).record_outcomes(outcomes, Advance())
    other = Delivered(database, account.workspace)
    reserved = await other.settle_one(job_id=uuid4())
    assert (reserved.status, reserved.existing_state) == ("existing", "queued")
    again = await other.settle(row)
    assert find_ids(again.results) == [("created", account.pin_id(), None)]
    assert again.event_ids == [f"{account.pin_id()}:queued"]
    assert (await account.pin())["state"] == "queued"


async def test_a_row_without_a_connection_stays_published_after_one_is_made(
    database: Database, workspace: Workspace
) -> None:
    """The delivery of a pin never changes."""
    account = Delivered(database, workspace)
    row = account.row()
    first = await account.settle(row)
    await account.connect()
    later = Delivered(database, workspace)
    again = await later.settle(row, replace(later.row(), job_id=uuid4()))
    assert again.results[0] == first.results[0]
    assert again.event_ids == first.event_ids == [f"{account.pin_id()}:published"]
    assert again.results[1].existing_state == "published"
