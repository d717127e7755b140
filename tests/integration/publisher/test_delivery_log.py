"""The topic `deliveries` on real servers: attempts that a restored Postgres lacks come back."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from deploy.cli.main import app
from services.publisher.delivery.log.topic import TopicDeliveryLog
from services.publisher.delivery.model import AttemptOutcome, DeliveryAttempt
from shared.contract.errors import BrokerUnavailable, Unavailable
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import read_cluster_id
from tests.integration.publisher.delivery_log import Installation, PinOfAccount, new_pin
from tests.support.infrastructure import Servers, fresh_database, fresh_topics
from tests.support.waiting import eventually


@pytest_asyncio.fixture(loop_scope="module")
async def installation(stack: Servers) -> AsyncIterator[Installation]:
    kafka = stack.kafka_bootstrap_servers
    with ExitStack() as cleaning:
        prefix = await asyncio.to_thread(cleaning.enter_context, fresh_topics(kafka))
        url = cleaning.enter_context(fresh_database(stack.database_url))
        installation = Installation(kafka, prefix, url)
        await installation.wait_for_coordinator()
        yield installation
        installation.delete_backups()
        await asyncio.to_thread(cleaning.close)


async def send(
    installation: Installation,
    delivery_log: TopicDeliveryLog,
    pin: PinOfAccount,
    number: int = 1,
    *,
    minutes_ago: float = 1,
) -> DeliveryAttempt:
    """Commits and announces an attempt, as the worker does before the request."""
    attempt = pin.attempt(number, minutes_ago=minutes_ago)
    installation.add_attempt(attempt)
    await delivery_log.announce(attempt)
    return attempt


def recover(installation: Installation) -> Any:
    """Runs `pinflow recover --accept`, in a thread because it has its own event loop."""
    environment = {
        "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": installation.kafka,
        "PINFLOW_TOPIC_PREFIX": installation.prefix,
        "PINFLOW_DATABASE_URL": installation.owner_url,
    }
    arguments = ["recover", "--accept", "--yes", "--json"]
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(CliRunner().invoke, app, arguments, env=environment).result()
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_the_first_start_reads_the_topic_and_opens(installation: Installation) -> None:
    async with installation.delivery_log() as delivery_log:
        assert delivery_log.problem() == (
            "nothing is sent to Pinterest: the topic deliveries has not been read yet"
        )
        assert REGISTRY.get_sample_value("pinflow_delivery_open", {"mode": "simulated"}) == 0
        await delivery_log.require_open(time.monotonic())
        assert delivery_log.problem() is None
    assert installation.read_positions() == [0] * 6


async def test_a_later_reading_on_the_same_connection_does_not_vouch_for_a_newer_one(
    installation: Installation,
) -> None:
    """After a failover the older connection may still lead to the former primary."""
    find_sessions = (
        "select pid from pg_stat_activity where datname = current_database() "
        "and application_name = 'pinflow-delivery-log'"
    )
    async with installation.delivery_log() as delivery_log:

        async def opens() -> bool:
            with suppress(BrokerUnavailable):  # a new broker loads the group's offsets
                await delivery_log.run_periodic_work()
            return delivery_log.problem() is None

        await eventually(opens)
        await delivery_log.require_open(time.monotonic())
        former = installation.execute(find_sessions)
        connected_at = time.monotonic()
        await delivery_log.run_periodic_work()
        assert installation.execute(find_sessions) == former
        await delivery_log.require_open(connected_at)
        assert installation.execute(find_sessions) != former
        renewed = installation.execute(find_sessions)
        await delivery_log.require_open(connected_at)
        assert installation.execute(find_sessions) == renewed


async def test_a_caller_whose_time_is_over_does_not_end_the_reading_for_the_others(
    installation: Installation,
) -> None:
    """Otherwise one slow turn would close the gate for all accounts."""
    async with installation.delivery_log() as delivery_log:
        await delivery_log.require_open(time.monotonic())
        connected_at = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await delivery_log.require_open(connected_at)
        await delivery_log.require_open(connected_at)
        assert delivery_log.problem() is None


async def test_an_attempt_whose_row_exists_is_not_taken_for_a_lost_one(
    installation: Installation,
) -> None:
    pin = installation.add_pin()
    async with installation.delivery_log() as delivery_log:
        await send(installation, delivery_log, pin)
        await delivery_log.require_open(time.monotonic())
    assert installation.read_pin(pin) == ("publishing", None)
    assert len(installation.read_attempts(pin)) == 1
    assert sum(installation.read_positions()) == 1


async def test_invariant_12_attempts_after_the_backup_come_back_in_every_state(
    installation: Installation,
) -> None:
    published, found, unsettled, refused, twice, unconfirmed = (
        installation.add_pin() for _ in range(6)
    )
    scheduled = installation.add_pin("scheduled")
    failed = installation.add_pin("failed")
    untouched = installation.add_pin()
    backup = installation.back_up()
    async with installation.delivery_log() as delivery_log:
        for pin, outcome in [
            (published, AttemptOutcome.CREATED),
            (scheduled, AttemptOutcome.CREATED),
            (failed, AttemptOutcome.FOUND),
            (found, AttemptOutcome.FOUND),
            (refused, AttemptOutcome.REFUSED),
            (unconfirmed, AttemptOutcome.UNCONFIRMED),
            (twice, AttemptOutcome.NOT_SENT),
        ]:
            attempt = await send(installation, delivery_log, pin)
            has_id = outcome in {AttemptOutcome.CREATED, AttemptOutcome.FOUND}
            await delivery_log.settle(attempt, outcome, f"id-{pin.pin_id}" if has_id else None)
        await send(installation, delivery_log, twice, 2, minutes_ago=0)
        await send(installation, delivery_log, unsettled)
        backup.restore()
        await delivery_log.require_open(time.monotonic())
    for pin in (published, scheduled, failed, found):
        assert installation.read_pin(pin) == ("published", f"id-{pin.pin_id}")
    for pin in (unsettled, twice):
        assert installation.read_pin(pin) == ("confirming", None)
    for pin in (refused, untouched):
        assert installation.read_pin(pin) == ("queued", None)
    assert installation.read_pin(unconfirmed) == ("failed", None)
    events = [event for event in installation.read_events() if event.endswith(":published")]
    on_pinterest = (published, scheduled, failed, found)
    assert sorted(events) == sorted(f"{pin.pin_id}:published" for pin in on_pinterest)
    (restored,) = installation.read_attempts(unsettled)
    assert restored["outcome"] is None
    assert restored["next_look_at"] >= restored["deadline_at"]
    assert [row["outcome"] for row in installation.read_attempts(twice)] == ["not_sent", None]


async def test_an_id_settles_an_attempt_that_the_backup_has_unsettled(
    installation: Installation,
) -> None:
    pin = installation.add_pin()
    async with installation.delivery_log() as delivery_log:
        attempt = await send(installation, delivery_log, pin)
        backup = installation.back_up()
        await delivery_log.settle(attempt, AttemptOutcome.CREATED, "813744226420795884")
        backup.restore()
        await delivery_log.require_open(time.monotonic())
    assert installation.read_pin(pin) == ("published", "813744226420795884")
    assert installation.read_events() == [f"{pin.pin_id}:published"]


@pytest.mark.parametrize("reads_between", [False, True], ids=["at_once", "in_two_readings"])
async def test_invariant_12_an_id_that_came_late_is_not_lost_by_a_restore(
    installation: Installation, reads_between: bool
) -> None:
    """The lists did not show the pin, and its answer came after that: it is not sent again."""
    pin = installation.add_pin()
    backup = installation.back_up()
    async with installation.delivery_log() as delivery_log:
        attempt = await send(installation, delivery_log, pin)
        await delivery_log.settle(attempt, AttemptOutcome.ABSENT, None)
        if reads_between:  # Postgres has the attempt as absent, and its pin is queued
            backup.restore()
            await delivery_log.require_open(time.monotonic())
            assert installation.read_pin(pin) == ("queued", None)
        await delivery_log.settle(attempt, AttemptOutcome.CREATED, "813744226420795884")
        if not reads_between:
            backup.restore()
        await delivery_log.require_open(time.monotonic())
    assert installation.read_pin(pin) == ("published", "813744226420795884")
    assert [row["outcome"] for row in installation.read_attempts(pin)] == ["created"]
    assert installation.read_events() == [f"{pin.pin_id}:published"]


async def test_another_outcome_of_an_unsettled_attempt_is_left_to_its_worker(
    installation: Installation,
) -> None:
    pin = installation.add_pin()
    async with installation.delivery_log() as delivery_log:
        attempt = await send(installation, delivery_log, pin)
        await delivery_log.settle(attempt, AttemptOutcome.REFUSED, None)
        await delivery_log.require_open(time.monotonic())
    assert installation.read_pin(pin) == ("publishing", None)
    assert installation.read_attempts(pin)[0]["outcome"] is None


async def test_a_pin_that_is_stored_after_its_attempt_was_read_gets_its_id(
    installation: Installation,
) -> None:
    backup = installation.back_up()
    pin = installation.add_pin()
    async with installation.delivery_log() as delivery_log:
        attempt = await send(installation, delivery_log, pin)
        await delivery_log.settle(attempt, AttemptOutcome.CREATED, "813744226420795884")
        backup.restore()
        await delivery_log.run_periodic_work()
        (row,) = installation.read_attempts(pin)
        assert (row["pinterest_pin_id"], row["is_applied"]) == ("813744226420795884", False)
        installation.add_pin(pin=pin)  # its row of an import is processed again
        await delivery_log.run_periodic_work()
    assert installation.read_pin(pin) == ("published", "813744226420795884")


async def test_a_number_that_another_attempt_has_is_replaced(installation: Installation) -> None:
    pin = installation.add_pin()
    backup = installation.back_up()
    async with installation.delivery_log() as delivery_log:
        lost = await send(installation, delivery_log, pin, minutes_ago=2)
        backup.restore()
        kept = pin.attempt()
        installation.add_attempt(kept)
        await delivery_log.run_periodic_work()
    attempts = installation.read_attempts(pin)
    assert [(row["attempt_id"], row["number"]) for row in attempts] == [
        (kept.attempt_id, 1),
        (lost.attempt_id, 2),
    ]


async def test_a_failover_to_an_older_postgres_is_noticed_by_a_running_process(
    installation: Installation,
) -> None:
    pin, other = installation.add_pin(), installation.add_pin()
    async with installation.delivery_log() as delivery_log:
        await delivery_log.require_open(time.monotonic())
        backup = installation.back_up()
        attempt = await send(installation, delivery_log, pin)
        await delivery_log.settle(attempt, AttemptOutcome.CREATED, "813744226420795884")
        await delivery_log.run_periodic_work()
        opened_before = time.monotonic()
        backup.restore()
        await delivery_log.require_open(time.monotonic())
        assert installation.read_pin(pin) == ("published", "813744226420795884")
        await delivery_log.require_open(opened_before)
    assert installation.read_pin(other) == ("queued", None)


async def test_two_processes_read_the_same_attempts_once(installation: Installation) -> None:
    pins = [installation.add_pin() for _ in range(5)]
    backup = installation.back_up()
    async with installation.delivery_log() as first, installation.delivery_log() as second:
        for pin in pins:
            await send(installation, first, pin)
        backup.restore()
        await first.require_open(time.monotonic())
        await second.require_open(time.monotonic())
        await first.run_periodic_work()
    assert [installation.read_pin(pin) for pin in pins] == [("confirming", None)] * 5
    assert [len(installation.read_attempts(pin)) for pin in pins] == [1] * 5


async def test_rows_that_are_read_again_keep_the_gate_closed(installation: Installation) -> None:
    topic = TopicNames(installation.prefix)[TopicName.IMPORTS]
    cluster = await read_cluster_id(installation.settings)
    async with installation.delivery_log() as delivery_log:
        await delivery_log.require_open(time.monotonic())
        installation.execute(
            "insert into publisher.positions (topic, partition, next_offset, cluster_id, refused) "
            "values (%s, 2, 9, %s, 'beyond_end')",
            (topic, cluster),
        )
        await delivery_log.run_periodic_work()
        with pytest.raises(Unavailable, match=rf"{topic}/2 \(beyond_end\)"):
            await delivery_log.require_open(0)
        installation.execute("update publisher.positions set next_offset = 0, refused = null")
        await delivery_log.run_periodic_work()
        await delivery_log.require_open(0)


async def test_a_recreated_topic_closes_the_gate_until_the_loss_is_accepted(
    installation: Installation,
) -> None:
    pin, scheduled = installation.add_pin(), installation.add_pin("scheduled")
    future = installation.add_pin("scheduled", run_at=datetime.now(UTC) + timedelta(days=1))
    failed = installation.add_pin("failed")
    async with installation.delivery_log() as delivery_log:
        await send(installation, delivery_log, installation.add_pin())
        await delivery_log.require_open(time.monotonic())
        before = installation.execute("select min(updated_at) as since from publisher.positions")
        await installation.recreate_topic()
        await delivery_log.run_periodic_work()
        with pytest.raises(Unavailable, match="beyond_end"):
            await delivery_log.require_open(0)
        assert installation.read_pin(pin) == ("queued", None)
        recover(installation)
        await delivery_log.run_periodic_work()
        await delivery_log.require_open(0)
    assert installation.read_pin(pin) == installation.read_pin(scheduled) == ("confirming", None)
    assert installation.read_pin(future) == ("scheduled", None)
    assert installation.read_pin(failed) == ("failed", None)
    (attempt,) = installation.read_attempts(pin)
    assert attempt["started_at"] <= before[0]["since"]
    assert attempt["texts"]["title"] == "Lamp"
    (loss,) = installation.execute("select * from publisher.delivery_losses")
    assert (loss["pins"], loss["applied_at"] is None) == (2, False)


async def test_records_that_retention_deleted_close_the_gate(installation: Installation) -> None:
    pin = installation.add_pin()
    async with installation.delivery_log() as delivery_log:
        await delivery_log.require_open(time.monotonic())
        backup = installation.back_up()
        await send(installation, delivery_log, pin)
        await installation.delete_records()
        backup.restore()
        with pytest.raises(Unavailable, match="before_begin"):
            await delivery_log.require_open(time.monotonic())
        recover(installation)
        await delivery_log.run_periodic_work()
        await delivery_log.require_open(0)
    assert installation.read_pin(pin) == ("confirming", None)


async def test_without_kafka_the_gate_is_closed_and_opens_again(installation: Installation) -> None:
    async with installation.delivery_log() as delivery_log:
        here = delivery_log._reader._settings
        elsewhere = here.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
        delivery_log._reader._settings = elsewhere
        with pytest.raises(BrokerUnavailable):
            await delivery_log.require_open(time.monotonic())
        assert "can't be read" in (delivery_log.problem() or "")
        delivery_log._reader._settings = here
        await delivery_log.run_periodic_work()
        await delivery_log.require_open(0)


async def test_a_pin_that_only_pinterest_has_is_listed(installation: Installation) -> None:
    pin = new_pin(title="Lost lamp")
    async with installation.delivery_log() as delivery_log:
        attempt = pin.attempt()
        await delivery_log.announce(attempt)
        await delivery_log.settle(attempt, AttemptOutcome.CREATED, "813744226420795884")
        await delivery_log.require_open(time.monotonic())
    (lost,) = recover(installation)["lost_pins"]
    assert (lost["title"], lost["pinterest_pin_id"]) == ("Lost lamp", "813744226420795884")


async def test_an_id_of_another_pin_is_not_given_twice(installation: Installation) -> None:
    taken = str(uuid4().int)
    installation.add_pin("published", pinterest_pin_id=taken)
    pin = installation.add_pin()
    async with installation.delivery_log() as delivery_log:
        attempt = pin.attempt()
        await delivery_log.announce(attempt)
        await delivery_log.settle(attempt, AttemptOutcome.CREATED, taken)
        await delivery_log.require_open(time.monotonic())
    assert installation.read_pin(pin) == ("failed", None)
