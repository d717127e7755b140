"""Builds and parses the records of the topic `deliveries`. Does no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import msgspec
import structlog

from services.publisher.delivery.model import (
    UNKNOWN_IDS,
    AttemptOutcome,
    ComparedTexts,
    DeliveryAttempt,
)
from shared.contract.delivery_events import DeliveryAttempted, DeliverySettled
from shared.contract.wire import encode
from shared.kafka.records import Record

log = structlog.get_logger()

OUTCOMES_WITH_ID = frozenset({AttemptOutcome.CREATED, AttemptOutcome.FOUND})

_decode_kind = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_attempted = msgspec.json.Decoder(DeliveryAttempted).decode
_decode_settled = msgspec.json.Decoder(DeliverySettled).decode


@dataclass(frozen=True, slots=True)
class SettledAttempt:
    """The outcome of an attempt, as the topic has it."""

    attempt_id: UUID
    outcome: AttemptOutcome
    pinterest_pin_id: str | None
    settled_at: datetime


LogEntry: TypeAlias = DeliveryAttempt | SettledAttempt


@dataclass(frozen=True, slots=True)
class LogEntries:
    """The entries of some records. The first record of an attempt counts, as does the first outcome
    of an attempt, or the first one with an id: a late answer corrects what the lists told."""

    attempts: dict[UUID, DeliveryAttempt]
    settled: dict[UUID, SettledAttempt]


def build_attempted_record(attempt: DeliveryAttempt) -> Record:
    """Builds the record that Kafka must have before the request leaves."""
    event = DeliveryAttempted(
        attempt_id=attempt.attempt_id,
        pin_id=attempt.pin_id,
        number=attempt.number,
        workspace_id=attempt.workspace_id,
        account_id=attempt.account_id,
        mode=attempt.mode,
        fence=attempt.fence,
        board_id=attempt.board_id,
        texts=attempt.texts._asdict(),
        started_at=attempt.started_at,
        deadline_at=attempt.deadline_at,
    )
    return Record(str(attempt.account_id).encode(), encode(event))


def build_settled_record(
    attempt: DeliveryAttempt,
    outcome: AttemptOutcome,
    pinterest_pin_id: str | None,
    settled_at: datetime,
) -> Record:
    """Builds the record of an attempt's outcome."""
    event = DeliverySettled(
        attempt_id=attempt.attempt_id,
        pin_id=attempt.pin_id,
        account_id=attempt.account_id,
        outcome=outcome,
        pinterest_pin_id=pinterest_pin_id,
        settled_at=settled_at,
    )
    return Record(str(attempt.account_id).encode(), encode(event))


def parse_entries(values: Iterable[bytes | None]) -> LogEntries:
    """Parses the values of records, in order.

    Skips a record that this version can't read, with an error in the log. Only the delivery process
    writes to the topic.
    """
    entries = LogEntries({}, {})
    for value in values:
        try:
            entry = _parse(value or b"")
        except (msgspec.DecodeError, ValueError):
            log.exception("delivery_record_skipped")
            continue
        if isinstance(entry, DeliveryAttempt):
            entries.attempts.setdefault(entry.attempt_id, entry)
            continue
        known = entries.settled.setdefault(entry.attempt_id, entry)
        if known.outcome in UNKNOWN_IDS and entry.pinterest_pin_id is not None:
            entries.settled[entry.attempt_id] = entry
    return entries


def _parse(value: bytes) -> LogEntry:
    kind = _decode_kind(value).get("kind")
    if kind is not None and bytes(kind) == b'"settled"':
        return _parse_settled(_decode_settled(value))
    event = _decode_attempted(value)
    texts = event.texts
    return DeliveryAttempt(
        attempt_id=event.attempt_id,
        pin_id=event.pin_id,
        number=event.number,
        workspace_id=event.workspace_id,
        account_id=event.account_id,
        mode=event.mode,
        fence=event.fence,
        board_id=event.board_id,
        texts=ComparedTexts(
            texts.get("title") or "",
            texts.get("description"),
            texts.get("alt_text"),
            texts.get("link"),
        ),
        started_at=event.started_at,
        deadline_at=event.deadline_at,
    )


def _parse_settled(event: DeliverySettled) -> SettledAttempt:
    outcome = AttemptOutcome(event.outcome)
    if (event.pinterest_pin_id is not None) != (outcome in OUTCOMES_WITH_ID):
        raise ValueError(f"the outcome {outcome} and pinterest_pin_id contradict each other")
    return SettledAttempt(event.attempt_id, outcome, event.pinterest_pin_id, event.settled_at)
