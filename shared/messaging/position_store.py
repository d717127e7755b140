"""All SQL on positions: each service has them in its own schema."""

import time
from collections.abc import Mapping
from typing import Any

import psycopg
from aiokafka import TopicPartition
from sqlalchemy import TextClause, text

from shared.columns import Column
from shared.database import Database, DriverConnection
from shared.errors import PositionBehind
from shared.messaging.advance import Advance
from shared.messaging.positions import Refusal, StoredPosition


class PositionStore:
    """The positions of one service. Raises DatabaseUnavailable while Postgres is away."""

    def __init__(self, database: Database, schema: str) -> None:
        self._database = database
        self._schema = schema
        self._seen: dict[TopicPartition, int] = {}
        """The highest positions that this process has seen stored."""
        self._older_at = float("-inf")
        self._hold = f"select {schema}.hold_positions(%b::text[], %b::int4[], %b::int8[], %b::int8[])"

    async def warm(self) -> None:
        """Opens all connections of the pool, so that later ones only replace broken ones."""
        await self._database.warm()

    async def load(self) -> dict[TopicPartition, StoredPosition]:
        """Reads all positions of the service, and notices if this process has seen later ones."""
        seen = dict(self._seen)  # what is stored while this is read, it need not show
        rows = await self._database.all(
            self._text("select topic, partition, next_offset, cluster_id, replay_until, refused from {}.positions")
        )
        stored = {
            TopicPartition(row["topic"], row["partition"]): StoredPosition(
                row["next_offset"],
                row["cluster_id"],
                row["replay_until"],
                Refusal(row["refused"]) if row["refused"] else None,
            )
            for row in rows
        }
        self._compare(stored, seen)
        return stored

    def _compare(
        self,
        stored: Mapping[TopicPartition, StoredPosition],
        seen: Mapping[TopicPartition, int],
    ) -> None:
        # An operator sets refused positions back: that is no older Postgres
        found = {partition: position.next_offset for partition, position in stored.items() if not position.refused}
        refused = stored.keys() - found.keys()
        if any(found.get(partition, 0) < offset for partition, offset in seen.items() if partition not in refused):
            self._older_at = time.monotonic()
            self._seen = found
        else:
            self._seen = {partition: max(offset, self._seen.get(partition, 0)) for partition, offset in found.items()}

    def seen(self, advance: Advance) -> None:
        """Notes that an advance was stored."""
        advance.is_stored = True
        for partition, span in advance.spans.items():
            self._seen[partition] = max(span.end, self._seen.get(partition, 0))

    def seconds_since_older(self, seconds: float) -> float:
        """Returns what is left of so many seconds since an older Postgres was noticed, else 0."""
        return max(0.0, self._older_at + seconds - time.monotonic())

    async def is_seeded(self) -> bool:
        """Tells whether the group's committed offsets are to be taken over."""
        return await self._database.first(self._text("select since from {}.position_seed")) is not None

    async def add(self, offsets: Mapping[TopicPartition, int], cluster_id: str, *, takes_over: bool = False) -> None:
        """Stores positions that are missing. `takes_over`: those of a seeded installation, once."""
        insert = self._text(
            "insert into {}.positions (topic, partition, next_offset, cluster_id) "
            "values (:topic, :partition, :next_offset, :cluster_id) on conflict do nothing"
        )
        async with self._database.transaction() as connection:
            if takes_over and not (await connection.execute(self._text("delete from {}.position_seed"))).rowcount:
                return  # another replica was faster
            if offsets:
                await connection.execute(insert, _values(offsets, cluster_id))

    async def reset(self, offsets: Mapping[TopicPartition, int], cluster_id: str) -> None:
        """Stores positions that are missing, or that do not fit Kafka's log, whatever stood there."""
        statement = self._text(
            "insert into {}.positions (topic, partition, next_offset, cluster_id) "
            "values (:topic, :partition, :next_offset, :cluster_id) "
            "on conflict (topic, partition) do update set next_offset = excluded.next_offset, "
            "cluster_id = excluded.cluster_id, refused = null, updated_at = now()"
        )
        async with self._database.transaction() as connection:
            await connection.execute(statement, _values(offsets, cluster_id))
        self._seen |= offsets

    async def refuse(self, partition: TopicPartition, refusal: Refusal) -> None:
        """Stores that an operator must accept a loss before the partition is consumed."""
        await self._update(partition, "refused = :value", refusal)

    async def replay(self, partition: TopicPartition, until: int) -> None:
        """Stores that records up to an offset are processed a second time."""
        await self._update(partition, "replay_until = :value", until)

    async def is_replaying(self) -> bool:
        """Tells whether a position of the service has not reached its `replay_until` yet."""
        query = "select exists (select from {}.positions where next_offset < replay_until) as is_so"
        row = await self._database.first(self._text(query))
        return row is not None and bool(row["is_so"])

    async def hold(self, driver: DriverConnection, advance: Advance, *, moves: bool) -> "psycopg.AsyncCursor[Any]":
        """Locks a advance's positions for the transaction; with `moves`, moves them to its end.

        The answer is the transaction's time. Raises PositionBehind if this connection is newer than
        the advance; the database raises it (as PF001) if a position is behind.
        """
        if advance.spans and self._database.made_at(driver) > advance.checked_at:
            raise PositionBehind("the connection is newer than the last look at the positions")
        topics, partitions, starts, ends = advance.columns()
        return await driver.execute(
            self._hold,
            (
                Column("text", topics),
                Column("int4", partitions),
                Column("int8", starts),
                Column("int8", ends) if moves else None,
            ),
            binary=True,
        )

    async def move(self, advance: Advance) -> None:
        """Moves positions in a transaction of their own. Raises PositionBehind."""
        async with self._database.pipeline() as driver:
            held = await self.hold(driver, advance, moves=True)
            await driver.commit()
            await held.fetchall()
        self.seen(advance)

    async def _update(self, partition: TopicPartition, change: str, value: Any) -> None:
        statement = self._text(f"update {{}}.positions set {change}, updated_at = now() where topic = :topic and partition = :partition")
        async with self._database.transaction() as connection:
            values = {"topic": partition.topic, "partition": partition.partition, "value": value}
            await connection.execute(statement, values)

    def _text(self, statement: str) -> TextClause:
        return text(statement.format(self._schema))


def _values(offsets: Mapping[TopicPartition, int], cluster_id: str) -> list[dict[str, Any]]:
    return [
        {"topic": partition.topic, "partition": partition.partition, "next_offset": offset, "cluster_id": cluster_id}
        for partition, offset in sorted(offsets.items())
    ]
