"""A batch is folded in portions that end in time, each of which can be repeated."""

import json
from uuid import uuid4

import pytest
from aiokafka import ConsumerRecord

from services.status import consumers
from services.status.consumers import FoldHandler
from services.status.folding import Fold
from shared.database import Refused
from shared.events import ImportAccepted, RowsSettled
from shared.sweeper import Sweeper
from shared.topics import TopicName, TopicNames
from tests.factories import created, import_accepted, rows_settled

NAMES = TopicNames()
FAULTY = "9999-refused"


class Store:
    """Takes folds, but for those with a result of the key FAULTY."""

    def __init__(self) -> None:
        self.folds: list[Fold] = []

    async def fold(self, batch: Fold) -> int:
        if any(result.idempotency_key == FAULTY for results in batch.results.values() for result in results):
            raise Refused("a value")
        self.folds.append(batch)
        return 0

    @property
    def sizes(self) -> list[int]:
        return [sum(map(len, batch.results.values())) for batch in self.folds]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def handler(store: Store, monkeypatch: pytest.MonkeyPatch) -> FoldHandler:
    monkeypatch.setattr(consumers, "FOLDED_AT_ONCE", 10)

    async def nothing() -> int:
        return 0

    return FoldHandler(store, NAMES, Sweeper("announcer", nothing, interval_seconds=1))


def delivered(event: ImportAccepted | RowsSettled) -> "ConsumerRecord[bytes, bytes]":
    name = TopicName.IMPORTS if isinstance(event, ImportAccepted) else TopicName.OUTCOMES
    value = event.model_dump_json().encode()
    return ConsumerRecord(
        topic=NAMES[name],
        partition=0,
        offset=0,
        timestamp=0,
        timestamp_type=0,
        key=str(event.job_id).encode(),
        value=value,
        checksum=None,
        serialized_key_size=36,
        serialized_value_size=len(value),
        headers=[],
    )


def settled(job: ImportAccepted, *rows: int) -> RowsSettled:
    return rows_settled(job, *[created(row) for row in rows])


async def test_a_fold_is_bounded_in_results_not_in_records(handler: FoldHandler, store: Store) -> None:
    job = import_accepted(job_id=uuid4(), total_rows=16)
    events: list[ImportAccepted | RowsSettled] = [job, *(settled(job, *range(first, first + 4)) for first in (1, 5, 9, 13))]
    decoded, poison = handler.decode([delivered(event) for event in events])
    assert await handler.process(decoded, poison) == []
    assert store.sizes == [8, 8]
    assert [result.row_number for batch in store.folds for result in batch.results[job.job_id]] == list(range(1, 17))


async def test_a_record_larger_than_a_fold_may_be_is_folded_alone(handler: FoldHandler, store: Store) -> None:
    job = import_accepted(total_rows=30)
    decoded, poison = handler.decode([delivered(settled(job, 1)), delivered(settled(job, *range(2, 22))), delivered(settled(job, 22))])
    await handler.process(decoded, poison)
    assert store.sizes == [1, 20, 1]


async def test_invariant_8_what_is_refused_in_one_portion_leaves_the_others_alone(handler: FoldHandler, store: Store) -> None:
    job = import_accepted(total_rows=30)
    bad = rows_settled(job, created(9, idempotency_key=FAULTY))
    records = [delivered(settled(job, *range(1, 9))), delivered(bad), delivered(settled(job, *range(10, 19)))]
    decoded, poison = handler.decode(records)
    letters = await handler.process(decoded, poison)
    assert [letter.record for letter in letters] == [records[1]]
    assert sum(store.sizes) == 17


async def test_nothing_to_fold_asks_nothing_of_the_store(handler: FoldHandler, store: Store) -> None:
    assert await handler.process([], []) == []
    assert store.folds == []


def test_invariant_8_an_import_whose_time_has_no_zone_is_poison(handler: FoldHandler) -> None:
    record = delivered(import_accepted())
    record.value = (record.value or b"").replace(b"Z", b"").replace(b"+00:00", b"")
    decoded, poison = handler.decode([record])
    assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])


def test_invariant_8_an_import_whose_time_no_one_could_read_again_is_poison(handler: FoldHandler) -> None:
    """Postgres would store it, and every list and every announcement that comes upon it would fail."""
    record = delivered(import_accepted())
    value = json.loads(record.value or b"")
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        record.value = json.dumps({**value, "accepted_at": time}).encode()
        decoded, poison = handler.decode([record])
        assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])
