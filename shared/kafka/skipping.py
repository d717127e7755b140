"""Lets a consumer skip records before they become objects.

Publisher and status read one topic and each skips what the other owns. aiokafka 0.14 makes a
ConsumerRecord of every record first, which is most of what reading costs. A RecordFilter given as
the consumer's value deserializer is asked before that.
"""

from collections.abc import Callable, Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.structs import ConsumerRecord


class RecordFilter:
    """Says which records of a topic a consumer wants, by their values.

    `ends_early(first, count)` says whether, in a batch of `count` records that begins with the
    value `first`, all wanted records come before the unwanted ones: the rest of such a batch is not
    looked at.
    """

    def __init__(
        self,
        topic: str,
        wants: Callable[[bytes | None], bool],
        ends_early: Callable[[bytes | None, int], bool] = lambda _first, _count: False,
    ) -> None:
        self.topic = topic
        self.wants = wants
        self.ends_early = ends_early

    def __call__(self, value: bytes | None) -> bytes | None:
        """Returns the value as it is: aiokafka calls this for every record that is wanted."""
        return value


class _SkippingRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Unpacks only the wanted records of a fetched partition.

    A position moves past the others all the same.
    """

    _value_deserializer: Any

    def _unpack_records(self) -> Iterator["ConsumerRecord[bytes, bytes]"]:
        record_filter: object = self._value_deserializer
        if isinstance(record_filter, RecordFilter) and record_filter.topic == self._tp.topic:
            self._value_deserializer = None
            return self._unpack_wanted(record_filter)
        return super()._unpack_records()  # type: ignore[no-any-return]

    def _unpack_wanted(
        self, record_filter: RecordFilter
    ) -> Iterator["ConsumerRecord[bytes, bytes]"]:
        # Not for topics read committed, which BatchConsumer refuses: aborted records would pass
        while self._records.has_next():
            batch = self._records.next_batch()
            if not batch.validate_crc():
                raise fetcher.Errors.CorruptRecordException(f"Invalid CRC - {self._tp}")
            if not batch.is_control_batch:
                yield from self._wanted_of(batch, record_filter)
            self.next_fetch_offset = batch.next_offset

    def _wanted_of(
        self, batch: Any, record_filter: RecordFilter
    ) -> Iterator["ConsumerRecord[bytes, bytes]"]:
        ends_early: bool | None = None
        for record in batch:
            if ends_early is None:
                ends_early = record_filter.ends_early(
                    record.value, batch.next_offset - batch.base_offset
                )
            if not record_filter.wants(record.value):
                if ends_early:
                    return
            elif record.offset >= self.next_fetch_offset:  # or it was read before
                found = self._consumer_record(self._tp, record)
                self.next_fetch_offset = record.offset + 1
                yield found


# For every consumer of the process: aiokafka 0.14 has no parameter for this class
fetcher.PartitionRecords = _SkippingRecords
