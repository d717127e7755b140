"""The worker and its statements, on the real Postgres: whose turn it is, who dies with what, and
what is written down.
"""

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

from services.webhooks.delivery.concurrency import ConcurrencyLimits
from services.webhooks.delivery.model import (
    AttemptResult,
    Capacity,
    ClaimedDelivery,
    DeliveryStatus,
    DisabledReason,
    DisabledWebhook,
    InFlight,
    NewDelivery,
)
from services.webhooks.delivery.policy import Answer, DisablePolicy, RetryPolicy
from services.webhooks.delivery.repository import CLAIM, IN_FLIGHT_COLUMNS, DeliveryRepository
from services.webhooks.delivery.retention import Cleaner, Lateness
from services.webhooks.delivery.worker import DeliveryWorker
from services.webhooks.ids import delivery_id
from services.webhooks.subscriptions import repository as subscriptions
from services.webhooks.tables import deliveries, endpoints
from shared.contract.errors import DatabaseUnavailable
from shared.kafka.positions.advance import Advance
from shared.postgres.arrays import to_columns
from shared.postgres.database import Database, driver_connection
from shared.postgres.row import Row
from shared.runtime import metrics
from tests.support.waiting import eventually

LEASE = 60.0
POLICY = RetryPolicy(attempts=2, first_seconds=600, factor=1, longest_seconds=600)
TAKEN, REFUSED = Answer(204, None), Answer(500, "answered 500")


@pytest_asyncio.fixture(loop_scope="module")
async def store(database: Database) -> AsyncIterator[DeliveryRepository]:
    """With empty tables: what one test leaves would be another's due."""
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
        await connection.execute(insert(endpoints).values(events=["pin.published"], **values))
    return UUID(str(values["webhook_id"]))


_numbers = count_from(time.time_ns() // 1_000_000)


def new_deliveries(webhook_id: UUID, count: int) -> list[NewDelivery]:
    """Each of an event that was announced a millisecond after the one before."""
    numbered = [(number, f"evt_{number}") for number in islice(_numbers, count)]
    return [
        NewDelivery(
            webhook_id, delivery_id(webhook_id, event, number), event, "pin.published", "{}"
        )
        for number, event in numbered
    ]


async def queued(database: Database, store: DeliveryRepository, count: int, **fields: Any) -> UUID:
    webhook_id = await add_webhook(database, **fields)
    assert await store.enqueue(new_deliveries(webhook_id, count), Advance()) == count
    return webhook_id


def claim_values(most: int, *, each: int) -> list[object]:
    return [*to_columns(IN_FLIGHT_COLUMNS, []), each, each, 100, 100, most, most, LEASE]


async def claim(
    store: DeliveryRepository,
    most: int = 100,
    *busy: InFlight,
    each: int = 100,
    each_workspace: int = 100,
    failing: int = 100,
    lease: float = LEASE,
) -> list[ClaimedDelivery]:
    return await store.claim(Capacity(most, failing, each, each_workspace), busy, lease)


def disable_policy(deliveries: int) -> DisablePolicy:
    return DisablePolicy(deliveries, 1000, 0)


def result(
    due: ClaimedDelivery,
    status: DeliveryStatus = DeliveryStatus.DELIVERED,
    *,
    pause_ms: int = 0,
    gone: bool = False,
    tries: int | None = None,
) -> AttemptResult:
    answer = TAKEN if status is DeliveryStatus.DELIVERED else REFUSED
    number = due.tries if tries is None else tries
    return AttemptResult(
        due.webhook_id,
        due.delivery_id,
        number,
        status,
        pause_ms,
        answer.status_code,
        answer.error,
        gone,
    )


async def rows(database: Database, webhook_id: UUID) -> list[Row]:
    return await database.fetch_all(
        select(deliveries)
        .where(deliveries.c.webhook_id == webhook_id)
        .order_by(deliveries.c.delivery_id)
    )


async def statuses(database: Database, webhook_id: UUID) -> list[str]:
    return [row["status"] for row in await rows(database, webhook_id)]


async def test_what_is_written_down_again_is_there_once(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await add_webhook(database)
    first = new_deliveries(webhook_id, 2)
    again = [one._replace(delivery_id=uuid4()) for one in first]
    assert [
        await store.enqueue(first + again, Advance()),
        await store.enqueue(again, Advance()),
    ] == [2, 0]
    assert [row["delivery_id"] for row in await rows(database, webhook_id)] == [
        one.delivery_id for one in first
    ]


async def test_two_workers_never_have_the_same_delivery(
    database: Database, store: DeliveryRepository
) -> None:
    await queued(database, store, 60)
    claimed = await asyncio.gather(*(claim(store, 10) for _ in range(6)), claim(store, 60))
    ids = [due.delivery_id for each in claimed for due in each]
    assert len(ids) == len(set(ids)) == 60


async def test_a_dead_workers_deliveries_are_due_when_its_lease_has_passed(
    database: Database, store: DeliveryRepository
) -> None:
    await queued(database, store, 3)
    claimed = await claim(store, lease=0.3)
    assert (len(claimed), await claim(store)) == (3, [])
    assert {due.delivery_id for due in await eventually(lambda: claim(store))} == {
        due.delivery_id for due in claimed
    }


async def test_whoever_has_least_under_way_is_first_however_much_waits_for_others(
    database: Database, store: DeliveryRepository
) -> None:
    of_crowded, of_busy = uuid4(), uuid4()
    crowded = await queued(database, store, 200, workspace_id=of_crowded)
    busy = InFlight(await queued(database, store, 5, workspace_id=of_busy), of_busy, 2)
    quiet = await queued(database, store, 1)
    first = await claim(store, 4, busy, each=3)
    assert [due.webhook_id for due in first].count(crowded) == 3
    assert quiet in {due.webhook_id for due in first}
    second = await claim(store, 100, InFlight(crowded, of_crowded, 3), busy, each=3)
    assert [due.webhook_id for due in second] == [busy.webhook_id]


async def test_who_has_not_failed_comes_before_who_has_and_has_waited_longer(
    database: Database, store: DeliveryRepository
) -> None:
    hanging = [await queued(database, store, 20, failed_attempts=1) for _ in range(6)]
    healthy = await queued(database, store, 2)
    assert [due.webhook_id for due in await claim(store, 2)] == [healthy] * 2
    claimed = await claim(store, 100, failing=4)
    assert {due.webhook_id for due in claimed} < set(hanging)
    assert (len(claimed), {due.failing for due in claimed}) == (4, {True})


async def test_of_those_that_fail_the_ones_come_first_that_have_failed_least(
    database: Database, store: DeliveryRepository
) -> None:
    """Or one answer of 500 would put a webhook behind all that waits for those that hang."""
    for _ in range(3):
        await queued(database, store, 20, failed_attempts=7)
    stumbled = await queued(database, store, 1, failed_attempts=1)
    assert [due.webhook_id for due in await claim(store, failing=1)] == [stumbled]


async def test_a_workspace_has_no_more_than_its_share_however_many_webhooks_it_has(
    database: Database, store: DeliveryRepository
) -> None:
    greedy = uuid4()
    webhooks = [await queued(database, store, 9, workspace_id=greedy) for _ in range(5)]
    other = await queued(database, store, 2)
    claimed = await claim(store, 100, InFlight(webhooks[0], greedy, 3), each=4, each_workspace=8)
    assert [due.workspace_id for due in claimed].count(greedy) == 5
    assert [due.webhook_id for due in claimed].count(other) == 2
    assert webhooks[0] not in {due.webhook_id for due in claimed}


async def test_the_workspace_with_least_under_way_is_first(
    database: Database, store: DeliveryRepository
) -> None:
    """By age alone, slow receivers with much waiting would take every slot that they give back."""
    slow = uuid4()
    for _ in range(5):
        await queued(database, store, 9, workspace_id=slow)
    quick = await queued(database, store, 1)
    gone = InFlight(uuid4(), slow, 1)  # deleted with a request under way: still its workspace's
    assert [due.webhook_id for due in await claim(store, 1, gone)] == [quick]


async def test_claiming_locks_nothing_that_it_does_not_take(
    database: Database, store: DeliveryRepository
) -> None:
    """Two claims at once, of which the first has not committed: between them they take all that
    there is room for.
    """
    for _ in range(4):
        await queued(database, store, 1)
    async with database.pipeline() as driver:
        first = await (await driver.execute(CLAIM, claim_values(1, each=4))).fetchall()
        second = await claim(store, 4)
        assert (len(first), len(second)) == (1, 3)


async def test_a_disabled_or_deleted_webhooks_deliveries_wait(
    database: Database, store: DeliveryRepository
) -> None:
    await queued(database, store, 2, is_enabled=False)
    await store.enqueue(new_deliveries(uuid4(), 2), Advance())
    assert await claim(store) == []


async def test_that_it_was_delivered_outlives_a_late_failure(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await queued(database, store, 1)
    (due,) = await claim(store)
    await store.record([result(due)], disable_policy(5))
    await store.record([result(due, DeliveryStatus.FAILED)], disable_policy(5))
    (row,) = await rows(database, webhook_id)
    assert (row["status"], row["attempt_count"], row["last_status_code"]) == ("delivered", 1, 204)


async def test_a_failure_that_is_written_down_twice_counts_once(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await queued(database, store, 1)
    (due,) = await claim(store)
    for _ in range(2):
        await store.record(
            [result(due, DeliveryStatus.PENDING, pause_ms=60_000)], disable_policy(5)
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


async def test_an_attempt_that_fails_counts_at_once_and_a_delivery_forgives(
    database: Database, store: DeliveryRepository
) -> None:
    await queued(database, store, 3)
    first, second, third = await claim(store)
    assert not first.failing
    await store.record(
        [result(first, DeliveryStatus.PENDING), result(second, DeliveryStatus.PENDING)],
        disable_policy(5),
    )
    (again,) = await claim(store)
    assert again.failing
    await store.record([result(third)], disable_policy(5))
    assert [due.failing for due in await claim(store)] == [False]


async def test_failures_in_a_row_disable_and_a_delivery_between_them_forgives(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await queued(database, store, 6)
    dues = await claim(store)
    bad = [result(due, DeliveryStatus.FAILED) for due in dues]
    assert await store.record(bad[:2], disable_policy(3)) == []
    assert await store.record([result(dues[2])], disable_policy(3)) == []
    assert await store.record(bad[3:5], disable_policy(3)) == []
    (disabled,) = await store.record(bad[5:], disable_policy(3))
    assert (disabled.webhook_id, disabled.reason) == (webhook_id, DisabledReason.FAILING)
    (row,) = await database.fetch_all(select(endpoints).where(endpoints.c.webhook_id == webhook_id))
    assert (row["is_enabled"], row["disabled_reason"], row["failures_in_a_row"]) == (
        False,
        "failing",
        3,
    )


async def test_attempts_that_fail_for_long_disable_though_no_delivery_was_given_up(
    database: Database, store: DeliveryRepository
) -> None:
    """With much waiting, one that hangs is tried with one delivery after the other."""
    webhook_id = await queued(database, store, 6)
    bad = [result(due, DeliveryStatus.PENDING, pause_ms=60_000) for due in await claim(store)]
    assert await store.record(bad[:3], DisablePolicy(100, 4, 3600)) == []
    assert (
        await store.record(bad[3:5], DisablePolicy(100, 4, 3600)) == []
    )  # often enough, but not for long enough
    async with database.transaction() as connection:
        await connection.exec_driver_sql(
            "update webhooks.endpoints set failing_since = failing_since - interval '1 hour'"
        )
    (disabled,) = await store.record(bad[5:], DisablePolicy(100, 4, 3600))
    assert (disabled.webhook_id, disabled.reason) == (webhook_id, DisabledReason.FAILING)


async def test_few_failed_attempts_never_disable_however_long_they_take(
    database: Database, store: DeliveryRepository
) -> None:
    await queued(database, store, 3)
    for due in await claim(store):
        assert (
            await store.record([result(due, DeliveryStatus.PENDING)], DisablePolicy(100, 4, 0))
            == []
        )


async def test_gone_disables_once(database: Database, store: DeliveryRepository) -> None:
    await queued(database, store, 2)
    first, second = await claim(store)
    (disabled,) = await store.record(
        [result(first, DeliveryStatus.FAILED, gone=True)], disable_policy(5)
    )
    assert disabled.reason is DisabledReason.GONE
    assert (
        await store.record([result(second, DeliveryStatus.FAILED, gone=True)], disable_policy(5))
        == []
    )


async def test_old_deliveries_go_and_so_do_those_of_a_deleted_webhook(
    database: Database, store: DeliveryRepository
) -> None:
    kept = await queued(database, store, 3)
    await store.enqueue(new_deliveries(uuid4(), 4), Advance())
    now = datetime.now(UTC)
    assert await Cleaner(store, timedelta(days=7), lambda: now).delete_old_deliveries() == 4
    assert (
        await Cleaner(
            store, timedelta(days=7), lambda: now + timedelta(days=6)
        ).delete_old_deliveries()
        == 0
    )
    assert len(await rows(database, kept)) == 3
    assert (
        await Cleaner(
            store, timedelta(days=7), lambda: now + timedelta(days=8)
        ).delete_old_deliveries()
        == 3
    )


async def test_how_late_the_latest_is_is_told(
    database: Database, store: DeliveryRepository
) -> None:
    await queued(database, store, 2, is_enabled=False)
    await Lateness(store).measure()
    assert metrics.WEBHOOK_OLDEST_DUE_SECONDS._value.get() == 0
    await queued(database, store, 2)
    async with database.transaction() as connection:
        await connection.exec_driver_sql(
            "update webhooks.deliveries set next_attempt_at = now() - interval '1 hour'"
        )
    await Lateness(store).measure()
    assert 3600 <= metrics.WEBHOOK_OLDEST_DUE_SECONDS._value.get() < 3700


class Sender:
    """Answers when it is let go on."""

    def __init__(self, answer: Answer = TAKEN) -> None:
        self.answer = answer
        self.sent: list[ClaimedDelivery] = []
        self.go_on = asyncio.Event()
        self.closed = False

    async def send(self, delivery: ClaimedDelivery) -> Answer:
        self.sent.append(delivery)
        await self.go_on.wait()
        return self.answer

    async def close(self) -> None:
        self.closed = True


def worker_of(
    store: Any, sender: Sender, *, at_once: int = 4, stop_seconds: float = 10
) -> DeliveryWorker:
    return DeliveryWorker(
        store,
        sender,
        POLICY,
        ConcurrencyLimits(at_once, each=at_once, each_workspace=at_once, failing=at_once),
        lease_seconds=LEASE,
        interval_seconds=0.01,
        stop_seconds=stop_seconds,
        disable_policy=disable_policy(5),
    )


async def test_what_is_under_way_when_it_stops_ends_and_is_written_down(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await queued(database, store, 10)
    sender = Sender()
    worker = worker_of(store, sender)
    await worker.deliver_due()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    sender.go_on.set()
    await stopping
    assert (len(sender.sent), sender.closed) == (4, True)
    assert sorted(await statuses(database, webhook_id)) == ["delivered"] * 4 + ["pending"] * 6


async def test_what_does_not_end_in_time_is_left_to_its_lease(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await queued(database, store, 1)
    sender = Sender()
    worker = worker_of(store, sender, stop_seconds=0.01)
    await worker.deliver_due()
    await worker.stop()
    (row,) = await rows(database, webhook_id)
    assert (row["status"], row["attempt_count"], sender.closed) == ("pending", 0, True)
    assert row["next_attempt_at"] > datetime.now(UTC)


async def test_a_failed_attempt_says_why_and_when_the_next_one_is(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await queued(database, store, 1)
    sender = Sender(REFUSED)
    sender.go_on.set()
    worker = worker_of(store, sender)
    await worker.deliver_due()
    await worker.stop()
    (row,) = await rows(database, webhook_id)
    assert (row["status"], row["attempt_count"], row["last_status_code"], row["last_error"]) == (
        "pending",
        1,
        500,
        "answered 500",
    )
    assert row["next_attempt_at"] - datetime.now(UTC) < timedelta(seconds=600)


class Flaky:
    """The store, with a database that is away when it is to write down."""

    def __init__(self, store: DeliveryRepository, failures: int) -> None:
        self._store = store
        self.failures = failures

    async def claim(
        self, capacity: Capacity, in_flight: Sequence[InFlight], lease_seconds: float
    ) -> list[ClaimedDelivery]:
        return await self._store.claim(capacity, in_flight, lease_seconds)

    async def record(
        self, results: Sequence[AttemptResult], policy: DisablePolicy
    ) -> list[DisabledWebhook]:
        if self.failures:
            self.failures -= 1
            raise DatabaseUnavailable("away")
        return await self._store.record(results, policy)


async def test_invariant_9_what_ended_while_the_database_was_away_is_written_down_later(
    database: Database, store: DeliveryRepository
) -> None:
    webhook_id = await queued(database, store, 3)
    sender = Sender()
    sender.go_on.set()
    worker = worker_of(Flaky(store, failures=2), sender)
    await worker.deliver_due()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await worker.deliver_due()
    await worker.deliver_due()
    assert await statuses(database, webhook_id) == ["delivered"] * 3
    assert len(sender.sent) == 3


@pytest.mark.parametrize("status", [DeliveryStatus.PENDING, DeliveryStatus.DELIVERED])
async def test_a_page_of_the_log_looks_at_no_more_than_it_may_and_says_where_to_go_on(
    database: Database,
    store: DeliveryRepository,
    monkeypatch: pytest.MonkeyPatch,
    status: DeliveryStatus,
) -> None:
    monkeypatch.setattr(subscriptions, "MAX_SCANNED", 4)
    webhook_id = await queued(database, store, 10)
    ids = [row["delivery_id"] for row in await rows(database, webhook_id)]
    sought, others = ids[:2] + ids[9:], ids[2:9]
    async with database.transaction() as connection:
        for state, whose in ((status, sought), ("failed", others)):
            due = func.now() if state == "pending" else None
            changed = (
                update(deliveries)
                .where(deliveries.c.delivery_id.in_(whose))
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


async def test_no_statement_walks_through_what_is_not_asked_for(
    database: Database, store: DeliveryRepository
) -> None:
    """With much that is delivered, and much that waits for one webhook, the plans go by the
    indexes.
    """
    crowded, other = await queued(database, store, 5000), await queued(database, store, 5000)
    async with database.transaction() as connection:
        await connection.exec_driver_sql(
            "update webhooks.deliveries set status = 'delivered', next_attempt_at = null where "
            f"webhook_id = '{other}'"
        )
        await connection.exec_driver_sql("analyze webhooks.deliveries")
        mine, newest = (
            f"select * from webhooks.deliveries where webhook_id = '{crowded}'",
            "order by delivery_id desc limit 50",
        )
        for statement in (
            f"{mine} {newest}",
            f"{mine} and delivery_id < '{uuid4()}' {newest}",
            f"{mine} and status = 'failed' {newest}",
            (
                f"{mine} and status = 'pending' and next_attempt_at <= now() "
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


async def test_a_claim_reads_no_more_of_a_backlog_than_it_takes(
    database: Database, store: DeliveryRepository
) -> None:
    """Nor does the planner think so: beyond a cost of 100 000 Postgres compiles, which takes longer
    than the claim.
    """
    for _ in range(3):
        await queued(database, store, 5000)
    async with database.transaction() as connection:
        await connection.exec_driver_sql("analyze webhooks.deliveries")
        cursor = await (await driver_connection(connection)).execute(
            f"explain {CLAIM}", claim_values(64, each=4)
        )
        plan = "\n".join(row[0] for row in await cursor.fetchall())
    assert "Seq Scan on deliveries" not in plan, plan
    cost = re.search(r"cost=[\d.]+\.\.([\d.]+)", plan)
    assert cost, plan
    assert float(cost[1]) < 10_000, plan
