"""A filter returns the wanted records, loses none, and moves the position past the others."""

from collections.abc import Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from shared.contract.events import RecordKind
from shared.contract.import_records import (
    is_for_publisher,
    is_for_status,
    is_whole_import,
    kind_prefix,
)
from shared.contract.topics import TopicName
from shared.contract.wire import encode
from shared.kafka.subscription import RecordFilter
from tests.support.consuming import build_subscription
from tests.support.factories import import_accepted
from tests.support.record_batches import NO_CODEC, SNAPPY, build_record_batch

TOPIC = "pinflow.imports.v2"
PUBLISHER = RecordFilter(TOPIC, is_for_publisher)
STATUS = RecordFilter(TOPIC, is_for_status, is_whole_import)


def an_import(
    *,
    rows: int = 5,
    other_kinds: Sequence[RecordKind] = (RecordKind.RESULTS, RecordKind.UPLOAD),
) -> list[bytes]:
    """Returns the values of one import's batch, in order."""
    accepted = import_accepted(batch_records=1 + len(other_kinds) + rows)
    others = [*other_kinds, *[RecordKind.ROW] * rows]
    return [
        encode(accepted),
        *(kind_prefix(kind) + b',"id":"%d"}' % uuid4() for kind in others),
    ]


def unpack(
    data: bytes,
    record_filter: RecordFilter | None,
    *,
    position: int = 0,
    topic: str = TOPIC,
) -> fetcher.PartitionRecords:
    """Returns the fetcher's records of a partition that was fetched from `position` on."""
    return fetcher.PartitionRecords(
        TopicPartition(topic, 3),
        MemoryRecords(data),
        None,
        position,
        None,
        record_filter,
        True,  # noqa: FBT003 - aiokafka's parameter: check the CRC
        fetcher.READ_UNCOMMITTED,
    )


def values(records: fetcher.PartitionRecords) -> list[bytes | None]:
    return [record.value for record in records]


class RecordingFilter:
    """Wraps a filter, and records the values that it was called with."""

    def __init__(self, wrapped: RecordFilter) -> None:
        self.values: list[bytes | None] = []
        self._wrapped = wrapped
        self.filter = RecordFilter(wrapped.topic, self._wants, wrapped.ends_early)

    def _wants(self, value: bytes | None) -> bool:
        self.values.append(value)
        return self._wrapped.wants(value)


@pytest.mark.parametrize("codec", [NO_CODEC, SNAPPY])
def test_each_filter_returns_its_records_in_order_and_unchanged(codec: int) -> None:
    sent = an_import()
    batch = build_record_batch(sent, base_offset=40, codec=codec)
    assert values(unpack(batch, STATUS, position=40)) == sent[:3]
    assert values(unpack(batch, PUBLISHER, position=40)) == sent[3:]
    records: list[ConsumerRecord[bytes, bytes]] = list(unpack(batch, PUBLISHER, position=40))
    (unfiltered,) = islice(unpack(batch, None, position=43), 1)
    assert records[0] == unfiltered
    assert [record.offset for record in records] == [43, 44, 45, 46, 47]


def test_the_position_moves_past_skipped_records() -> None:
    batches = build_record_batch(an_import(other_kinds=())) + build_record_batch(
        [kind_prefix(RecordKind.ROW)] * 4, base_offset=6
    )
    records = unpack(batches, STATUS)
    assert len(values(records)) == 1
    assert records.next_fetch_offset == 10


def test_the_position_moves_past_a_batch_without_wanted_records() -> None:
    records = unpack(
        build_record_batch([kind_prefix(RecordKind.ROW)] * 4, base_offset=9), STATUS, position=9
    )
    assert values(records) == []
    assert records.next_fetch_offset == 13


@pytest.mark.parametrize("position", range(9))
@pytest.mark.parametrize("record_filter", [STATUS, PUBLISHER], ids=["status", "publisher"])
def test_reading_resumes_in_the_middle_of_a_batch(
    record_filter: RecordFilter, position: int
) -> None:
    """For an offset within a batch, Kafka returns the whole batch."""
    sent = an_import()
    records = unpack(build_record_batch(sent), record_filter, position=position)
    assert values(records) == [value for value in sent[position:] if record_filter.wants(value)]
    assert records.next_fetch_offset == max(position, len(sent))


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
@pytest.mark.parametrize("record_filter", [STATUS, PUBLISHER], ids=["status", "publisher"])
def test_reading_in_chunks_loses_nothing_and_the_position_never_passes_unread_records(
    record_filter: RecordFilter,
    chunk: int,
) -> None:
    sent = [*an_import(), *an_import(rows=2), *an_import(rows=0), b"no kind", *an_import(rows=1)]
    ranges = [(0, 8), (8, 16), (16, len(sent))]
    batches = b"".join(
        build_record_batch(sent[begin:end], base_offset=begin) for begin, end in ranges
    )
    state = SimpleNamespace(paused=False, position=0)
    state.consumed_to = lambda offset: setattr(state, "position", offset)
    assignment: Any = SimpleNamespace(active=True, state_value=lambda _: state)
    result = fetcher.FetchResult(
        TopicPartition(TOPIC, 3),
        assignment=assignment,
        partition_records=unpack(batches, record_filter),
        backoff=0,
    )
    taken: list[bytes | None] = []
    while result.has_more():
        records = result.getall(chunk)
        taken += [record.value for record in records]
        unread = [value for value in sent[state.position :] if record_filter.wants(value)]
        assert taken + unread == [value for value in sent if record_filter.wants(value)]
    assert state.position == len(sent)


def test_status_reads_a_complete_import_only_up_to_its_first_row() -> None:
    recording, sent = RecordingFilter(STATUS), an_import(rows=400)
    assert values(unpack(build_record_batch(sent), recording.filter)) == sent[:3]
    assert recording.values == sent[:4]


def test_two_imports_in_one_batch_are_both_read() -> None:
    """Replication between clusters may combine them."""
    first, second = an_import(), an_import(rows=2)
    recording = RecordingFilter(STATUS)
    assert values(unpack(build_record_batch([*first, *second]), recording.filter)) == [
        *first[:3],
        *second[:3],
    ]
    assert recording.values == [*first, *second]
    assert values(unpack(build_record_batch([*first, *second]), PUBLISHER)) == [
        *first[3:],
        *second[3:],
    ]


@pytest.mark.parametrize("cut", range(1, 8))
def test_an_import_in_two_batches_is_read_completely(cut: int) -> None:
    sent, following = an_import(), an_import(rows=1)
    batches = build_record_batch(sent[:cut]) + build_record_batch(
        [*sent[cut:], *following], base_offset=cut
    )
    assert values(unpack(batches, STATUS)) == [*sent[:3], *following[:3]]
    assert values(unpack(batches, PUBLISHER)) == [*sent[3:], *following[3:]]


def test_a_batch_that_does_not_begin_with_an_import_is_read_completely() -> None:
    """For example a replayed row and the records after it."""
    row, sent = kind_prefix(RecordKind.ROW) + b"}", an_import()
    assert values(unpack(build_record_batch([row, *sent]), STATUS)) == sent[:3]


def test_values_without_a_kind_go_to_the_publisher() -> None:
    batch = build_record_batch([None, b"", b"{}", kind_prefix(RecordKind.RESULTS)])
    assert values(unpack(batch, PUBLISHER)) == [None, b"", b"{}"]
    assert values(unpack(batch, STATUS)) == [kind_prefix(RecordKind.RESULTS)]


@pytest.mark.parametrize("record_filter", [STATUS, PUBLISHER], ids=["status", "publisher"])
def test_a_corrupt_batch_raises_an_error_and_the_position_stays_before_it(
    record_filter: RecordFilter,
) -> None:
    good, damaged = (
        build_record_batch(an_import()),
        bytearray(build_record_batch(an_import(), base_offset=8)),
    )
    damaged[-3] ^= 1
    records = unpack(good + bytes(damaged), record_filter)
    with pytest.raises(CorruptRecordException, match=f"{TOPIC}"):
        list(records)
    assert records.next_fetch_offset == 8


def test_another_topic_of_the_same_consumer_is_not_filtered() -> None:
    sent = [b"poison", None, *an_import()]
    records = unpack(build_record_batch(sent), STATUS, topic="pinflow.outcomes.v1")
    assert values(records) == sent
    assert records.next_fetch_offset == len(sent)


@pytest.mark.parametrize(
    "removed",
    [(0,), (1, 2), (3, 4), (7,), (0, 3, 7), tuple(range(8))],
    ids=lambda removed: "-".join(map(str, removed)),
)
@pytest.mark.parametrize("record_filter", [STATUS, PUBLISHER], ids=["status", "publisher"])
def test_a_compacted_batch_is_read_completely(
    record_filter: RecordFilter, removed: tuple[int, ...]
) -> None:
    sent, after = an_import(), an_import(rows=1)
    remaining = [value for place, value in enumerate(sent) if place not in removed]
    batches = build_record_batch(sent, base_offset=10, removed=removed) + build_record_batch(
        after, base_offset=18
    )
    records = unpack(batches, record_filter, position=10)
    assert values(records) == [
        value for value in [*remaining, *after] if record_filter.wants(value)
    ]
    assert records.next_fetch_offset == 22


def test_the_position_moves_past_a_transaction_marker() -> None:
    marker = build_record_batch([b"\0\0\0\0\0\0"], base_offset=8, is_control=True)
    records = unpack(build_record_batch(an_import()) + marker, PUBLISHER)
    assert len(values(records)) == 5
    assert records.next_fetch_offset == 9


def test_a_filter_is_refused_for_read_committed_topics() -> None:
    topics = [TopicName.IMPORT_REQUESTS, TopicName.IMPORTS]
    with pytest.raises(ValueError, match="needs isolation='read_uncommitted'"):
        build_subscription("unit", *topics, record_filter=STATUS)
