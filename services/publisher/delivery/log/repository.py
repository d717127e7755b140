"""Records attempts that were read from the topic `deliveries`, and what may have been lost."""

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import TopicPartition

from services.publisher.delivery.attempts.compared import digest
from services.publisher.delivery.log.records import LogEntries
from services.publisher.delivery.log.statements import (
    COUNT_LOST_PINS,
    INSERT_ATTEMPTS,
    RENEW_POSITIONS,
    RESTORED_COLUMNS,
    SETTLE_ATTEMPTS,
    SETTLED_COLUMNS,
    STORE_REFUSAL,
)
from services.publisher.delivery.model import DeliveryAttempt
from shared.contract.wire import encode
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.rules import Refusal
from shared.kafka.positions.store import PositionStore
from shared.postgres.arrays import to_columns
from shared.postgres.database import Database

AttemptRow = tuple[object, ...]


class Recorded(NamedTuple):
    """The numbers of attempts that Postgres lacked, and of outcomes that were new to it."""

    attempts: int
    outcomes: int


class AttemptLogRepository:
    """Writes in the transaction that moves the publisher's position in `deliveries`.

    Raises DatabaseUnavailable, and PositionBehind if Postgres was replaced by an older copy.
    """

    def __init__(self, database: Database) -> None:
        self.positions = PositionStore(database, "publisher")
        self._database = database

    async def renew_connection(self) -> None:
        """Closes the connection to Postgres and opens another. Raises DatabaseUnavailable."""
        await self._database.dispose()
        await self._database.warm()

    async def warm(self) -> None:
        """Opens the connection if it is not open. Raises DatabaseUnavailable."""
        await self._database.warm()

    async def record(self, entries: LogEntries, advance: Advance) -> Recorded:
        """Inserts the attempts that Postgres lacks, with the outcomes that Kafka has."""
        attempts = [build_attempt_row(attempt) for attempt in entries.attempts.values()]
        settled = [
            (entry.attempt_id, str(entry.outcome), entry.pinterest_pin_id, entry.settled_at)
            for entry in entries.settled.values()
        ]
        async with self._database.pipeline() as driver:
            positions = await self.positions.lock(driver, advance, moves=True)
            await positions.fetchall()  # raises before anything is written to an older Postgres
            inserted = await driver.execute(
                INSERT_ATTEMPTS, to_columns(RESTORED_COLUMNS, attempts), binary=True
            )
            updated = await driver.execute(
                SETTLE_ATTEMPTS, to_columns(SETTLED_COLUMNS, settled), binary=True
            )
            await driver.commit()
            recorded = Recorded(len(await inserted.fetchall()), len(await updated.fetchall()))
        self.positions.mark_stored(advance)
        return recorded

    async def renew_positions(self, topic: str, advance: Advance) -> None:
        """Checks that the positions are still stored, and renews times older than 10 s."""
        async with self._database.pipeline() as driver:
            positions = await self.positions.lock(driver, advance, moves=False)
            await positions.fetchall()
            await driver.execute(RENEW_POSITIONS, (topic,))
            await driver.commit()

    async def add_positions(self, begins: Mapping[TopicPartition, int], cluster_id: str) -> None:
        """Stores missing positions: the beginnings of their partitions."""
        await self.positions.add(begins, cluster_id)

    async def store_refusal(self, partition: TopicPartition, refusal: Refusal) -> None:
        """Stores a refusal. Keeps the position's time: it bounds what the loss concerns."""
        values = {**partition._asdict(), "refused": refusal}
        async with self._database.transaction() as connection:
            await connection.execute(STORE_REFUSAL, values)

    async def count_lost_pins(self) -> int:
        """Counts the pins that are on Pinterest, and that Postgres does not have."""
        row = await self._database.fetch_first(COUNT_LOST_PINS)
        return int(row["pins"]) if row else 0

    async def dispose(self) -> None:
        await self._database.dispose()


def build_attempt_row(attempt: DeliveryAttempt) -> AttemptRow:
    """Builds the values of RESTORED_COLUMNS."""
    return (
        attempt.attempt_id,
        attempt.pin_id,
        attempt.number,
        attempt.workspace_id,
        attempt.account_id,
        attempt.mode,
        attempt.fence,
        attempt.board_id,
        digest(attempt.board_id, attempt.texts),
        encode(attempt.texts._asdict()).decode(),
        attempt.started_at,
        attempt.deadline_at,
    )
