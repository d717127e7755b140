"""What ingest writes, its consumers read: nothing is lost between the two."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from services.ingest.parsing import Misshapen, validate
from services.ingest.service import Import, records_of
from shared.events import IMPORT_EVENT, ImportAccepted, Notice, RowAccepted, RowsSettled, SourceType
from shared.pins import PinSubmission, fingerprint
from shared.topics import TopicName
from tests.factories import submitted


def an_import(rows: list[Any], **fields: Any) -> Import:
    about = {"source_type": SourceType.CSV, "source_filename": "a.csv", **fields}
    return Import(job_id=uuid4(), workspace_id=uuid4(), accepted_at=datetime.now(UTC), rows=validate(rows), **about)


def values(accepted: Import, topic: TopicName) -> list[bytes]:
    return [record.value for record in records_of(accepted)[topic]]


def test_the_import_is_read_as_it_was_written() -> None:
    accepted = an_import([submitted(), {}], warnings=[Notice(code="c", message="m")], request_id="r")
    (value,) = values(accepted, TopicName.IMPORTS)
    event = IMPORT_EVENT.validate_json(value)
    assert isinstance(event, ImportAccepted)
    assert (event.job_id, event.total_rows, event.request_id) == (accepted.job_id, 2, "r")
    assert event.warnings[0].message == "m"
    assert event.accepted_at == accepted.accepted_at


def test_a_row_with_every_field_is_read_as_it_was_written() -> None:
    full = submitted(
        alt_text='é \U0001f600 "quoted"',
        cover_image_url="https://c.example/x.png",
        related_terms=["a", "b"],
        dominant_color="aabbcc",
        run_at="2031-01-01T00:00:00+02:00",
    )
    accepted = an_import([full])
    (value,) = values(accepted, TopicName.ROWS)
    event = RowAccepted.model_validate_json(value)
    pin = PinSubmission.model_validate(full)
    assert event.row.model_dump() == pin.model_dump()
    assert event.fingerprint == fingerprint(pin)
    assert event.accepted_at == accepted.accepted_at


def test_every_kind_of_fault_is_read_as_it_was_written() -> None:
    rows = [
        {},
        submitted(image_url=None),
        submitted(asset_id=str(uuid4())),
        Misshapen("expected 9 cells, found 10"),
        submitted(title="a\0b"),
        submitted(related_terms=[1]),
    ]
    accepted = an_import(rows)
    (value,) = values(accepted, TopicName.OUTCOMES)
    event = RowsSettled.model_validate_json(value)
    assert [result.row_number for result in event.results] == [1, 2, 3, 4, 5, 6]
    assert [result.errors for result in event.results] == [result.errors for result in accepted.rows.failed]


def test_outcomes_of_500_hopeless_rows_fit_their_topics_records() -> None:
    hopeless = dict.fromkeys(submitted(), "💩" * 5000) | {"run_at": "x" * 5000, "dominant_color": '"' * 5000}
    portions = values(an_import([hopeless] * 500), TopicName.OUTCOMES)
    assert all(len(value) < 900_000 for value in portions)
    assert sum(len(RowsSettled.model_validate_json(value).results) for value in portions) == 500


def test_all_records_of_an_import_have_one_key() -> None:
    accepted = an_import([submitted(), {}])
    assert {record.key for group in records_of(accepted).values() for record in group} == {str(accepted.job_id).encode()}


def test_how_often_a_request_was_replayed_goes_on_with_all_it_becomes() -> None:
    """Or a row that is poison each time would be replayed for ever."""
    history = [("pinflow-replay-count", b"2")]
    records = records_of(an_import([submitted(), {}], history=history))
    assert {topic: [record.headers for record in group] for topic, group in records.items()} == {
        TopicName.IMPORTS: [history],
        TopicName.ROWS: [history],
        TopicName.OUTCOMES: [history],
    }
