"""A batch is folded in transactions of limited size, each of which can be repeated."""

import json
from uuid import uuid4

import cramjam
import pytest
from aiokafka import ConsumerRecord

from services.status import fold_service
from services.status.consumers import FoldHandler
from services.status.fold_service import FoldService
from services.status.folding import BYTES_PER_ROW, EventsByJob
from shared.contract.errors import ValueRejected
from shared.contract.events import FileUploaded, ImportAccepted, RowsSettled, UploadFormat
from shared.contract.topics import TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.positions.advance import Advance
from shared.runtime.periodic import PeriodicTask
from tests.support.events import event_document
from tests.support.factories import created_result, import_accepted, rows_settled

NAMES = TopicNames()
FAULTY = "9999-rejected"


class Store:
    """Accepts all folds except those with a result of the key FAULTY."""

    def __init__(self) -> None:
        self.folds: list[EventsByJob] = []
        self.moves: list[bool] = []
        """For each attempted transaction, whether it moves the positions."""

    async def fold(self, events: EventsByJob, _advance: Advance, *, moves: bool) -> int:
        self.moves.append(moves)
        if any(
            result.idempotency_key == FAULTY
            for results in events.results.values()
            for result in results
        ):
            raise ValueRejected("a value")
        self.folds.append(events)
        return 0

    @property
    def sizes(self) -> list[int]:
        return [sum(map(len, events.results.values())) for events in self.folds]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def handler(store: Store, monkeypatch: pytest.MonkeyPatch) -> FoldHandler:
    monkeypatch.setattr(fold_service, "MAX_FOLD_WEIGHT", 10)
    return new_handler(store)


def new_handler(store: Store, *, keep_uploads: bool = True) -> FoldHandler:
    async def find_nothing() -> int:
        return 0

    announcer = PeriodicTask("announcer", find_nothing, interval_seconds=1)
    return FoldHandler(FoldService(store, announcer), NAMES, keep_uploads=keep_uploads)


def record_for(event: ImportAccepted | RowsSettled) -> "ConsumerRecord[bytes, bytes]":
    name = TopicName.IMPORTS if isinstance(event, ImportAccepted) else TopicName.OUTCOMES
    return build_record(name, encode(event), str(event.job_id).encode())


def build_record(
    name: TopicName, value: bytes, key: bytes = b"k"
) -> "ConsumerRecord[bytes, bytes]":
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
    return rows_settled(job, *[created_result(row) for row in rows])


async def test_a_fold_is_limited_by_results_and_not_by_records(
    handler: FoldHandler, store: Store
) -> None:
    job = import_accepted(job_id=uuid4(), total_rows=16)
    events: list[ImportAccepted | RowsSettled] = [
        job,
        *(settled(job, *range(first, first + 4)) for first in (1, 5, 9, 13)),
    ]
    decoded, poison = handler.decode([record_for(event) for event in events])
    assert await handler.process(decoded, poison, Advance()) == []
    assert store.sizes == [8, 8]
    assert [
        result.row_number for batch in store.folds for result in batch.results[job.job_id]
    ] == list(range(1, 17))


async def test_a_record_above_the_limit_of_a_fold_is_folded_alone(
    handler: FoldHandler, store: Store
) -> None:
    job = import_accepted(total_rows=30)
    decoded, poison = handler.decode(
        [
            record_for(settled(job, 1)),
            record_for(settled(job, *range(2, 22))),
            record_for(settled(job, 22)),
        ]
    )
    await handler.process(decoded, poison, Advance())
    assert store.sizes == [1, 20, 1]


async def test_invariant_8_a_rejected_record_does_not_affect_the_others(
    handler: FoldHandler, store: Store
) -> None:
    job = import_accepted(total_rows=30)
    bad = rows_settled(job, created_result(9, idempotency_key=FAULTY))
    records = [
        record_for(settled(job, *range(1, 9))),
        record_for(bad),
        record_for(settled(job, *range(10, 19))),
    ]
    decoded, poison = handler.decode(records)
    letters = await handler.process(decoded, poison, Advance())
    assert [letter.record for letter in letters] == [records[1]]
    assert sum(store.sizes) == 17


async def test_an_empty_batch_does_not_use_the_store(handler: FoldHandler, store: Store) -> None:
    assert await handler.process([], [], Advance()) == []
    assert store.folds == []


def test_invariant_8_an_import_whose_time_has_no_zone_is_poison(handler: FoldHandler) -> None:
    record = record_for(import_accepted())
    record.value = (record.value or b"").replace(b"Z", b"").replace(b"+00:00", b"")
    decoded, poison = handler.decode([record])
    assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])


def test_invariant_8_an_import_with_an_unreadable_time_is_poison(
    handler: FoldHandler,
) -> None:
    """Postgres would store it, but every list and announcement that reads it would fail."""
    record = record_for(import_accepted())
    value = json.loads(record.value or b"")
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        record.value = json.dumps({**value, "accepted_at": time}).encode()
        decoded, poison = handler.decode([record])
        assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])


COMPRESSED = bytes(cramjam.zstd.compress(b"title\nLamp\n"))


def upload(content: bytes = COMPRESSED, **fields: object) -> bytes:
    header = FileUploaded(job_id=uuid4(), workspace_id=uuid4(), format=UploadFormat.CSV, size=11)
    return (
        json.dumps({**event_document(header), **fields}, separators=(",", ":")).encode()
        + b"\n"
        + content
    )


async def test_an_upload_is_stored_compressed_as_received(
    handler: FoldHandler, store: Store
) -> None:
    content = COMPRESSED + b"\n\0{}\n"
    decoded, poison = handler.decode([build_record(TopicName.IMPORTS, upload(content))])
    assert await handler.process(decoded, poison, Advance()) == []
    (((_, _, kind, size, kept, _),),) = [list(batch.uploads.values()) for batch in store.folds]
    assert (kind, size, kept) == ("csv", 11, content)


async def test_a_fold_is_limited_by_the_bytes_of_uploads(
    handler: FoldHandler, store: Store
) -> None:
    content = COMPRESSED.ljust(4 * BYTES_PER_ROW, b"x")
    decoded, poison = handler.decode(
        [build_record(TopicName.IMPORTS, upload(content)) for _ in range(5)]
    )
    await handler.process(decoded, poison, Advance())
    assert [len(batch.uploads) for batch in store.folds] == [2, 2, 1]


@pytest.mark.parametrize(
    "value",
    [
        upload().replace(b"\n", b"", 1),
        upload(b""),
        upload(b"title\nLamp\n"),
        upload(b"\n" + COMPRESSED),
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
    decoded, poison = handler.decode([build_record(TopicName.IMPORTS, value)])
    assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])


def test_invariant_8_an_upload_on_another_topic_is_poison(handler: FoldHandler) -> None:
    decoded, poison = handler.decode([build_record(TopicName.OUTCOMES, upload())])
    assert (decoded, [letter.reason.code for letter in poison]) == ([], ["invalid_record"])


async def test_uploads_are_dropped_without_keep_uploads(store: Store) -> None:
    handler, job = new_handler(store, keep_uploads=False), import_accepted()
    decoded, poison = handler.decode([record_for(job), build_record(TopicName.IMPORTS, upload())])
    assert await handler.process(decoded, poison, Advance()) == []
    assert [(list(batch.jobs), batch.uploads) for batch in store.folds] == [([job.job_id], {})]


async def test_results_of_failed_rows_are_read_from_the_topic_imports(
    handler: FoldHandler, store: Store
) -> None:
    job = import_accepted(total_rows=2)
    failures = build_record(TopicName.IMPORTS, encode(settled(job, 1)))
    decoded, poison = handler.decode([record_for(job), failures])
    assert await handler.process(decoded, poison, Advance()) == []
    assert store.sizes == [1]
