"""The producer with a real broker."""

import asyncio

from shared.contract.topics import TopicName, TopicNames
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record

LARGE = Record(b"one key, so one partition", b"x" * 190_000)


async def test_three_tasks_that_send_to_one_partition_take_turns(
    producer: RecordProducer, topic_prefix: str
) -> None:
    topic, sent = TopicNames(topic_prefix)[TopicName.OUTCOMES], [0, 0, 0]

    async def send_until_all_have_sent_some(sender: int) -> None:
        while min(sent) < 20:
            await producer.send(topic, [LARGE])
            sent[sender] += 1

    async with asyncio.TaskGroup() as group:
        for sender in range(len(sent)):
            group.create_task(send_until_all_have_sent_some(sender))
