"""Builds dead letters as services write them, and runs `pinflow dead-letters` in this process."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from typer.testing import CliRunner, Result

from deploy.cli.main import app
from shared.contract.errors import ErrorCode, Poison
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.dead_letters import DeadLetter, to_record
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.runtime.settings import KafkaSettings

NAMES = TopicNames()


def to_compact_json(document: Any) -> bytes:
    """Writes JSON as services do: without spaces. A record's first bytes show its kind."""
    return json.dumps(document, separators=(",", ":")).encode()


def consumed_record(
    value: bytes | None,
    *,
    topic: str = NAMES[TopicName.IMPORTS],
    key: bytes | None = b"k",
    partition: int = 0,
    offset: int = 0,
    headers: Sequence[tuple[str, bytes | None]] = (),
    timestamp: int = 0,
) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(
        topic, partition, offset, timestamp, 0, key, value, None, 0, 0, tuple(headers)
    )


def build_dead_letter(
    record: "ConsumerRecord[bytes, bytes]",
    *,
    code: ErrorCode = ErrorCode.INVALID_RECORD,
    message: str = "unreadable",
    service: str = "publisher",
) -> Record:
    return to_record(DeadLetter(record, Poison(code, message)), service=service)


class Operator:
    """Runs `pinflow dead-letters` on the topics of one cluster."""

    def __init__(self, kafka: str, prefix: str, database_url: str) -> None:
        self.names = TopicNames(prefix)
        self.settings = KafkaSettings(kafka_bootstrap_servers=kafka, topic_prefix=prefix)
        self.environment = {
            "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": kafka,
            "PINFLOW_TOPIC_PREFIX": prefix,
            "PINFLOW_DATABASE_URL": database_url,
        }

    def run(self, *arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(
            app, ["dead-letters", *arguments], env={**self.environment, **variables}
        )

    def run_json(self, *arguments: str) -> Any:
        """Runs the command with --json and returns the parsed output."""
        result = self.run(*arguments, "--json")
        assert result.exit_code in {0, 1}, result.output
        return json.loads(result.stdout)

    def write_records(self, topic: TopicName, *records: Record) -> None:
        async def send() -> None:
            producer = RecordProducer(self.settings, client_id="test")
            await producer.start()
            await producer.send(self.names[topic], records)
            await producer.stop()

        asyncio.run(send())

    def write_dead_letters(
        self, topic: TopicName, *values: bytes, key: bytes = b"k", headers: Any = (), **reason: Any
    ) -> None:
        """Writes a dead letter for each value, as a consumer of `topic` does."""
        records = [
            build_dead_letter(
                consumed_record(
                    value, topic=self.names[topic], key=key, offset=offset, headers=headers
                ),
                **reason,
            )
            for offset, value in enumerate(values)
        ]
        self.write_records(TopicName.DEAD_LETTERS, *records)


@pytest.fixture
def operator(kafka: str, topic_prefix: str, database_url: str) -> Operator:
    return Operator(kafka, topic_prefix, database_url)
