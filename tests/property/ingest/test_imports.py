"""Consumers can read every batch that ingest writes. Each row is in its batch exactly once."""

import json
from typing import Any
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.queue import ImportQueue
from services.ingest.config import IngestSettings
from services.ingest.parsing.policy import ImportParameters
from services.ingest.records import ImportBatch
from services.ingest.service import ImportService
from services.ingest.submissions import submit_csv, submit_json
from shared.contract.errors import ApiError
from shared.contract.events import ImportAccepted, RecordKind, RowAccepted, RowsSettled
from shared.contract.import_limits import MAX_IMPORT_BYTES
from shared.contract.pins import PinSubmission, compute_fingerprint
from shared.contract.wire import decoder
from tests.property.conftest import Run
from tests.property.documents import arbitrary_rows, json_imports, mutated, valid_rows
from tests.property.ingest.csv_files import dialects, tables
from tests.property.profiles import examples
from tests.support.import_batches import read_import, read_results, read_rows, read_values
from tests.support.imports import new_reader

WORKSPACE = UUID("6f1c3a52-62a4-4b0d-8f55-8f1d1f0a7c11")
_decode_row, _decode_results = decoder(RowAccepted).strict, decoder(RowsSettled).strict


class MemoryLog:
    """Keeps the last batch that was appended."""

    def __init__(self) -> None:
        self.batch: ImportBatch | None = None

    async def append(self, batch: ImportBatch, _started: float | None = None) -> None:
        self.batch = batch


def new_imports(log: MemoryLog) -> ImportService:
    settings = IngestSettings()
    return ImportService(
        log,
        AdmissionControl(settings),
        ImportQueue.from_settings(settings),
        new_reader(),
        keep_uploads=True,
    )


def check_batch(batch: ImportBatch | None) -> list[RowAccepted]:
    """Fails unless import, rows and results agree, are in order and fit into one batch."""
    assert batch is not None
    announced, rows, settled = read_import(batch), read_rows(batch), read_results(batch)
    assert isinstance(announced, ImportAccepted)
    assert announced.batch_records == len(batch.records)
    kinds = [record.value[9:10] for record in batch.records]
    assert kinds == sorted(kinds, key=b"isur".index)
    outcomes = [settled] if settled else []
    for value in read_values(batch, RecordKind.ROW):
        _decode_row(value)
    for value in read_values(batch, RecordKind.RESULTS):
        _decode_results(value)
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
    st.lists(valid_rows() | arbitrary_rows, min_size=1, max_size=4).map(
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
    log = MemoryLog()
    try:
        run(new_imports(log).accept(submit_json(WORKSPACE, data, ImportParameters(strict=True))))
    except ApiError:
        assert log.batch is None
        return
    check_batch(log.batch)


@examples(25)
@given(
    mutated(st.builds(lambda table, dialect: dialect.write(*table), tables(), dialects)),
    st.text(st.characters(), max_size=300),
)
def test_a_csv_import_is_refused_or_accepted_completely(
    run: Run, data: bytes, filename: str
) -> None:
    log = MemoryLog()
    try:
        run(
            new_imports(log).accept(
                submit_csv(WORKSPACE, data, filename, ImportParameters(strict=True))
            )
        )
    except ApiError:
        assert log.batch is None
        return
    check_batch(log.batch)


@examples(25)
@given(st.lists(valid_rows(), min_size=1, max_size=4))
def test_the_publisher_reads_the_row_that_was_sent(run: Run, rows: list[dict[str, Any]]) -> None:
    log = MemoryLog()
    run(new_imports(log).accept(submit_json(WORKSPACE, json.dumps(rows).encode())))
    for row in check_batch(log.batch):
        sent = PinSubmission.model_validate(rows[row.row_number - 1])
        assert row.row == sent.to_content()
        assert row.fingerprint == compute_fingerprint(sent) == compute_fingerprint(row.row)
