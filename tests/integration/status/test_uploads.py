"""Uploads on the real Postgres: stored as sent, once, under their workspace, until their retention
ends.
"""

import itertools
import os
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import cramjam
import pytest
from sqlalchemy import text

from services.ingest.model import Import, RawUpload
from services.ingest.parsing.rows import ParsedRows
from services.ingest.records import build_batch
from services.status.consumers import FoldHandler
from services.status.fold_service import FoldService
from services.status.model import Missing
from services.status.repository import JobRepository
from services.status.retention import MAX_DELETED_UPLOADS, UploadCleaner
from shared.contract.events import OnExisting, SourceType, UploadFormat, UploadParameters
from shared.contract.import_limits import MEBIBYTE
from shared.contract.import_records import is_upload
from shared.contract.topics import TopicName
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from shared.postgres.row import Row
from shared.runtime.periodic import PeriodicTask
from tests.property.records import NAMES, build_consumer_record
from tests.support.factories import NOON, failed_result

CSV = b"title,board_id\r\nL\xe4mp\0,1\n"
UPLOADS = text("select * from status.uploads where job_id = any(:ids)")
DEFAULTS = UploadParameters()
PARAMETERS = UploadParameters(
    strict=True,
    timezone="Europe/Berlin",
    past_run_at="fail",
    account="Café",
    encoding="windows-1252",
    on_existing=OnExisting.REVIVE,
)
AGE = text("update status.uploads set uploaded_at = now() - :age where job_id = any(:ids)")


class Status:
    """The status service without Kafka."""

    def __init__(self, database: Database) -> None:
        self.store = JobRepository(database)
        self.database = database
        announcer = PeriodicTask("announcer", _nothing, interval_seconds=1)
        self._handler = FoldHandler(FoldService(self.store, announcer), NAMES)

    async def fold(self, values: Sequence[bytes]) -> list[tuple[bytes | None, str]]:
        """Folds a batch of the topic `imports`. Returns the dead letters and their codes."""
        decoded, poison = self._handler.decode(
            [build_consumer_record(TopicName.IMPORTS, value) for value in values]
        )
        letters = [*poison, *await self._handler.process(decoded, poison, Advance())]
        return [(letter.record.value, letter.reason.code) for letter in letters]

    async def stored_uploads(self, *job_ids: UUID) -> list[Row]:
        return await self.database.fetch_all(UPLOADS.bindparams(ids=list(job_ids)))

    async def age(self, age: timedelta, *job_ids: UUID) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(AGE, {"age": age, "ids": list(job_ids)})


async def _nothing() -> int:
    return 0


@pytest.fixture
def status(database: Database) -> Status:
    return Status(database)


def build_import(
    data: bytes = CSV,
    *,
    job_id: UUID | None = None,
    workspace_id: UUID | None = None,
    parameters: UploadParameters = DEFAULTS,
) -> tuple[UUID, UUID, list[bytes]]:
    """Builds an import of one failed row with its upload.

    Returns the job's id, the workspace's id and the records that status reads.
    """
    job_id, workspace_id = job_id or uuid4(), workspace_id or uuid4()
    batch = build_batch(
        Import(
            job_id=job_id,
            workspace_id=workspace_id,
            accepted_at=NOON,
            source_type=SourceType.CSV,
            source_filename="a.csv",
            rows=ParsedRows(failed=[failed_result(1)]),
            upload=RawUpload(UploadFormat.CSV, data, parameters),
        )
    )
    return job_id, workspace_id, [record.value for record in batch.records]


def decompress(upload: Row) -> bytes:
    return bytes(cramjam.zstd.decompress(upload["content"]))


def select_uploads(values: Sequence[bytes]) -> list[bytes]:
    return [value for value in values if is_upload(value)]


async def test_an_upload_is_stored_byte_for_byte(status: Status) -> None:
    job_id, workspace_id, values = build_import()
    assert await status.fold(values) == []
    (upload,) = await status.stored_uploads(job_id)
    assert decompress(upload) == CSV
    assert (upload["workspace_id"], upload["format"], upload["size"]) == (
        workspace_id,
        "csv",
        len(CSV),
    )


async def test_an_upload_that_is_delivered_twice_is_stored_once(status: Status) -> None:
    job_id, _, values = build_import()
    for batch in (values, values, [*values, *values]):
        assert await status.fold(batch) == []
    assert [decompress(upload) for upload in await status.stored_uploads(job_id)] == [CSV]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_an_upload_can_be_folded_before_or_after_its_import(
    status: Status, order: tuple[int, ...]
) -> None:
    job_id, workspace_id, values = build_import()
    for index in order:
        assert await status.fold([values[index]]) == []
    assert [decompress(upload) for upload in await status.stored_uploads(job_id)] == [CSV]
    job = await status.store.find_job(workspace_id, job_id)
    assert not isinstance(job, Missing)
    assert (job["total_rows"], job["failed_rows"], job["status"]) == (1, 1, "failed")


async def test_an_upload_without_its_import_is_not_a_job(status: Status) -> None:
    job_id, workspace_id, values = build_import()
    await status.fold(select_uploads(values))
    assert await status.store.find_job(workspace_id, job_id) is Missing.UNKNOWN


@pytest.mark.parametrize("stray_first", [True, False])
async def test_invariant_10_an_upload_is_stored_under_the_workspace_that_it_names(
    status: Status, *, stray_first: bool
) -> None:
    job_id, owner, values = build_import(b"the owner's")
    _, stranger, others = build_import(b"the stranger's", job_id=job_id)
    stray = select_uploads(others)
    for batch in (stray, values) if stray_first else (values, stray):
        assert await status.fold(batch) == []
    contents = {
        upload["workspace_id"]: decompress(upload) for upload in await status.stored_uploads(job_id)
    }
    assert contents == {owner: b"the owner's", stranger: b"the stranger's"}


async def test_an_upload_of_maximum_size_is_stored(status: Status) -> None:
    data = os.urandom(6 * MEBIBYTE)
    imports = [build_import(data) for _ in range(4)]
    assert await status.fold([value for _, _, values in imports for value in values]) == []
    for job_id, _, _ in imports:
        (upload,) = await status.stored_uploads(job_id)
        assert decompress(upload) == data


async def test_invariant_8_only_the_upload_that_postgres_rejects_becomes_a_dead_letter(
    status: Status,
) -> None:
    imports = [build_import() for _ in range(5)]
    values = [value for _, _, values in imports for value in values]
    _, _, (*_, upload) = build_import()
    rejected = upload.replace(b'"size":%d' % len(CSV), b'"size":%d' % 2**31)
    assert await status.fold([*values[:7], rejected, *values[7:]]) == [(rejected, "record_refused")]
    assert len(await status.stored_uploads(*(job_id for job_id, _, _ in imports))) == 5


async def delete_all_old(status: Status, retention: timedelta) -> list[int]:
    cleaner, counts = UploadCleaner(status.store, retention), []
    while count := await cleaner.delete_old_uploads():
        counts.append(count)
    return counts


async def test_only_old_uploads_are_deleted(status: Status) -> None:
    (old, _, old_values), (recent, workspace_id, recent_values) = build_import(), build_import()
    await status.fold([*old_values, *recent_values])
    await status.age(timedelta(days=30, minutes=1), old)
    await status.age(timedelta(days=29, hours=23), recent)
    await delete_all_old(status, timedelta(days=30))
    assert await status.stored_uploads(old) == []
    assert len(await status.stored_uploads(recent)) == 1
    assert not isinstance(await status.store.find_job(workspace_id, recent), Missing)


async def test_old_uploads_are_deleted_in_batches(status: Status) -> None:
    await delete_all_old(status, timedelta(0))
    imports = [build_import() for _ in range(2 * MAX_DELETED_UPLOADS + 1)]
    await status.fold([value for _, _, values in imports for value in values])
    await status.age(timedelta(days=2), *(job_id for job_id, _, _ in imports))
    assert await delete_all_old(status, timedelta(days=1)) == [
        MAX_DELETED_UPLOADS,
        MAX_DELETED_UPLOADS,
        1,
    ]


async def test_all_uploads_are_deleted_if_the_retention_is_zero(status: Status) -> None:
    job_id, _, values = build_import()
    await status.fold(values)
    await delete_all_old(status, timedelta(0))
    assert await status.stored_uploads(job_id) == []


@pytest.mark.parametrize("parameters", [DEFAULTS, PARAMETERS], ids=str)
async def test_an_upload_keeps_the_parameters_of_its_import(
    status: Status, parameters: UploadParameters
) -> None:
    job_id, workspace_id, values = build_import(parameters=parameters)
    other = build_import(job_id=job_id, workspace_id=workspace_id, parameters=DEFAULTS)
    for batch in (values, values, other[2]):
        assert await status.fold(batch) == []
    upload = await status.store.find_upload(workspace_id, job_id)
    assert upload is not None
    assert upload.parameters == parameters
    assert await status.store.find_upload(uuid4(), job_id) is None
