"""Every legal import fits into one record batch, and its consumers read what ingest wrote."""

import dataclasses
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import cramjam
import pytest

from services.ingest.batch_encoding import encode_batch
from services.ingest.model import Import, RawUpload
from services.ingest.parsing.rows import require_rows
from services.ingest.records import ImportBatch, build_batch, build_rejection_batch
from shared.contract.events import (
    FileUploaded,
    ImportAccepted,
    ImportRejected,
    Notice,
    RecordKind,
    SourceType,
    UploadFormat,
)
from shared.contract.import_limits import (
    MAX_IMPORT_BODY_BYTES,
    MAX_IMPORT_BYTES,
    MAX_PACKED_IMPORT_BYTES,
    MAX_REQUEST_BYTES,
    MAX_RESULTS_BYTES,
)
from shared.contract.import_records import is_for_publisher, is_for_status, is_whole_import
from shared.contract.pins import PinSubmission, compute_fingerprint
from shared.contract.strict_json import parse_json
from shared.spreadsheets.table import WrongCellCount, read_csv
from tests.support.events import parse_event
from tests.support.factories import submitted_row
from tests.support.import_batches import read_import, read_results, read_rows, read_values
from tests.support.imports import validate


def build_import(rows: list[Any], warnings: Sequence[Notice] = (), **fields: Any) -> Import:
    about = {"source_type": SourceType.CSV, "source_filename": "a.csv", **fields}
    return Import(
        job_id=uuid4(),
        workspace_id=uuid4(),
        accepted_at=datetime.now(UTC),
        rows=dataclasses.replace(validate(rows), warnings=list(warnings)),
        **about,
    )


def test_an_import_is_read_as_it_was_written() -> None:
    accepted = build_import(
        [submitted_row(), {}], warnings=[Notice(code="c", message="m")], request_id="r"
    )
    event = read_import(build_batch(accepted))
    assert isinstance(event, ImportAccepted)
    assert (event.job_id, event.total_rows, event.request_id) == (accepted.job_id, 2, "r")
    assert event.warnings[0].message == "m"
    assert event.accepted_at == accepted.accepted_at


def test_a_row_with_every_field_is_read_as_it_was_written() -> None:
    full = submitted_row(
        alt_text='é \U0001f600 "quoted"',
        cover_image_url="https://c.example/x.png",
        related_terms=["a", "b"],
        dominant_color="aabbcc",
        run_at="2031-01-01T00:00:00+02:00",
    )
    accepted = build_import([full])
    (event,) = read_rows(build_batch(accepted))
    pin = PinSubmission.model_validate(full)
    assert event.row == pin.to_content()
    assert event.fingerprint == compute_fingerprint(pin)
    assert event.accepted_at == accepted.accepted_at


def test_every_kind_of_fault_is_read_as_it_was_written() -> None:
    rows = [
        {},
        submitted_row(image_url=None),
        submitted_row(asset_id=str(uuid4())),
        WrongCellCount("The row has 10 cells; the header has 9."),
        submitted_row(title="a\0b"),
        submitted_row(related_terms=[1]),
    ]
    accepted = build_import(rows)
    settled = read_results(build_batch(accepted))
    assert settled is not None
    assert [result.row_number for result in settled.results] == [1, 2, 3, 4, 5, 6]
    assert [result.errors for result in settled.results] == [
        result.errors for result in accepted.rows.failed
    ]


def test_an_upload_is_read_as_it_was_written() -> None:
    data = b"account_id;title\r\n\xff\xfe"
    accepted = build_import([submitted_row()], upload=RawUpload(UploadFormat.CSV, data))
    (value,) = read_values(build_batch(accepted), RecordKind.UPLOAD)
    line, _, packed = value.partition(b"\n")
    about = parse_event(FileUploaded, line)
    assert (about.job_id, about.workspace_id, about.format, about.size) == (
        accepted.job_id,
        accepted.workspace_id,
        "csv",
        len(data),
    )
    assert bytes(cramjam.zstd.decompress(packed)) == data


def test_each_record_has_one_consumer_and_status_can_stop_at_the_first_row() -> None:
    batch = build_batch(
        build_import(
            [submitted_row(), {}, submitted_row()], upload=RawUpload(UploadFormat.JSON, b"[]")
        )
    )
    values = [record.value for record in batch.records]
    assert [is_for_status(value) for value in values] == [True, True, True, False, False]
    assert [is_for_publisher(value) for value in values] == [False, False, False, True, True]
    assert is_whole_import(values[0], len(values))
    assert batch.row_count == 2


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (None, 1),
        (b"", 1),
        (b'{"kind":"r","version":1,"batch_records":2,', 2),
        (b'{"kind":"i","version":1,"batch_records":null,', 2),
        (b'{"kind":"i","version":1,"batch_records":3,', 2),
        (b'{"kind":"i","version":1}', 1),
    ],
)
def test_a_batch_that_may_hold_more_than_one_import_is_read_to_its_end(
    first: bytes | None, count: int
) -> None:
    assert not is_whole_import(first, count)


def test_a_rejection_is_one_record() -> None:
    about: dict[str, Any] = {
        "job_id": uuid4(),
        "workspace_id": uuid4(),
        "accepted_at": datetime.now(UTC),
    }
    batch = build_rejection_batch(
        ImportRejected(
            **about,
            error_code="empty_import",
            error_message="This import has no rows. Send at least one.",
        )
    )
    assert isinstance(read_import(batch), ImportRejected)
    assert (len(batch.records), batch.row_count) == (1, 0)


def test_large_results_of_failed_rows_are_shortened_and_none_is_left_out() -> None:
    hopeless = dict.fromkeys(submitted_row(), "💩" * 5000) | {
        "run_at": "x" * 5000,
        "dominant_color": '"' * 5000,
    }
    batch = build_batch(build_import([hopeless] * 500))
    settled = read_results(batch)
    assert settled is not None
    assert [result.row_number for result in settled.results] == list(range(1, 501))
    assert all(
        result.error_code and result.error_message and result.errors for result in settled.results
    )
    assert len(read_values(batch, RecordKind.RESULTS)[0]) < MAX_RESULTS_BYTES + 1000


def test_results_that_fit_are_not_shortened() -> None:
    accepted = build_import([dict.fromkeys(submitted_row(), "x" * 300)] * 100)
    settled = read_results(build_batch(accepted))
    assert settled is not None
    assert settled.results == accepted.rows.failed


def test_all_records_of_an_import_have_the_same_key() -> None:
    accepted = build_import([submitted_row(), {}])
    batch = build_batch(accepted)
    assert (
        {record.key for record in batch.records} == {batch.key} == {str(accepted.job_id).encode()}
    )


def test_the_replay_count_of_a_request_is_in_all_its_records() -> None:
    """Without the count, a row that always fails would be replayed forever."""
    replay_headers = [("pinflow-replay-count", b"2")]
    batch = build_batch(build_import([submitted_row(), {}], replay_headers=replay_headers))
    assert [record.headers for record in batch.records] == [replay_headers] * 3


def build_largest_row(characters: str) -> dict[str, Any]:
    """Returns a row whose texts have their maximum lengths."""
    texts: dict[str, Any] = {"description": characters * 800, "alt_text": characters * 500}
    texts["related_terms"] = ["x".join([characters] * 50) for _ in range(50)]
    visible = "x" if characters.isspace() else characters
    named = {"board_id": visible * 255, "idempotency_key": f"{uuid4()}{visible * 219}"}
    return submitted_row(**{**texts, "title": visible * 100}, **named)


def measure_batch(batch: ImportBatch) -> int:
    return len(encode_batch(batch.records, max_bytes=MAX_IMPORT_BYTES))


def build_json_import(body: bytes) -> Import:
    rows = validate(require_rows(parse_json(body)))
    return Import(
        uuid4(),
        uuid4(),
        datetime.now(UTC),
        SourceType.JSON,
        None,
        rows,
        upload=RawUpload(UploadFormat.JSON, body),
    )


def cut_to_limit(rows: list[dict[str, Any]], limit: int, *, ascii_only: bool = False) -> bytes:
    """Returns a JSON import with as many of the rows as fit into `limit` bytes."""
    while (
        len(body := json.dumps(rows, ensure_ascii=ascii_only, separators=(",", ":")).encode())
        > limit
    ):
        rows = rows[: max(1, min(len(rows) - 1, len(rows) * limit // len(body)))]
    return body


@pytest.mark.parametrize("characters", ['"', "\\", "\t", "é", "€", "\U0001f600", "x"])
def test_the_largest_json_imports_fit_into_one_batch(characters: str) -> None:
    body = cut_to_limit([build_largest_row(characters) for _ in range(500)], MAX_IMPORT_BODY_BYTES)
    accepted = build_json_import(body)
    assert accepted.rows.valid
    assert measure_batch(build_batch(accepted)) <= MAX_PACKED_IMPORT_BYTES


@pytest.mark.parametrize("characters", ['""', "€", "\t", "ÿ"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_the_largest_csv_imports_fit_into_one_batch(characters: str, encoding: str) -> None:
    row = submitted_row()
    header = ",".join([*row, "alt_text", "related_terms"])
    text = f"{characters * 500}"
    terms = ",".join([characters * 100] * 50)

    def line(number: int) -> str:
        cells = {**row, "idempotency_key": f"k{number}", "title": "t", "description": "d"}
        return ",".join([*cells.values(), f'"{text}"', f'"{terms}"'])

    lines = [line(number) for number in range(1, 501)]
    fit = min(500, (MAX_IMPORT_BODY_BYTES - 1000) // len(lines[0].encode(encoding)))
    encoded = "\n".join([header, *lines[:fit]]).encode(encoding)
    table = read_csv(encoded, encoding=encoding)
    rows = validate([row.values for row in table.rows])
    accepted = Import(
        uuid4(),
        uuid4(),
        datetime.now(UTC),
        SourceType.CSV,
        "f" * 255,
        rows,
        upload=RawUpload(UploadFormat.CSV, encoded),
    )
    assert rows.valid
    assert measure_batch(build_batch(accepted)) <= MAX_PACKED_IMPORT_BYTES


def test_the_largest_request_by_topic_fits_into_one_batch() -> None:
    body = cut_to_limit([build_largest_row("\\") for _ in range(500)], MAX_REQUEST_BYTES)
    assert measure_batch(build_batch(build_json_import(body))) <= MAX_PACKED_IMPORT_BYTES


def test_an_incompressible_import_fits_into_one_batch() -> None:
    """The rows are random letters and the upload is random bytes, which no codec compresses."""
    alphabet = "".join(chr(0x4E00 + number) for number in range(20_000))

    def noise(length: int) -> str:
        return "".join(alphabet[int.from_bytes(os.urandom(2)) % 20_000] for _ in range(length))

    rows = [
        submitted_row(
            description=noise(800),
            alt_text=noise(500),
            related_terms=[noise(100) for _ in range(30)],
        )
        for _ in range(400)
    ]
    body = cut_to_limit(rows, MAX_IMPORT_BODY_BYTES)
    accepted = build_json_import(body)
    accepted = Import(
        accepted.job_id,
        accepted.workspace_id,
        accepted.accepted_at,
        accepted.source_type,
        None,
        accepted.rows,
        upload=RawUpload(UploadFormat.JSON, os.urandom(MAX_IMPORT_BODY_BYTES)),
    )
    assert measure_batch(build_batch(accepted)) <= MAX_PACKED_IMPORT_BYTES


def test_an_import_of_large_failed_rows_fits_into_one_batch() -> None:
    wrong = dict.fromkeys((f"{number}\u20ac" * 30 for number in range(20)), "\u20ac" * 200)
    accepted = build_import([{**wrong, "title": '"' * 300}] * 500)
    assert measure_batch(build_batch(accepted)) <= MAX_PACKED_IMPORT_BYTES
