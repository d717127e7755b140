"""A batch is folded in portions that end in time, each of which can be repeated."""

import json
from uuid import uuid4

import cramjam
import pytest
from aiokafka import ConsumerRecord

from services.status import fold_service
from services.status.consumers import FoldHandler
from services.status.fold_service import FoldService
from services.status.folding import BYTES_PER_ROW, Fold
from shared.contract.errors import ValueRejected
from shared.contract.events import FileUploaded, ImportAccepted, RowsSettled, UploadFormat
from shared.contract.topics import TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.positions.advance import Advance
from shared.runtime.periodic import PeriodicTask
from tests.support.events import event_document
from tests.support.factories import created, import_accepted, rows_settled

NAMES = TopicNames()
FAULTY = "9999-refused"


class Store:
    """Takes folds, but for those with a result of the key FAULTY."""

    def __init__(self) -> None:
        self.folds: list[Fold] = []
        self.moves: list[bool] = []
        """For each transaction that was tried, whether it moves the positions."""

    async def fold(self, batch: Fold, _advance: Advance, *, moves: bool) -> int:
        self.moves.append(moves)
        if any(
            result.idempotency_key == FAULTY
            for results in batch.results.values()
            for result in results
        ):
            raise ValueRejected("a value")
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
    monkeypatch.setattr(fold_service, "MAX_FOLDED_ROWS", 10)
    return new_handler(store)


def new_handler(store: Store, *, keep_uploads: bool = True) -> FoldHandler:
    async def nothing() -> int:
        return 0

    announcer = PeriodicTask("announcer", nothing, interval_seconds=1)
    return FoldHandler(FoldService(store, announcer), NAMES, keep_uploads=keep_uploads)


def delivered(event: ImportAccepted | RowsSettled) -> "ConsumerRecord[bytes, bytes]":
    name = TopicName.IMPORTS if isinstance(event, ImportAccepted) else TopicName.OUTCOMES
    return record_of(name, encode(event), str(event.job_id).encode())


def record_of(name: TopicName, value: bytes, key: bytes = b"k") -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(
        topic=NAMES[name],
        partition=0,
        offset=0,
        timestamp=0,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=36,
        serialized_value_size=len(value),
        headers=[],
    )


def settled(job: ImportAccepted, *rows: int) -> RowsSettled:
    return rows_settled(job, *[created(row) for row in rows])


async def test_a_fold_is_bounded_in_results_not_in_records(
    handler: FoldHandler, store: Store
) -> None:
    job = import_accepted(job_id=uuid4(), total_rows=16)
    events: list[ImportAccepted | RowsSettled] = [
        job,
        *(settled(job, *range(first, first + 4)) for first in (1, 5, 9, 13)),
    ]
    decoded, poison = handler.decode([delivered(event) for event in events])
    assert await handler.process(decoded, poison, Advance()) == []
    assert store.sizes == [8, 8]
    assert [
        result.row_number for batch in store.folds for result in batch.results[job.job_id]
    ] == list(range(1, 17))


async def test_a_record_larger_than_a_fold_may_be_is_folded_alone(
    handler: FoldHandler, store: Store
) -> None:
    job = import_accepted(total_rows=30)
    decoded, poison = handler.decode(
        [
            delivered(settled(job, 1)),
            delivered(settled(job, *range(2, 22))),
            delivered(settled(job, 22)),
        ]
    )
    await handler.process(decoded, poison, Advance())
    assert store.sizes == [1, 20, 1]


async def test_invariant_8_what_is_refused_in_one_portion_leaves_the_others_alone(
    handler: FoldHandler, store: Store
) -> None:
    job = import_accepted(total_rows=30)
    bad = rows_settled(job, created(9, idempotency_key=FAULTY))
    records = [
        delivered(settled(job, *range(1, 9))),
        delivered(bad),
        delivered(settled(job, *range(10, 19))),
    ]
    decoded, poison = handler.decode(records)
    letters = await handler.process(decoded, poison, Advance())
    assert [letter.record for letter in letters] == [records[1]]
    assert sum(store.sizes) == 17


async def test_nothing_to_fold_asks_nothing_of_the_store(
    handler: FoldHandler, store: Store
) -> None:
    assert await handler.process([], [], Advance()) == []
    assert store.folds == []


def test_invariant_8_an_import_whose_time_has_no_zone_is_poison(handler: FoldHandler) -> None:
    record = delivered(import_accepted())
    record.value = (record.value or b"").replace(b"Z", b"").replace(b"+00:00", b"")
    decoded, poison = handler.decode([record])
    assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])


def test_invariant_8_an_import_whose_time_no_one_could_read_again_is_poison(
    handler: FoldHandler,
) -> None:
    """Postgres would store it. Every list and announcement that reads it would then fail."""
    record = delivered(import_accepted())
    value = json.loads(record.value or b"")
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        record.value = json.dumps({**value, "accepted_at": time}).encode()
        decoded, poison = handler.decode([record])
        assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])


PACKED = bytes(cramjam.zstd.compress(b"title\nLamp\n"))


def upload(content: bytes = PACKED, **fields: object) -> bytes:
    about = FileUploaded(job_id=uuid4(), workspace_id=uuid4(), format=UploadFormat.CSV, size=11)
    return (
        json.dumps({**event_document(about), **fields}, separators=(",", ":")).encode()
        + b"\n"
        + content
    )


async def test_an_upload_is_kept_as_it_came_packed(handler: FoldHandler, store: Store) -> None:
    content = PACKED + b"\n\0{}\n"
    decoded, poison = handler.decode([record_of(TopicName.IMPORTS, upload(content))])
    assert await handler.process(decoded, poison, Advance()) == []
    (((_, _, kind, size, kept),),) = [list(batch.uploads.values()) for batch in store.folds]
    assert (kind, size, kept) == ("csv", 11, content)


async def test_a_fold_is_bounded_in_bytes_of_uploads(handler: FoldHandler, store: Store) -> None:
    content = PACKED.ljust(4 * BYTES_PER_ROW, b"x")
    decoded, poison = handler.decode(
        [record_of(TopicName.IMPORTS, upload(content)) for _ in range(5)]
    )
    await handler.process(decoded, poison, Advance())
    assert [len(batch.uploads) for batch in store.folds] == [2, 2, 1]


@pytest.mark.parametrize(
    "value",
    [
        upload().replace(b"\n", b"", 1),
        upload(b""),
        upload(b"title\nLamp\n"),
        upload(b"\n" + PACKED),
        upload().replace(b'"size":', b'"size"', 1),
        upload(job_id="not-a-uuid"),
        upload(workspace_id=None),
        upload(format="xlsx"),
        upload(encoding="gzip"),
        upload(size=-1),
        b'{"kind":"u",',
    ],
    ids=[
        "no line feed",
        "empty",
        "not zstd",
        "two line feeds",
        "no JSON",
        "job",
        "workspace",
        "format",
        "encoding",
        "size",
        "cut",
    ],
)
def test_invariant_8_an_upload_that_cannot_be_read_is_poison(
    handler: FoldHandler, value: bytes
) -> None:
    decoded, poison = handler.decode([record_of(TopicName.IMPORTS, value)])
    assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])


def test_invariant_8_an_upload_on_another_topic_is_poison(handler: FoldHandler) -> None:
    decoded, poison = handler.decode([record_of(TopicName.OUTCOMES, upload())])
    assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])


async def test_where_uploads_are_not_kept_they_are_dropped(store: Store) -> None:
    handler, job = new_handler(store, keep_uploads=False), import_accepted()
    decoded, poison = handler.decode([delivered(job), record_of(TopicName.IMPORTS, upload())])
    assert await handler.process(decoded, poison, Advance()) == []
    assert [(list(batch.jobs), batch.uploads) for batch in store.folds] == [([job.job_id], {})]


async def test_results_of_failed_rows_come_on_the_topic_of_imports(
    handler: FoldHandler, store: Store
) -> None:
    job = import_accepted(total_rows=2)
    failures = record_of(TopicName.IMPORTS, encode(settled(job, 1)))
    decoded, poison = handler.decode([delivered(job), failures])
    assert await handler.process(decoded, poison, Advance()) == []
    assert store.sizes == [1]
