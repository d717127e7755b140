"""One installation's pins, attempts and topic `deliveries`, and backups of its database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from psycopg import sql
from psycopg.rows import dict_row
from pydantic import SecretStr

from services.publisher.delivery.attempts.compared import digest
from services.publisher.delivery.config import DeliverySettings
from services.publisher.delivery.log.reading import DeliveryLogReader
from services.publisher.delivery.log.topic import TopicDeliveryLog
from services.publisher.delivery.model import ComparedTexts, DeliveryAttempt
from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.admin import admin_client
from shared.kafka.producer import RecordProducer
from tests.support.infrastructure import with_database, with_role
from tests.support.kafka import OffsetRange, read_offset_ranges
from tests.support.waiting import eventually

LEASE_SECONDS = 30
_PIN = """
    insert into publisher.pins (pin_id, workspace_id, account_id, fingerprint, run_at, created_at,
        published_at, failed_at, deleted_at, error_code, state, idempotency_key, board_id, title,
        delivery, pinterest_pin_id)
    values (%(pin_id)s, %(workspace_id)s, %(account_id)s, %(pin_id)s, %(run_at)s, now(),
        %(published_at)s, %(failed_at)s, %(deleted_at)s, %(error_code)s, %(state)s,
        %(pin_id)s::text, '549755885175', %(title)s, %(delivery)s, %(pinterest_pin_id)s)
"""
_ATTEMPT = """
    insert into publisher.delivery_attempts (attempt_id, pin_id, number, workspace_id, account_id,
        mode, fence, board_id, compared, texts, started_at, deadline_at, outcome, settled_at,
        pinterest_pin_id)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::json, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True)
class PinOfAccount:
    """A pin of a connected account."""

    pin_id: UUID
    account_id: UUID
    workspace_id: UUID
    title: str = "Lamp"

    def attempt(self, number: int = 1, *, minutes_ago: float = 1) -> DeliveryAttempt:
        """Returns an attempt to send it, as the worker makes it."""
        started_at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        return DeliveryAttempt(
            attempt_id=uuid4(),
            pin_id=self.pin_id,
            number=number,
            workspace_id=self.workspace_id,
            account_id=self.account_id,
            mode="simulated",
            fence=3,
            board_id="549755885175",
            texts=ComparedTexts(self.title, None, None, None),
            started_at=started_at,
            deadline_at=started_at + timedelta(seconds=LEASE_SECONDS),
        )


@dataclass(frozen=True)
class Installation:
    """A database and topics, with what a worker writes to them."""

    kafka: str
    prefix: str
    owner_url: str
    """The URL of the database's owner. A restore replaces the database under the same name."""

    @property
    def settings(self) -> DeliverySettings:
        url = with_role(self.owner_url, "pinflow_publisher")
        return DeliverySettings(
            kafka_bootstrap_servers=self.kafka,
            topic_prefix=self.prefix,
            database_url=SecretStr(url),
            pinterest_mode="simulated",
        )

    @property
    def topic(self) -> str:
        return TopicNames(self.prefix)[TopicName.DELIVERIES]

    @asynccontextmanager
    async def delivery_log(self) -> AsyncIterator[TopicDeliveryLog]:
        """Builds the log as a delivery process does. It has read nothing yet."""
        producer = RecordProducer(self.settings, client_id="test-deliveries")
        await producer.start()
        delivery_log = TopicDeliveryLog(self.settings, TopicNames(self.prefix), producer)
        try:
            yield delivery_log
        finally:
            await delivery_log.close()
            await producer.stop()

    # Postgres

    def execute(self, statement: str, values: Any = ()) -> list[dict[str, Any]]:
        with psycopg.connect(self.owner_url, row_factory=dict_row, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def add_pin(self, state: str = "queued", pin: PinOfAccount | None = None, **fields: Any) -> Any:
        """Adds a pin of a connected account. With `pin`, adds that one."""
        pin = pin or new_pin()
        values: dict[str, Any] = dict.fromkeys(
            ["run_at", "published_at", "failed_at", "deleted_at", "error_code", "pinterest_pin_id"]
        )
        now = datetime.now(UTC)
        if state == "published":
            values |= {"published_at": now, "pinterest_pin_id": uuid4().hex}
        elif state == "failed":
            values |= {"failed_at": now, "error_code": "validation_error"}
        elif state in {"scheduled", "cancelled"}:
            values |= {"run_at": now - timedelta(minutes=1)}
        values |= {"state": state, "delivery": "pinterest", **pin.__dict__, **fields}
        self.execute(_PIN, values)
        return pin

    def add_attempt(self, attempt: DeliveryAttempt) -> None:
        """Commits an attempt, as the worker does before it announces it."""
        row = (
            *(attempt.attempt_id, attempt.pin_id, attempt.number, attempt.workspace_id),
            *(attempt.account_id, attempt.mode, attempt.fence, attempt.board_id),
            digest(attempt.board_id, attempt.texts),
            encode(attempt.texts._asdict()).decode(),
            *(attempt.started_at, attempt.deadline_at, None, None, None),
        )
        self.execute(_ATTEMPT, row)
        self.execute(
            "update publisher.pins set state = 'publishing', failed_at = null, error_code = null "
            "where pin_id = %s",
            (attempt.pin_id,),
        )

    def read_pin(self, pin: PinOfAccount) -> tuple[str, str | None]:
        """Returns the pin's state and its id at Pinterest."""
        (row,) = self.execute("select * from publisher.pins where pin_id = %s", (pin.pin_id,))
        return row["state"], row["pinterest_pin_id"]

    def read_attempts(self, pin: PinOfAccount) -> list[dict[str, Any]]:
        query = "select * from publisher.delivery_attempts where pin_id = %s order by number"
        return self.execute(query, (pin.pin_id,))

    def read_events(self) -> list[str]:
        return [row["event_id"] for row in self.execute("select * from publisher.outbox")]

    def read_positions(self) -> list[int]:
        query = "select * from publisher.positions where topic = %s order by partition"
        return [row["next_offset"] for row in self.execute(query, (self.topic,))]

    def back_up(self) -> "Backup":
        """Copies the database, as it is now."""
        backup = Backup(self, f"{self.name}_{uuid4().hex[:6]}")
        _administer(self.owner_url, _end_sessions(self.name))
        _administer(self.owner_url, _copy(self.name, backup.name))
        return backup

    def delete_backups(self) -> None:
        query = "select datname from pg_database where starts_with(datname, %s)"
        for row in self.execute(query, (f"{self.name}_",)):
            drop = sql.SQL("drop database {}").format(sql.Identifier(row["datname"]))
            _administer(self.owner_url, drop)

    @property
    def name(self) -> str:
        return urlsplit(self.owner_url).path[1:]

    # Kafka

    async def wait_for_coordinator(self) -> None:
        """Waits until the publisher's committed offsets can be read, as the log reads them.

        A new broker names the group's coordinator before that has loaded its partition, and answers
        NotCoordinatorForGroupError until then. A delivery process tries again by itself.
        """
        reader = DeliveryLogReader(self.settings, TopicNames(self.prefix))

        async def read() -> bool:
            try:
                await reader.read_committed()
            except BrokerUnavailable:
                return False
            return True

        try:
            await eventually(read, seconds=60)
        finally:
            await reader.close()

    async def recreate_topic(self) -> None:
        """Deletes the topic, and creates it again without records."""
        async with admin_client(self.settings) as admin:
            await admin.delete_topics([self.topic])

            async def create() -> bool:
                answer = await admin.create_topics([NewTopic(self.topic, 6, 1)])
                return bool(answer.topic_errors[0][1] == 0)

            await eventually(create)

        async def is_empty() -> bool:
            # Until the broker has taken over the new topic, it may show the deleted one
            ranges = await read_offset_ranges(self.kafka, self.topic)
            return set(ranges.values()) == {OffsetRange(0, 0)}

        await eventually(is_empty)

    async def delete_records(self) -> None:
        """Deletes all records of the topic, as retention does."""
        async with admin_client(self.settings) as admin:
            partitions = [TopicPartition(self.topic, number) for number in range(6)]
            await admin.delete_records({key: RecordsToDelete(-1) for key in partitions})


@dataclass(frozen=True)
class Backup:
    """A copy of an installation's database."""

    installation: Installation
    name: str

    def restore(self) -> None:
        """Replaces the database with the copy, also under running processes."""
        url, name = self.installation.owner_url, self.installation.name
        drop = sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
        _administer(url, drop)
        _administer(url, _copy(self.name, name))


def new_pin(**fields: Any) -> PinOfAccount:
    return replace(PinOfAccount(uuid4(), uuid4(), uuid4()), **fields)


def _copy(source: str, target: str) -> sql.Composed:
    return sql.SQL("create database {} template {} strategy file_copy").format(
        sql.Identifier(target), sql.Identifier(source)
    )


def _end_sessions(name: str) -> sql.Composed:
    return sql.SQL(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = {}"
    ).format(sql.Literal(name))


def _administer(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(with_database(url, "postgres"), autocommit=True) as connection:
        connection.execute(statement)
