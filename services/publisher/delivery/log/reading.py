"""Reads from Kafka what the gate and the fold of `deliveries` need."""

from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, NotCoordinatorForGroupError

from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import admin_client
from shared.kafka.connection import translate_error
from shared.kafka.positions.rules import PartitionLog
from shared.kafka.topic_reader import TopicReader
from shared.runtime.settings import ServiceSettings

PUBLISHER = "publisher"


class CommittedOffsets(NamedTuple):
    """The id of the cluster, and the offsets that the publisher has committed in `imports`."""

    cluster_id: str
    offsets: dict[TopicPartition, int]


class DeliveryLogReader:
    """Reads the bounds and records of `deliveries`, and the bounds of `imports`.

    Raises BrokerUnavailable.
    """

    def __init__(self, settings: ServiceSettings, names: TopicNames) -> None:
        client_id = f"pinflow-delivery-log-{settings.replica}"
        self.deliveries = TopicReader(settings, names[TopicName.DELIVERIES], client_id=client_id)
        self._imports = TopicReader(settings, names[TopicName.IMPORTS], client_id=client_id)
        self._settings = settings
        self._group = names.group(PUBLISHER)

    async def read_committed(self) -> CommittedOffsets:
        """Reads the publisher's committed offsets. Call it before you read the positions.

        The publisher stores a position before it commits its offset. So in this order an offset is
        at most its position, unless Postgres is older than Kafka.
        """
        partitions = list(await self._imports.bounds())
        try:
            async with admin_client(self._settings) as admin:
                cluster_id = str((await admin.describe_cluster())["cluster_id"])
                coordinator = await admin.find_coordinator(self._group)
                answer = await admin.list_consumer_group_offsets(
                    self._group, coordinator, partitions
                )
        except KafkaError as error:
            raise translate_error(error) or BrokerUnavailable(repr(error)) from error
        # aiokafka 0.14 ignores an error of the whole response and returns no partitions
        if any(partition not in answer for partition in partitions):
            raise BrokerUnavailable(repr(NotCoordinatorForGroupError(self._group)))
        offsets = {partition: answer[partition].offset for partition in partitions}
        return CommittedOffsets(
            cluster_id, {partition: offset for partition, offset in offsets.items() if offset >= 0}
        )

    async def read_rows_logs(
        self, committed: CommittedOffsets
    ) -> dict[TopicPartition, PartitionLog]:
        """Reads the bounds of `imports`, with the committed offsets. Call it after the positions
        were read."""
        return {
            partition: PartitionLog(begin, end, committed.offsets.get(partition))
            for partition, (begin, end) in (await self._imports.bounds()).items()
        }

    async def close(self) -> None:
        """Closes the connections to Kafka."""
        await self.deliveries.close()
        await self._imports.close()
