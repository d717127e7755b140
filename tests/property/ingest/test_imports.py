"""What ingest accepts, its consumers can read: whatever was sent, each row is in the batch once,
and the batch fits.
"""

import json
from typing import Any
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.admission.limits import Admission
from services.ingest.admission.queue import ImportQueue
from services.ingest.config import IngestSettings
from services.ingest.records import ImportBatch
from services.ingest.service import ImportService
from shared.contract.errors import ApiError
from shared.contract.events import ImportAccepted, RecordKind, RowAccepted, RowsSettled
from shared.contract.import_limits import MAX_IMPORT_BYTES
from shared.contract.pins import PinSubmission, compute_fingerprint
from shared.contract.wire import decoder
from tests.property.conftest import Run
from tests.property.documents import good_rows, json_imports, mutated, wrong_rows
from tests.property.ingest.csv_files import dialects, tables
from tests.property.profiles import examples
from tests.support.import_batches import import_of, of_kind, results_of, rows_of

WORKSPACE = UUID("6f1c3a52-62a4-4b0d-8f55-8f1d1f0a7c11")
_quick_row, _quick_outcomes = decoder(RowAccepted).strict, decoder(RowsSettled).strict


class Kept:
    """Keeps the batch that it was given last."""

    def __init__(self) -> None:
        self.batch: ImportBatch | None = None

    async def append(self, batch: ImportBatch, _started: float | None = None) -> None:
        self.batch = batch


def imports_of(kept: Kept) -> ImportService:
    settings = IngestSettings()
    return ImportService(
        kept, Admission(settings), ImportQueue.from_settings(settings), keep_uploads=True
    )


def check(batch: ImportBatch | None) -> list[RowAccepted]:
    """The import, its rows and its results agree, in the order that status counts on, and fit into
    one batch.
    """
    assert batch is not None
    announced, rows, settled = import_of(batch), rows_of(batch), results_of(batch)
    assert isinstance(announced, ImportAccepted)
    assert announced.batch_records == len(batch.records)
    kinds = [record.value[9:10] for record in batch.records]
    assert kinds == sorted(kinds, key=b"isur".index)
    outcomes = [settled] if settled else []
    for value in of_kind(batch, RecordKind.ROW):
        _quick_row(value)
    for value in of_kind(batch, RecordKind.RESULTS):
        _quick_outcomes(value)
    numbers = [row.row_number for row in rows] + [
        result.row_number for event in outcomes for result in event.results
    ]
    assert sorted(numbers) == list(range(1, announced.total_rows + 1))
    assert [row.row_number for row in rows] == sorted(row.row_number for row in rows)
    owners = {(row.job_id, row.workspace_id) for row in rows} | {
        (event.job_id, event.workspace_id) for event in outcomes
    }
    assert owners == {(announced.job_id, WORKSPACE)}
    assert announced.workspace_id == WORKSPACE
    assert (
        sum(len(record.value) + len(record.key or b"") + 50 for record in batch.records)
        < MAX_IMPORT_BYTES
    )
    return rows


@examples(40)
@given(
    st.lists(good_rows() | wrong_rows, min_size=1, max_size=4).map(
        lambda rows: json.dumps(rows).encode()
    )
    | mutated(json_imports)
)
@example(
    json.dumps(
        [dict.fromkeys((f"{number}\ud800" * 30 for number in range(20)), "\0\ud800" * 20)] * 500
    ).encode()
)
def test_a_json_import_is_refused_or_accepted_completely(run: Run, data: bytes) -> None:
    kept = Kept()
    try:
        run(imports_of(kept).accept_json(WORKSPACE, data, strict=True))
    except ApiError:
        assert kept.batch is None
        return
    check(kept.batch)


@examples(25)
@given(
    mutated(st.builds(lambda table, dialect: dialect.write(*table), tables(), dialects)),
    st.text(st.characters(), max_size=300),
)
def test_a_csv_import_is_refused_or_accepted_completely(
    run: Run, data: bytes, filename: str
) -> None:
    kept = Kept()
    try:
        run(imports_of(kept).accept_csv(WORKSPACE, data, filename, strict=True))
    except ApiError:
        assert kept.batch is None
        return
    check(kept.batch)


@examples(25)
@given(st.lists(good_rows(), min_size=1, max_size=4))
def test_the_publisher_reads_the_row_that_was_sent(run: Run, rows: list[dict[str, Any]]) -> None:
    kept = Kept()
    run(imports_of(kept).accept_json(WORKSPACE, json.dumps(rows).encode(), strict=False))
    for row in check(kept.batch):
        sent = PinSubmission.model_validate(rows[row.row_number - 1])
        assert row.row == sent.to_content()
        assert row.fingerprint == compute_fingerprint(sent) == compute_fingerprint(row.row)
