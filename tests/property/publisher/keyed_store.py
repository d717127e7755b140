"""The pure model of the publisher: the content of its keyed store, and the results of rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from services.publisher.ids import compute_pin_id
from shared.contract.events import FieldDifference, RowAccepted
from shared.contract.schedule_ids import derive_schedule_id


class RowId(NamedTuple):
    job_id: UUID
    row_number: int


class PinKey(NamedTuple):
    workspace_id: UUID
    text: str


@dataclass(frozen=True, slots=True)
class SentRow:
    """A row that was sent. A broken producer may make it not `readable`, or not `storable`.

    Its identity is always readable. Postgres rejects a row that is not storable, but never
    sees a row that fails its checks.
    """

    event: RowAccepted
    value: bytes
    readable: bool = True
    storable: bool = True
    is_connected: bool = False
    """True if its account was ever connected to Pinterest."""

    @property
    def name(self) -> RowId:
        return RowId(self.event.job_id, self.event.row_number)

    @property
    def key(self) -> PinKey:
        return PinKey(self.event.workspace_id, self.event.row.idempotency_key)

    @property
    def scheduled_for(self) -> datetime | None:
        run_at = self.event.row.run_at
        return run_at if run_at is not None and run_at > self.event.accepted_at else None


class Content(NamedTuple):
    """The fields in which the generated contents differ, other than `run_at`."""

    account_id: UUID
    board_id: str
    title: str


class Pin(NamedTuple):
    """A pin of the model. `origin` is None for a pin of a direct call."""

    origin: RowId | None
    fingerprint: UUID
    run_at: datetime | None
    state: str
    content: Content
    is_deleted: bool = False
    is_delivered: bool = False
    """True if it is delivered to Pinterest."""


class RowReport(NamedTuple):
    """The result that a row reports."""

    status: str
    pin_id: UUID | None = None
    schedule_id: UUID | None = None
    payload_matches: bool | None = None
    error_code: str | None = None
    existing_state: str | None = None
    differing_fields: tuple[FieldDifference, ...] | None = None
    updated: bool | None = None


def sort_rows(rows: Sequence[SentRow]) -> list[SentRow]:
    """Sorts rows: the earliest job first, then by row number. Unreadable rows come last."""
    return sorted(
        rows,
        key=lambda row: (
            not row.readable,
            row.event.accepted_at,
            row.event.job_id.int,
            row.event.row_number,
        ),
    )


@dataclass(slots=True)
class KeyedStore:
    pins: dict[PinKey, Pin] = field(default_factory=dict)
    failures: dict[RowId, str] = field(default_factory=dict)
    sent: dict[RowId, SentRow] = field(default_factory=dict)
    """The rows that were settled. A pin does not store a `run_at` in the past, but its row has it.
    """

    def settle(
        self, rows: Sequence[SentRow], failing: Mapping[RowId, str]
    ) -> dict[RowId, RowReport]:
        """Settles one row after the other. The outcomes do not depend on the batches.

        `failing` has the rows that would fail their checks now.
        """
        for row in sort_rows(rows):
            self.sent[row.name] = row
            self._settle_row(row, failing.get(row.name))
        return {row.name: self.report(row) for row in rows}

    def _settle_row(self, row: SentRow, failure: str | None) -> None:
        if row.name in self.failures:
            return
        if not row.readable:
            self.failures[row.name] = "internal_error"
        elif row.key not in self.pins:
            if failure is not None or not row.storable:
                self.failures[row.name] = failure or "internal_error"
            else:
                self.pins[row.key] = build_pin(row)

    def publish_directly(
        self, key: PinKey, fingerprint: UUID, content: Content, *, is_connected: bool
    ) -> None:
        state = "queued" if is_connected else "published"
        self.pins[key] = Pin(None, fingerprint, None, state, content, is_delivered=is_connected)

    def report(self, row: SentRow) -> RowReport:
        """Computes the result of a settled row from the stored pins and failures."""
        if code := self.failures.get(row.name):
            return RowReport("failed", error_code=code)
        pin, pin_id = self.pins[row.key], compute_pin_id(*row.key)
        if pin.origin == row.name:
            return (
                RowReport("created", None, derive_schedule_id(pin_id))
                if pin.run_at
                else RowReport("created", pin_id)
            )
        is_queued = pin.is_delivered and pin.state not in {"scheduled", "cancelled"}
        visible_pin_id = pin_id if pin.state == "published" or is_queued else None
        schedule_id = derive_schedule_id(pin_id) if pin.run_at else None
        is_equal = pin.fingerprint == row.event.fingerprint
        return RowReport(
            "existing",
            visible_pin_id,
            schedule_id,
            is_equal,
            existing_state=_find_existing_state(pin),
            differing_fields=None if is_equal else tuple(self._find_differences(pin, row)),
        )

    def _find_differences(self, pin: Pin, row: SentRow) -> Iterator[FieldDifference]:
        sent = build_content(row)
        for name, stored_value, sent_value in zip(Content._fields, pin.content, sent, strict=True):
            if stored_value != sent_value:
                sent_text = str(sent_value).replace("\0", "\N{REPLACEMENT CHARACTER}")
                yield FieldDifference(field=name, stored=str(stored_value), sent=sent_text)
        origin = self.sent[pin.origin].event.row.run_at if pin.origin else None
        run_at = row.event.row.run_at
        is_equal = run_at == pin.run_at or (pin.run_at is None and run_at == origin)
        if not is_equal:
            yield FieldDifference(
                field="run_at", stored=_format_time(pin.run_at), sent=_format_time(run_at)
            )

    def command(self, name: str, key: PinKey, now: datetime) -> tuple[str, str | None]:
        """Runs a command. Returns its answer, and the new state if it changed."""
        pin = self.pins.get(key)
        result = "not_found" if pin is None or pin.is_deleted else _find_result(name, pin, now)
        if pin is None or result not in STATES:
            return result, None
        self.pins[key] = pin._replace(state=result, is_deleted=name.startswith("delete"))
        return "done", result if result != pin.state else None

    def publish_due(self, now: datetime, failing: Mapping[PinKey, str]) -> None:
        for key, pin in self.pins.items():
            if pin.state == "scheduled" and pin.run_at is not None and pin.run_at <= now:
                published = "queued" if pin.is_delivered else "published"
                self.pins[key] = pin._replace(state="failed" if key in failing else published)

    def deliver(self, key: PinKey) -> None:
        """Takes the next step of a delivery, until Pinterest has the pin."""
        pin = self.pins.get(key)
        if pin is not None and pin.state in DELIVERY_STEPS:
            self.pins[key] = pin._replace(state=DELIVERY_STEPS[pin.state])


DELIVERY_STEPS = {"queued": "publishing", "publishing": "confirming", "confirming": "published"}
STATES = {"scheduled", "published", "failed", "cancelled"}
COMMANDS = ("cancel", "retry", "delete schedule", "delete pin")


def _find_result(name: str, pin: Pin, now: datetime) -> str:
    """Returns the state after a command, or the code of its error."""
    is_pin = pin.state in {"published", "failed"} or (
        pin.state == "scheduled" and pin.run_at is not None and pin.run_at <= now
    )
    is_hidden = not is_pin if name == "delete pin" else pin.run_at is None
    if is_hidden:
        return "not_found"
    if name == "cancel":
        return "cancelled" if pin.state in {"scheduled", "cancelled"} else "schedule_not_pending"
    if pin.state == "published" and name != "delete pin":
        return "schedule_already_published"
    if name == "retry":
        return "scheduled"
    return "cancelled" if pin.state == "scheduled" else pin.state


def _find_existing_state(pin: Pin) -> str:
    if pin.is_deleted:
        return "deleted"
    if pin.state == "scheduled" and pin.run_at is not None and pin.run_at <= datetime.now(UTC):
        return "queued"
    return {"cancelled": "canceled", "confirming": "publishing"}.get(pin.state, pin.state)


def _format_time(time: datetime | None) -> str | None:
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def build_content(row: SentRow) -> Content:
    pin = row.event.row
    return Content(pin.account_id, pin.board_id, pin.title)


def build_pin(row: SentRow) -> Pin:
    run_at = row.scheduled_for
    state = "scheduled" if run_at else "queued" if row.is_connected else "published"
    content = build_content(row)
    is_delivered = row.is_connected
    return Pin(row.name, row.event.fingerprint, run_at, state, content, is_delivered=is_delivered)
