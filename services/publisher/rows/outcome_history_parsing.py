"""Decides which outcomes of the topic to record, and builds their rows. Does no I/O."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias
from uuid import UUID

import structlog
from aiokafka import ConsumerRecord
from pydantic import ValidationError

from services.publisher.ids import compute_pin_id, find_generation
from services.publisher.rows.positions_header import POSITIONS_HEADER, parse_positions
from shared.contract.events import RowResult, RowsSettled, RowStatus
from shared.contract.schedule_ids import derive_pin_id
from shared.contract.wire import decoder, encode
from shared.kafka.positions.rules import StoredPosition

log = structlog.get_logger()

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
OutcomeRow: TypeAlias = tuple[
    UUID,
    int,
    str,
    UUID | None,
    UUID | None,
    bool | None,
    str | None,
    str | None,
    UUID | None,
    str | None,
    str | None,
    bool | None,
    int | None,
]
"""The values of recorded_outcomes.OUTCOME_COLUMNS, in order."""

_parse = decoder(RowsSettled)


def belongs_to_log(position: StoredPosition, begin: int, end: int, cluster: str) -> bool:
    """Returns whether a stored position belongs to this log of this cluster."""
    return position.cluster_id == cluster and begin <= position.next_offset <= end


def is_ahead(record: Record, stored: Mapping[int, int]) -> bool:
    """Returns whether a record's batch ends after the stored positions. True if that is unknown."""
    header = dict(record.headers).get(POSITIONS_HEADER)
    if header is None:
        return True
    try:
        end_offsets = parse_positions(header)
    except ValueError:
        return True
    return any(offset > stored.get(partition, 0) for partition, offset in end_offsets.items())


def parse_outcomes(records: Iterable[Record]) -> list[OutcomeRow]:
    """Parses records of `outcomes`. A row's first result counts, as in the status service."""
    first: dict[tuple[UUID, int], OutcomeRow] = {}
    for record in records:
        for row in _parse_rows(record):
            first.setdefault(row[:2], row)
    return list(first.values())


def _parse_rows(record: Record) -> Iterator[OutcomeRow]:
    try:
        event = _parse(record.value or b"")
    except ValidationError:
        return  # the status service sends it to the dead letters
    for result in event.results:
        if (row := _build_row(event.job_id, event.workspace_id, result)) is not None:
            yield row
        else:
            number = result.row_number
            log.warning("outcome_skipped", job_id=str(event.job_id), row_number=number)


def _build_row(job_id: UUID, workspace_id: UUID, result: RowResult) -> OutcomeRow | None:
    """Builds the row to record. Returns None if the result has no pin, schedule or failure."""
    pin_id, schedule_id = result.pin_id, result.schedule_id
    if result.status == RowStatus.FAILED:
        code, message = _remove_nul(result.error_code), _remove_nul(result.error_message)
        ids_and_match, others = (None, None, None), (None, None, None, None, None)
        return (job_id, result.row_number, result.status, *ids_and_match, code, message, *others)
    if pin_id is None and schedule_id is None:
        return None
    reserved = generation = state = fields = updated = None
    if result.status == RowStatus.CREATED:
        reserved, generation = _find_reservation(workspace_id, result)
    else:
        state, updated = result.existing_state, result.updated
        if result.differing_fields is not None:
            fields = encode(result.differing_fields).decode()
    return (
        job_id,
        result.row_number,
        result.status,
        pin_id,
        schedule_id,
        result.payload_matches,
        None,
        None,
        reserved,
        state,
        fields,
        updated,
        generation,
    )


def _find_reservation(workspace_id: UUID, result: RowResult) -> tuple[UUID | None, int | None]:
    """Returns the first pin id of a created row's key, and its pin's generation.

    The generation is None for the first one, and for a pin id that does not belong to the key.
    """
    pin_id = result.pin_id or (result.schedule_id and derive_pin_id(result.schedule_id))
    key = result.idempotency_key
    if pin_id is None or key is None:
        return pin_id, None
    if not (generation := find_generation(workspace_id, key, pin_id)):
        return pin_id, None
    return compute_pin_id(workspace_id, key), generation


def _remove_nul(text: str | None) -> str:
    """Removes NUL characters, which Postgres does not accept."""
    return (text or "").replace("\0", "")
