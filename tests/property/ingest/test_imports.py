"""What ingest accepts, its consumers can read: whatever was sent, each row is in the transaction once."""

import json
from typing import Any
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.admission import Admission
from services.ingest.config import IngestSettings
from services.ingest.imports import Imports
from services.ingest.service import Records
from services.ingest.turns import Turns
from shared.decoding import quick_decoder
from shared.errors import RequestRefused
from shared.events import IMPORT_EVENT, ImportAccepted, RowAccepted, RowsSettled
from shared.pins import PinSubmission, fingerprint
from shared.topics import TOPICS, TopicName
from tests.property.conftest import Run
from tests.property.documents import good_rows, json_imports, mutated, wrong_rows
from tests.property.ingest.csv_files import dialects, tables
from tests.property.profiles import examples

WORKSPACE = UUID("6f1c3a52-62a4-4b0d-8f55-8f1d1f0a7c11")
LIMITS = {topic.name: topic.max_record_bytes for topic in TOPICS}
_quick_row, _quick_outcomes = quick_decoder(RowAccepted), quick_decoder(RowsSettled)


class Kept:
    """Commits, and keeps what it was given last."""

    def __init__(self) -> None:
        self.records: Records = {}

    async def commit(self, records: Records, _started: float | None = None) -> None:
        self.records = records


def imports_of(kept: Kept) -> Imports:
    settings = IngestSettings()
    return Imports(kept, Admission(settings), Turns.of(settings))


def check(records: Records) -> list[RowAccepted]:
    """The import, its rows and its outcomes agree, and fit into their topics."""
    (announced,) = (IMPORT_EVENT.validate_json(record.value) for record in records[TopicName.IMPORTS])
    assert isinstance(announced, ImportAccepted)
    rows = [RowAccepted.model_validate_json(record.value) for record in records[TopicName.ROWS]]
    outcomes = [RowsSettled.model_validate_json(record.value) for record in records[TopicName.OUTCOMES]]
    for record in records[TopicName.ROWS]:
        _quick_row(record.value)
    for record in records[TopicName.OUTCOMES]:
        _quick_outcomes(record.value)
    numbers = [row.row_number for row in rows] + [result.row_number for event in outcomes for result in event.results]
    assert sorted(numbers) == list(range(1, announced.total_rows + 1))
    assert [row.row_number for row in rows] == sorted(row.row_number for row in rows)
    owners = {(row.job_id, row.workspace_id) for row in rows} | {(event.job_id, event.workspace_id) for event in outcomes}
    assert owners == {(announced.job_id, WORKSPACE)}
    assert announced.workspace_id == WORKSPACE
    assert all(len(record.value) < LIMITS[topic] - 1000 for topic, some in records.items() for record in some)
    return rows


@examples(40)
@given(st.lists(good_rows() | wrong_rows, min_size=1, max_size=4).map(lambda rows: json.dumps(rows).encode()) | mutated(json_imports))
@example(json.dumps([dict.fromkeys((f"{number}\ud800" * 30 for number in range(20)), "\0\ud800" * 20)] * 500).encode())
def test_a_json_import_is_refused_or_whole(run: Run, data: bytes) -> None:
    kept = Kept()
    try:
        run(imports_of(kept).accept_json(WORKSPACE, data, strict=True))
    except RequestRefused:
        assert not kept.records
        return
    check(kept.records)


@examples(25)
@given(mutated(st.builds(lambda table, dialect: dialect.write(*table), tables(), dialects)), st.text(st.characters(), max_size=300))
def test_a_csv_import_is_refused_or_whole(run: Run, data: bytes, filename: str) -> None:
    kept = Kept()
    try:
        run(imports_of(kept).accept_csv(WORKSPACE, data, filename, strict=True))
    except RequestRefused:
        assert not kept.records
        return
    check(kept.records)


@examples(25)
@given(st.lists(good_rows(), min_size=1, max_size=4))
def test_a_row_is_the_same_row_to_the_publisher(run: Run, rows: list[dict[str, Any]]) -> None:
    kept = Kept()
    run(imports_of(kept).accept_json(WORKSPACE, json.dumps(rows).encode(), strict=False))
    for row in check(kept.records):
        sent = PinSubmission.model_validate(rows[row.row_number - 1])
        assert row.row.model_dump() == sent.model_dump()
        assert row.fingerprint == fingerprint(sent) == fingerprint(row.row)
