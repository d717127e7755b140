"""The delivery worker and its SQL on a real Postgres: claims, crashes and recorded results."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count as count_from
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import func, insert, select, update

from services.webhooks.delivery.delay_gauge import DeliveryDelayGauge
from services.webhooks.delivery.in_flight import InFlightCounts
from services.webhooks.delivery.model import (
    AttemptResult,
    Capacity,
    ClaimedDelivery,
    DeliveryStatus,
    DisabledReason,
    DisabledWebhook,
    InFlight,
    NewDelivery,
    ReceiverResponse,
)
from services.webhooks.delivery.policy import DisablePolicy, RetryPolicy
from services.webhooks.delivery.repository import CLAIM, IN_FLIGHT_COLUMNS, DeliveryRepository
from services.webhooks.delivery.retention import DeliveryRetention
from services.webhooks.delivery.worker import DeliveryWorker
from services.webhooks.ids import compute_delivery_id
from services.webhooks.subscriptions import repository as subscriptions
from services.webhooks.tables import deliveries, webhooks
from shared.contract.errors import DatabaseUnavailable
from shared.kafka.positions.advance import Advance
from shared.postgres.arrays import to_columns
from shared.postgres.database import Database, driver_connection
from shared.postgres.row import Row
from shared.runtime import metrics

CLAIM_SECONDS = 60.0
POLICY = RetryPolicy(max_attempts=2, first_pause_seconds=600, factor=1, max_pause_seconds=600)
SUCCESS, FAILURE = ReceiverResponse(204, None), ReceiverResponse(500, "answered 500")


@pytest_asyncio.fixture(loop_scope="module")
async def store(database: Database) -> AsyncIterator[DeliveryRepository]:
    """Empties the tables first, or a test would claim another test's deliveries."""
    async with database.transaction() as connection:
        await connection.exec_driver_sql("truncate webhooks.endpoints, webhooks.deliveries")
    yield DeliveryRepository(database)


async def add_webhook(database: Database, **fields: Any) -> UUID:
    values = {
        "webhook_id": uuid4(),
        "workspace_id": uuid4(),
        "url": "http://hooks.example/",
        "secret": "s" * 16,
        "is_enabled": True,
        **fields,
    }
    async with database.transaction() as connection:
        await connection.execute(insert(webhooks).values(events=["pin.published"], **values))
    return UUID(str(values["webhook_id"]))


_numbers = count_from(time.time_ns() // 1_000_000)


def new_deliveries(webhook_id: UUID, count: int) -> list[NewDelivery]:
    """Builds deliveries of events that were announced a millisecond apart."""
    numbered = [(number, f"evt_{number}") for number in islice(_numbers, count)]
    return [
        NewDelivery(
            webhook_id, compute_delivery_id(webhook_id, event, number), event, "pin.published", "{}"
        )
        for number, event in numbered
    ]


async def enqueue(database: Database, store: DeliveryRepository, count: int, **fields: Any) -> UUID:
    webhook_id = await add_webhook(database, **fields)
    assert await store.enqueue(new_deliveries(webhook_id, count), Advance()) == count
    return webhook_id


def claim_values(limit: int, *, per_webhook: int) -> list[object]:
    limits = (per_webhook, per_webhook, 100, 100, limit, limit)
    return [*to_columns(IN_FLIGHT_COLUMNS, []), *limits, CLAIM_SECONDS]


async def claim(
    store: DeliveryRepository,
    limit: int = 100,
    *in_flight: InFlight,
    per_webhook: int = 100,
    per_workspace: int = 100,
    failing: int = 100,
) -> list[ClaimedDelivery]:
    capacity = Capacity(limit, failing, per_webhook, per_workspace)
    return await store.claim(capacity, in_flight, CLAIM_SECONDS)


def disable_policy(deliveries: int) -> DisablePolicy:
    return DisablePolicy(deliveries, 1000, 0)


def result(
    delivery: ClaimedDelivery,
    status: DeliveryStatus = DeliveryStatus.DELIVERED,
    *,
    pause_ms: int = 0,
    is_gone: bool = False,
) -> AttemptResult:
    response = SUCCESS if status is DeliveryStatus.DELIVERED else FAILURE
    return AttemptResult(
        delivery.webhook_id,
        delivery.delivery_id,
        delivery.tries,
        status,
        pause_ms,
        response.status_code,
        response.error,
        is_gone,
    )


async def rows(database: Database, webhook_id: UUID) -> list[Row]:
    return await database.fetch_all(
        select(deliveries)
        .where(deliveries.c.webhook_id == webhook_id)
        .order_by(deliveries.c.delivery_id)
    )


async def statuses(database: Database, webhook_id: UUID) -> list[str]:
    return [row["status"] for row in await rows(database, webhook_id)]


async def test_a_delivery_that_is_enqueued_again_is_stored_once(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await add_webhook(database)
    first = new_deliveries(webhook_id, 2)
    again = [delivery._replace(delivery_id=uuid4()) for delivery in first]
    assert [
        await store.enqueue(first + again, Advance()),
        await store.enqueue(again, Advance()),
    ] == [2, 0]
    assert [row["delivery_id"] for row in await rows(database, webhook_id)] == [
        delivery.delivery_id for delivery in first
    ]


async def test_two_workers_never_claim_the_same_delivery(
    database: Database, store: DeliveryRepository
) -> None:
    await enqueue(database, store, 60)
    claims = await asyncio.gather(*(claim(store, 10) for _ in range(6)), claim(store, 60))
    ids = [delivery.delivery_id for claim in claims for delivery in claim]
    assert len(ids) == len(set(ids)) == 60


async def test_a_dead_workers_deliveries_are_due_after_their_claims(
    database: Database, store: DeliveryRepository
) -> None:
    await enqueue(database, store, 3)
    claimed = await claim(store)
    assert (len(claimed), await claim(store)) == (3, [])
    await pass_time(database, CLAIM_SECONDS)
    assert {delivery.delivery_id for delivery in await claim(store)} == {
        delivery.delivery_id for delivery in claimed
    }


async def pass_time(database: Database, seconds: float) -> None:
    """Lets deliveries be due that are due within this time."""
    earlier = deliveries.c.next_attempt_at - timedelta(seconds=seconds)
    async with database.transaction() as connection:
        await connection.execute(update(deliveries).values(next_attempt_at=earlier))


async def test_a_webhook_with_few_requests_in_flight_goes_before_a_large_backlog(
    database: Database, store: DeliveryRepository
) -> None:
    large_workspace, active_workspace = uuid4(), uuid4()
    crowded = await enqueue(database, store, 200, workspace_id=large_workspace)
    active_webhook = await enqueue(database, store, 5, workspace_id=active_workspace)
    active = InFlight(active_webhook, active_workspace, 2)
    quiet = await enqueue(database, store, 1)
    first = await claim(store, 4, active, per_webhook=3)
    assert [delivery.webhook_id for delivery in first].count(crowded) == 3
    assert quiet in {delivery.webhook_id for delivery in first}
    full = InFlight(crowded, large_workspace, 3)
    second = await claim(store, 100, full, active, per_webhook=3)
    assert [delivery.webhook_id for delivery in second] == [active.webhook_id]


async def test_a_healthy_webhook_goes_before_failing_ones_that_waited_longer(
    database: Database, store: DeliveryRepository
) -> None:
    hanging = [await enqueue(database, store, 20, failed_attempts=1) for _ in range(6)]
    healthy = await enqueue(database, store, 2)
    assert [delivery.webhook_id for delivery in await claim(store, 2)] == [healthy] * 2
    claimed = await claim(store, 100, failing=4)
    assert {delivery.webhook_id for delivery in claimed} < set(hanging)
    assert (len(claimed), {delivery.is_failing for delivery in claimed}) == (4, {True})


async def test_the_failing_webhook_with_the_fewest_failures_goes_first(
    database: Database, store: DeliveryRepository
) -> None:
    """Otherwise one 500 response would put a webhook behind the backlogs of hanging receivers."""
    for _ in range(3):
        await enqueue(database, store, 20, failed_attempts=7)
    failed_once = await enqueue(database, store, 1, failed_attempts=1)
    assert [delivery.webhook_id for delivery in await claim(store, failing=1)] == [failed_once]


async def test_a_workspace_stays_within_its_limit_with_many_webhooks(
    database: Database, store: DeliveryRepository
) -> None:
    greedy = uuid4()
    webhooks = [await enqueue(database, store, 9, workspace_id=greedy) for _ in range(5)]
    other = await enqueue(database, store, 2)
    claimed = await claim(
        store, 100, InFlight(webhooks[0], greedy, 3), per_webhook=4, per_workspace=8
    )
    assert [delivery.workspace_id for delivery in claimed].count(greedy) == 5
    assert [delivery.webhook_id for delivery in claimed].count(other) == 2
    assert webhooks[0] not in {delivery.webhook_id for delivery in claimed}


async def test_the_workspace_with_the_fewest_requests_in_flight_goes_first(
    database: Database, store: DeliveryRepository
) -> None:
    """Otherwise slow receivers with large backlogs would take every slot that they free."""
    slow = uuid4()
    for _ in range(5):
        await enqueue(database, store, 9, workspace_id=slow)
    quick = await enqueue(database, store, 1)
    # A deleted webhook's request in flight still counts for its workspace
    deleted = InFlight(uuid4(), slow, 1)
    assert [delivery.webhook_id for delivery in await claim(store, 1, deleted)] == [quick]


async def test_a_claim_locks_only_the_deliveries_that_it_takes(
    database: Database, store: DeliveryRepository
) -> None:
    """The first claim has not committed. The second gets all other deliveries."""
    for _ in range(4):
        await enqueue(database, store, 1)
    async with database.pipeline() as driver:
        first = await (await driver.execute(CLAIM, claim_values(1, per_webhook=4))).fetchall()
        second = await claim(store, 4)
        assert (len(first), len(second)) == (1, 3)


async def test_a_disabled_or_deleted_webhooks_deliveries_wait(
    database: Database, store: DeliveryRepository
) -> None:
    await enqueue(database, store, 2, is_enabled=False)
    await store.enqueue(new_deliveries(uuid4(), 2), Advance())
    assert await claim(store) == []


async def test_a_late_failure_does_not_replace_a_success(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await enqueue(database, store, 1)
    (delivery,) = await claim(store)
    await store.record([result(delivery)], disable_policy(5))
    await store.record([result(delivery, DeliveryStatus.FAILED)], disable_policy(5))
    (row,) = await rows(database, webhook_id)
    assert (row["status"], row["attempt_count"], row["last_status_code"]) == ("delivered", 1, 204)


async def test_a_failure_that_is_recorded_twice_counts_once(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await enqueue(database, store, 1)
    (delivery,) = await claim(store)
    for _ in range(2):
        await store.record(
            [result(delivery, DeliveryStatus.PENDING, pause_ms=60_000)], disable_policy(5)
        )
    (row,) = await rows(database, webhook_id)
    assert (row["status"], row["attempt_count"], row["tries"], row["last_error"]) == (
        "pending",
        1,
        1,
        "answered 500",
    )
    assert (
        timedelta(seconds=50) < row["next_attempt_at"] - datetime.now(UTC) < timedelta(seconds=70)
    )


async def test_a_failed_attempt_counts_at_once_and_a_success_resets_the_count(
    database: Database, store: DeliveryRepository
) -> None:
    await enqueue(database, store, 3)
    first, second, third = await claim(store)
    assert not first.is_failing
    await store.record(
        [result(first, DeliveryStatus.PENDING), result(second, DeliveryStatus.PENDING)],
        disable_policy(5),
    )
    (again,) = await claim(store)
    assert again.is_failing
    await store.record([result(third)], disable_policy(5))
    assert [delivery.is_failing for delivery in await claim(store)] == [False]


async def test_consecutive_failures_disable_a_webhook_and_a_success_resets_the_count(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await enqueue(database, store, 6)
    claimed = await claim(store)
    failures = [result(delivery, DeliveryStatus.FAILED) for delivery in claimed]
    assert await store.record(failures[:2], disable_policy(3)) == []
    assert await store.record([result(claimed[2])], disable_policy(3)) == []
    assert await store.record(failures[3:5], disable_policy(3)) == []
    (disabled,) = await store.record(failures[5:], disable_policy(3))
    assert (disabled.webhook_id, disabled.reason) == (webhook_id, DisabledReason.FAILING)
    (row,) = await database.fetch_all(select(webhooks).where(webhooks.c.webhook_id == webhook_id))
    assert (row["is_enabled"], row["disabled_reason"], row["failures_in_a_row"]) == (
        False,
        "failing",
        3,
    )


async def test_attempts_that_fail_for_long_disable_a_webhook_without_a_failed_delivery(
    database: Database, store: DeliveryRepository
) -> None:
    """Each attempt at a hanging receiver with a backlog is for a different delivery."""
    webhook_id = await enqueue(database, store, 6)
    failures = [
        result(delivery, DeliveryStatus.PENDING, pause_ms=60_000) for delivery in await claim(store)
    ]
    assert await store.record(failures[:3], DisablePolicy(100, 4, 3600)) == []
    assert (
        await store.record(failures[3:5], DisablePolicy(100, 4, 3600)) == []
    )  # enough failures, but in too short a time
    async with database.transaction() as connection:
        await connection.exec_driver_sql(
            "update webhooks.endpoints set failing_since = failing_since - interval '1 hour'"
        )
    (disabled,) = await store.record(failures[5:], DisablePolicy(100, 4, 3600))
    assert (disabled.webhook_id, disabled.reason) == (webhook_id, DisabledReason.FAILING)


async def test_few_failed_attempts_never_disable_a_webhook(
    database: Database, store: DeliveryRepository
) -> None:
    await enqueue(database, store, 3)
    for delivery in await claim(store):
        assert (
            await store.record([result(delivery, DeliveryStatus.PENDING)], DisablePolicy(100, 4, 0))
            == []
        )


async def test_410_gone_disables_a_webhook_once(
    database: Database, store: DeliveryRepository
) -> None:
    await enqueue(database, store, 2)
    first, second = await claim(store)
    (disabled,) = await store.record(
        [result(first, DeliveryStatus.FAILED, is_gone=True)], disable_policy(5)
    )
    assert disabled.reason is DisabledReason.GONE
    assert (
        await store.record([result(second, DeliveryStatus.FAILED, is_gone=True)], disable_policy(5))
        == []
    )


async def delete_old(store: DeliveryRepository, now: datetime) -> int:
    return await DeliveryRetention(store, timedelta(days=7), lambda: now).delete_old_deliveries()


async def test_old_deliveries_and_those_of_deleted_webhooks_are_deleted(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await enqueue(database, store, 3)
    await store.enqueue(new_deliveries(uuid4(), 4), Advance())
    now = datetime.now(UTC)
    assert await delete_old(store, now) == 4
    assert await delete_old(store, now + timedelta(days=6)) == 0
    assert len(await rows(database, webhook_id)) == 3
    assert await delete_old(store, now + timedelta(days=8)) == 3


async def test_the_metric_shows_how_late_the_oldest_due_delivery_is(
    database: Database, store: DeliveryRepository
) -> None:
    await enqueue(database, store, 2, is_enabled=False)
    await DeliveryDelayGauge(store).measure()
    assert metrics.WEBHOOK_OLDEST_DUE_SECONDS._value.get() == 0
    await enqueue(database, store, 2)
    async with database.transaction() as connection:
        await connection.exec_driver_sql(
            "update webhooks.deliveries set next_attempt_at = now() - interval '1 hour'"
        )
    await DeliveryDelayGauge(store).measure()
    assert 3600 <= metrics.WEBHOOK_OLDEST_DUE_SECONDS._value.get() < 3700


class FakeSender:
    """Answers after `release` is set."""

    def __init__(self, response: ReceiverResponse = SUCCESS) -> None:
        self.response = response
        self.sent: list[ClaimedDelivery] = []
        self.release = asyncio.Event()
        self.closed = False

    async def send(self, delivery: ClaimedDelivery) -> ReceiverResponse:
        self.sent.append(delivery)
        await self.release.wait()
        return self.response

    async def close(self) -> None:
        self.closed = True


def build_worker(
    store: Any, sender: FakeSender, *, max_requests: int = 4, stop_seconds: float = 10
) -> DeliveryWorker:
    return DeliveryWorker(
        store,
        sender,
        POLICY,
        InFlightCounts(
            max_requests,
            per_webhook=max_requests,
            per_workspace=max_requests,
            failing_limit=max_requests,
        ),
        claim_seconds=CLAIM_SECONDS,
        interval_seconds=0.01,
        stop_seconds=stop_seconds,
        disable_policy=disable_policy(5),
    )


async def test_requests_in_flight_at_a_stop_end_and_are_recorded(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await enqueue(database, store, 10)
    sender = FakeSender()
    worker = build_worker(store, sender)
    await worker.run_round()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    sender.release.set()
    await stopping
    assert (len(sender.sent), sender.closed) == (4, True)
    assert sorted(await statuses(database, webhook_id)) == ["delivered"] * 4 + ["pending"] * 6


async def test_a_request_that_outlasts_the_stop_is_due_after_its_claim(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await enqueue(database, store, 1)
    sender = FakeSender()
    worker = build_worker(store, sender, stop_seconds=0.01)
    await worker.run_round()
    await worker.stop()
    (row,) = await rows(database, webhook_id)
    assert (row["status"], row["attempt_count"], sender.closed) == ("pending", 0, True)
    assert row["next_attempt_at"] > datetime.now(UTC)


async def test_a_failed_attempt_stores_its_error_and_the_time_of_the_next(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await enqueue(database, store, 1)
    sender = FakeSender(FAILURE)
    sender.release.set()
    worker = build_worker(store, sender)
    await worker.run_round()
    await worker.stop()
    (row,) = await rows(database, webhook_id)
    assert (row["status"], row["attempt_count"], row["last_status_code"], row["last_error"]) == (
        "pending",
        1,
        500,
        "answered 500",
    )
    assert row["next_attempt_at"] - datetime.now(UTC) < timedelta(seconds=600)


class FlakyStore:
    """A store whose database is unavailable for the first calls of `record`."""

    def __init__(self, store: DeliveryRepository, failures: int) -> None:
        self._store = store
        self.failures = failures

    async def claim(
        self, capacity: Capacity, in_flight: Sequence[InFlight], claim_seconds: float
    ) -> list[ClaimedDelivery]:
        return await self._store.claim(capacity, in_flight, claim_seconds)

    async def record(
        self, results: Sequence[AttemptResult], policy: DisablePolicy
    ) -> list[DisabledWebhook]:
        if self.failures:
            self.failures -= 1
            raise DatabaseUnavailable("away")
        return await self._store.record(results, policy)


async def test_invariant_9_results_during_a_database_outage_are_recorded_later(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await enqueue(database, store, 3)
    sender = FakeSender()
    sender.release.set()
    worker = build_worker(FlakyStore(store, failures=2), sender)
    await worker.run_round()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await worker.run_round()
    await worker.run_round()
    assert await statuses(database, webhook_id) == ["delivered"] * 3
    assert len(sender.sent) == 3


@pytest.mark.parametrize("status", [DeliveryStatus.PENDING, DeliveryStatus.DELIVERED])
async def test_a_page_of_the_delivery_log_stops_at_its_scan_limit_and_has_a_next_page(
    database: Database,
    store: DeliveryRepository,
    monkeypatch: pytest.MonkeyPatch,
    status: DeliveryStatus,
) -> None:
    monkeypatch.setattr(subscriptions, "MAX_SCANNED_DELIVERIES", 4)
    webhook_id = await enqueue(database, store, 10)
    ids = [row["delivery_id"] for row in await rows(database, webhook_id)]
    matching, others = ids[:2] + ids[9:], ids[2:9]
    async with database.transaction() as connection:
        for state, chosen in ((status, matching), ("failed", others)):
            due = func.now() if state == "pending" else None
            changed = (
                update(deliveries)
                .where(deliveries.c.delivery_id.in_(chosen))
                .values(status=str(state), next_attempt_at=due)
            )
            await connection.execute(changed)
    log = subscriptions.WebhookRepository(database)
    pages: list[list[UUID]] = []
    before = None
    while not pages or before:
        page, before = await log.list_deliveries(webhook_id, limit=2, before=before, status=status)
        pages.append([row["delivery_id"] for row in page])
    assert pages == [[ids[9]], [], [ids[1], ids[0]], []]


async def test_every_statement_reads_only_its_rows_by_an_index(
    database: Database, store: DeliveryRepository
) -> None:
    """One webhook has a large log of delivered events, and another has a large backlog."""
    crowded, other = await enqueue(database, store, 5000), await enqueue(database, store, 5000)
    async with database.transaction() as connection:
        await connection.exec_driver_sql(
            "update webhooks.deliveries set status = 'delivered', next_attempt_at = null where "
            f"webhook_id = '{other}'"
        )
        await connection.exec_driver_sql("analyze webhooks.deliveries")
        select_log, newest = (
            f"select * from webhooks.deliveries where webhook_id = '{crowded}'",
            "order by delivery_id desc limit 50",
        )
        for statement in (
            f"{select_log} {newest}",
            f"{select_log} and delivery_id < '{uuid4()}' {newest}",
            f"{select_log} and status = 'failed' {newest}",
            (
                f"{select_log} and status = 'pending' and next_attempt_at <= now() "
                "order by next_attempt_at limit 4"
            ),
        ):
            plan = "\n".join(
                row[0]
                for row in await connection.exec_driver_sql(f"explain (costs off) {statement}")
            )
            assert "Index Cond: (" in plan, plan
            assert f"webhook_id = '{crowded}'" in plan, plan
            assert "Sort" not in plan, plan


async def test_a_claim_reads_only_the_part_of_a_backlog_that_it_takes(
    database: Database, store: DeliveryRepository
) -> None:
    """The planner must estimate few rows too. Above a cost of 100 000, Postgres uses JIT
    compilation.

    Compiling takes longer than the claim.
    """
    for _ in range(3):
        await enqueue(database, store, 5000)
    async with database.transaction() as connection:
        await connection.exec_driver_sql("analyze webhooks.deliveries")
        cursor = await (await driver_connection(connection)).execute(
            f"explain {CLAIM}", claim_values(64, per_webhook=4)
        )
        plan = "\n".join(row[0] for row in await cursor.fetchall())
    assert "Seq Scan on deliveries" not in plan, plan
    cost = re.search(r"cost=[\d.]+\.\.([\d.]+)", plan)
    assert cost, plan
    assert float(cost[1]) < 10_000, plan
