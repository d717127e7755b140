"""Runs the pipeline's steps with the services' own code, without servers.

The steps build imports, rows, outcomes and pin events.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from deploy.administration import NewAccount, NewWorkspace
from services.ingest.ids import new_job_id
from services.ingest.model import Import, RawUpload
from services.ingest.parsing.rows import require_rows
from services.ingest.records import ImportBatch, build_batch
from services.publisher.rows.outcomes import Outcome, decide_all
from services.publisher.rows.records import build_outcome_records, build_pin_event_records
from services.publisher.rows.snapshot import (
    KeyedRow,
    build_snapshot,
    key_and_sort_rows,
)
from services.status.consumers import _parse_upload
from services.status.folding import Foldable
from shared.contract.events import RowAccepted, RowsSettled, SourceType, UploadFormat, decode_import
from shared.contract.import_records import is_for_publisher, is_import, is_upload
from shared.contract.strict_json import parse_json
from shared.contract.wire import decoder
from shared.kafka.records import Record
from tests.support.factories import NOTHING_RECORDED
from tests.support.imports import validate
from tests.tools.bench.bodies import build_json_import, build_realistic_rows

WORKSPACE = NewWorkspace(
    uuid4(),
    "",
    [NewAccount(uuid4(), [f"54975581388800000{n}" for n in range(3)]) for _ in range(2)],
)
BODY = build_json_import(build_realistic_rows(WORKSPACE))

decode_row = decoder(RowAccepted).strict
decode_outcomes = decoder(RowsSettled)


class PublisherRecords(NamedTuple):
    """Records that the publisher sends for settled rows."""

    outcomes: list[Record]
    pin_events: list[Record]


def build_import(body: bytes) -> ImportBatch:
    """Builds an import's batch as ingest does, with the upload, which is stored by default."""
    rows = validate(require_rows(parse_json(body)))
    now = datetime.now(UTC)
    upload = RawUpload(UploadFormat.JSON, body)
    return build_batch(
        Import(new_job_id(now), WORKSPACE.id, now, SourceType.JSON, None, rows, upload=upload)
    )


def decode_rows(imports: Sequence[ImportBatch]) -> list[KeyedRow]:
    """Decodes the rows and sorts them as the publisher does. Skips other records."""
    return key_and_sort_rows(
        [
            decode_row(record.value)
            for batch in imports
            for record in batch.records
            if is_for_publisher(record.value)
        ]
    )


def decide_new_rows(rows: Sequence[KeyedRow]) -> list[Outcome]:
    """Decides rows as if the store held none of them."""
    return decide_all(rows, {}, build_snapshot(rows, NOTHING_RECORDED, {}, datetime.now(UTC)))


def build_publisher_records(outcomes: Sequence[Outcome]) -> PublisherRecords:
    return PublisherRecords(build_outcome_records(outcomes), build_pin_event_records(outcomes))


def decode_status_events(
    imports: Sequence[ImportBatch], outcomes: Sequence[Record]
) -> list[Foldable]:
    """Decodes imports, uploads and outcomes as status does, up to the first row."""
    leading_records = [
        record.value for batch in imports for record in batch.records[: -batch.row_count]
    ]
    accepted = [decode_import(value) for value in leading_records if is_import(value)]
    uploads = [_parse_upload(value) for value in leading_records if is_upload(value)]
    return [*accepted, *uploads, *(decode_outcomes(record.value) for record in outcomes)]
