"""What goes through a pipeline, made by the services' own code, with no server near: imports, rows, outcomes, pin events."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from deploy.administration import NewAccount, NewWorkspace
from services.ingest.identity import new_job_id
from services.ingest.parsing import require_rows, validate
from services.ingest.service import Import, Records, records_of
from services.publisher.announcements import outcome_records, pin_event_records
from services.publisher.service import Ask, Outcome, decide_all, found_of, in_order
from services.status.folding import Foldable
from shared.bodies import parse_json
from shared.decoding import decoder, quick_decoder
from shared.events import IMPORT_EVENT, RowAccepted, RowsSettled, SourceType
from shared.messaging.records import Record
from shared.topics import TopicName
from tests.bench.bodies import json_body, rows_like_a_shops

WORKSPACE = NewWorkspace(uuid4(), "", [NewAccount(uuid4(), ["board-1", "board-2", "board-3"]) for _ in range(2)])
BODY = json_body(rows_like_a_shops(WORKSPACE))

decode_row = quick_decoder(RowAccepted)
decode_outcomes = decoder(RowsSettled)


class Announced(NamedTuple):
    """What the publisher sends of settled rows."""

    outcomes: list[Record]
    pin_events: list[Record]


def accept(body: bytes) -> Records:
    """As ingest does it, from the body to the records of the transaction."""
    rows = validate(require_rows(parse_json(body)))
    now = datetime.now(UTC)
    return records_of(Import(new_job_id(now), WORKSPACE.id, now, SourceType.JSON, None, rows))


def read_rows(imports: Sequence[Records]) -> list[Ask]:
    """As the publisher does it, from the records to the batch in order."""
    return in_order([decode_row(record.value) for records in imports for record in records[TopicName.ROWS]])


def found_new(asks: Sequence[Ask]) -> list[Outcome]:
    """The outcomes of rows of which the store held none."""
    return decide_all(asks, {}, found_of(asks, {}, {}, datetime.now(UTC)))


def announce(outcomes: Sequence[Outcome]) -> Announced:
    return Announced(outcome_records(outcomes), pin_event_records(outcomes))


def read_events(imports: Sequence[Records], outcomes: Sequence[Record]) -> list[Foldable]:
    """As status does it, from the records of both topics."""
    accepted = [IMPORT_EVENT.validate_json(record.value) for records in imports for record in records[TopicName.IMPORTS]]
    return [*accepted, *(decode_outcomes(record.value) for record in outcomes)]
