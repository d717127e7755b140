"""Builds imports like ingest, with values that do not compress."""

import base64
from datetime import UTC, datetime
from random import Random
from uuid import UUID, uuid4

from services.ingest.ids import new_job_id
from services.ingest.model import Import, RawUpload
from services.ingest.parsing.rows import ParsedRows, ValidRow
from services.ingest.records import ImportBatch, build_batch
from shared.contract.events import RowResult, RowStatus, SourceType, UploadFormat
from shared.kafka.producer import choose_partition

ROWS = (300, 495)
FAILED_ROWS = 5
USUAL_ROW_BYTES = (300, 900)
"""The random bytes in a row. An import then has about 400 kB before compression."""
UPLOAD_BYTES = 20_000
NOISE_BYTES = 3 << 20


class ImportFactory:
    """Builds imports of random size. Equal generators build equal imports, except for the ids."""

    def __init__(self, random: Random, row_bytes: tuple[int, int] = USUAL_ROW_BYTES) -> None:
        self._random = random
        self._row_bytes = row_bytes
        self._noise = base64.b64encode(random.randbytes(NOISE_BYTES))
        self._workspace_id = uuid4()

    def build(
        self, *, rows: int | None = None, partition: tuple[int, int] | None = None
    ) -> tuple[UUID, ImportBatch]:
        """Builds an import. `partition` is its partition and the number of partitions."""
        now = datetime.now(UTC)
        job_id = new_job_id(now)
        while (
            partition is not None
            and choose_partition(str(job_id).encode(), partition[1]) != partition[0]
        ):
            job_id = new_job_id(now)
        count = rows or self._random.randint(*ROWS)
        failed = [
            RowResult(row_number=count + number, status=RowStatus.FAILED)
            for number in range(1, FAILED_ROWS + 1)
        ]
        accepted = Import(
            job_id=job_id,
            workspace_id=self._workspace_id,
            accepted_at=now,
            source_type=SourceType.JSON,
            source_filename=None,
            rows=ParsedRows([self._row(number) for number in range(1, count + 1)], failed),
            upload=RawUpload(UploadFormat.JSON, self._slice(UPLOAD_BYTES)),
        )
        return job_id, build_batch(accepted)

    def _row(self, number: int) -> ValidRow:
        content = (
            b'{"board_id":"board","title":"row","idempotency_key":"%d","description":"%b"}'
            % (
                number,
                self._slice(self._random.randint(*self._row_bytes)),
            )
        )
        return ValidRow(number, content, b"%032x" % number, str(number), None, None)

    def _slice(self, size: int) -> bytes:
        start = self._random.randrange(len(self._noise) - size)
        return self._noise[start : start + size]
