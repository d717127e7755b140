"""Reads and writes a service's positions. They are in the service's own schema."""

import time
from collections.abc import Mapping
from typing import Any

import psycopg
from aiokafka import TopicPartition
from sqlalchemy import TextClause, text

from shared.contract.errors import PositionBehind
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.rules import Refusal, StoredPosition
from shared.postgres.arrays import Column
from shared.postgres.database import Database, DriverConnection


class PositionStore:
    """Stores the positions of one service. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database, schema: str) -> None:
        self._database = database
        self._schema = schema
        self._seen: dict[TopicPartition, int] = {}
        """The highest stored positions that this process has seen."""
        self._older_noticed_at = float("-inf")
        """When an older Postgres was last noticed, by the monotonic clock."""
        parameters = "%b::text[], %b::int4[], %b::int8[], %b::int8[]"
        # Migration 0012 defines the function
        self._lock_statement = f"select {schema}.hold_positions({parameters})"

    async def warm(self) -> None:
        """Opens all connections of the pool. Connections opened later only replace broken ones."""
        await self._database.warm()

    async def load(self) -> dict[TopicPartition, StoredPosition]:
        """Reads all positions of the service. Detects an older Postgres by lower positions."""
        seen = dict(self._seen)  # a copy: this read may miss positions that are stored meanwhile
        rows = await self._database.fetch_all(
            self._text(
                "select topic, partition, next_offset, cluster_id, replay_until, refused from "
                "{}.positions",
            )
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
        # Refused positions are left out: an operator may lower them in the same Postgres
        current = {
            partition: position.next_offset
            for partition, position in stored.items()
            if not position.refused
        }
        expected = seen.keys() - (stored.keys() - current.keys())
        if any(current.get(partition, 0) < seen[partition] for partition in expected):
            self._older_noticed_at = time.monotonic()
            self._seen = current
        else:
            self._seen = {
                partition: max(offset, self._seen.get(partition, 0))
                for partition, offset in current.items()
            }

    def mark_stored(self, advance: Advance) -> None:
        """Records that the transaction which moved an advance's positions was committed."""
        advance.is_stored = True
        for partition, span in advance.spans.items():
            self._seen[partition] = max(span.end, self._seen.get(partition, 0))

    def remaining_wait(self, seconds: float) -> float:
        """Returns the time left until `seconds` after an older Postgres was noticed, at least 0."""
        return max(0.0, self._older_noticed_at + seconds - time.monotonic())

    async def has_offsets_to_take_over(self) -> bool:
        """Returns whether the group's committed offsets must still be stored as positions."""
        return (
            await self._database.fetch_first(self._text("select since from {}.position_seed"))
            is not None
        )

    async def add(
        self,
        offsets: Mapping[TopicPartition, int],
        cluster_id: str,
        *,
        takes_over: bool = False,
    ) -> None:
        """Stores missing positions. Existing ones stay.

        With `takes_over`, the offsets are the group's committed ones. Only the first such call
        stores them.
        """
        insert = self._text(
            "insert into {}.positions (topic, partition, next_offset, cluster_id) "
            "values (:topic, :partition, :next_offset, :cluster_id) on conflict do nothing"
        )
        async with self._database.transaction() as connection:
            if takes_over:
                deleted = await connection.execute(self._text("delete from {}.position_seed"))
                if not deleted.rowcount:
                    return  # another replica was faster
            if offsets:
                await connection.execute(insert, _values(offsets, cluster_id))

    async def reset(self, offsets: Mapping[TopicPartition, int], cluster_id: str) -> None:
        """Overwrites positions, and clears their refusals."""
        statement = self._text(
            "insert into {}.positions (topic, partition, next_offset, cluster_id) "
            "values (:topic, :partition, :next_offset, :cluster_id) "
            "on conflict (topic, partition) do update set next_offset = excluded.next_offset, "
            "cluster_id = excluded.cluster_id, refused = null, updated_at = now()"
        )
        async with self._database.transaction() as connection:
            await connection.execute(statement, _values(offsets, cluster_id))
        self._seen |= offsets

    async def store_refusal(self, partition: TopicPartition, refusal: Refusal) -> None:
        """Stores a refusal. An operator must accept the loss before the partition is consumed."""
        await self._update(partition, "refused = :value", refusal)

    async def store_replay(self, partition: TopicPartition, until: int) -> None:
        """Stores the end of a replay: records before it are processed again."""
        await self._update(partition, "replay_until = :value", until)

    async def is_replaying(self) -> bool:
        """Returns whether a replay of the service is unfinished."""
        query = (
            "select exists (select from {}.positions where next_offset < replay_until) "
            "as is_replaying"
        )
        row = await self._database.fetch_first(self._text(query))
        return row is not None and bool(row["is_replaying"])

    async def lock(
        self,
        driver: DriverConnection,
        advance: Advance,
        *,
        moves: bool,
    ) -> "psycopg.AsyncCursor[Any]":
        """Locks an advance's positions in the transaction. With `moves`, moves them to its end.

        The cursor has one row: the transaction's time. Raises PositionBehind if the connection was
        opened after the positions were read. If a stored position is lower than expected, the
        database raises PF001, which the pipeline translates into PositionBehind.
        """
        if advance.spans and self._database.connected_at(driver) > advance.checked_at:
            raise PositionBehind(
                "the connection to Postgres was opened after the positions were read"
            )
        topics, partitions, starts, ends = advance.columns()
        return await driver.execute(
            self._lock_statement,
            (
                Column("text", topics),
                Column("int4", partitions),
                Column("int8", starts),
                Column("int8", ends) if moves else None,
            ),
            binary=True,
        )

    async def move(self, advance: Advance) -> None:
        """Moves positions in a separate transaction. Raises PositionBehind."""
        async with self._database.pipeline() as driver:
            cursor = await self.lock(driver, advance, moves=True)
            await driver.commit()
            await cursor.fetchall()
        self.mark_stored(advance)

    async def _update(self, partition: TopicPartition, change: str, value: Any) -> None:
        statement = self._text(
            f"update {{}}.positions set {change}, updated_at = now() where topic = :topic and "
            "partition = :partition",
        )
        async with self._database.transaction() as connection:
            values = {"topic": partition.topic, "partition": partition.partition, "value": value}
            await connection.execute(statement, values)

    def _text(self, statement: str) -> TextClause:
        return text(statement.format(self._schema))


def _values(offsets: Mapping[TopicPartition, int], cluster_id: str) -> list[dict[str, Any]]:
    return [
        {
            "topic": partition.topic,
            "partition": partition.partition,
            "next_offset": offset,
            "cluster_id": cluster_id,
        }
        for partition, offset in sorted(offsets.items())
    ]
