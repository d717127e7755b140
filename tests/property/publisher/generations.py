"""The pure model of keys that are released, updated and revived, and of jobs that are canceled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.publisher.ids import compute_generation_id
from shared.contract.events import OnExisting
from shared.contract.schedule_ids import derive_schedule_id
from tests.property.publisher.keyed_store import PinKey, RowId, RowReport, SentRow, sort_rows


@dataclass(slots=True)
class Pin:
    """A pin of the model. Times are numbers of steps."""

    origin: RowId
    title: str
    run_at: object
    """The time of its schedule, or None if it was published at once."""
    state: str
    changed_at: int
    """The step at which its content was accepted, or a person changed the pin."""
    is_deleted: bool = False


@dataclass(slots=True)
class Key:
    """A key of the model: its pins, one for each generation."""

    pins: list[Pin] = field(default_factory=list)
    released_at: int | None = None
    is_free: bool = False

    @property
    def pin(self) -> Pin:
        return self.pins[-1]


class AcceptedRow(NamedTuple):
    """A row in a partition's log."""

    sent: SentRow
    step: int
    """The step at which its import was accepted."""
    partition: int
    offset: int
    is_failing: bool

    @property
    def on_existing(self) -> OnExisting:
        return self.sent.event.on_existing


@dataclass(slots=True)
class Ledger:
    """Settles one row after the other. The outcomes do not depend on the batches."""

    is_connected: bool = False
    """True if the rows' account was ever connected to Pinterest. Nothing is delivered."""
    keys: dict[PinKey, Key] = field(default_factory=dict)
    final: dict[RowId, RowReport] = field(default_factory=dict)
    """The reports that never change again."""
    cancellations: dict[tuple[object, int], int] = field(default_factory=dict)
    """The first offset of the rows that are canceled, by job and partition."""

    def settle(self, rows: Sequence[AcceptedRow]) -> Mapping[RowId, RowReport]:
        by_name = {row.sent.name: row for row in rows}
        reports = {}
        for sent in sort_rows([row.sent for row in rows]):
            reports[sent.name] = self._settle_row(by_name[sent.name])
        return reports

    def _settle_row(self, row: AcceptedRow) -> RowReport:
        name = row.sent.name
        if name in self.final:
            return self.final[name]
        report, is_final = self._decide(row)
        if is_final:
            self.final[name] = report
        return report

    def _decide(self, row: AcceptedRow) -> tuple[RowReport, bool]:
        key = self.keys.setdefault(row.sent.key, Key())
        first_canceled = self.cancellations.get((row.sent.event.job_id, row.partition))
        if first_canceled is not None and row.offset >= first_canceled:
            return RowReport("failed", error_code="canceled"), True
        match self._find_action(row, key):
            case "report":
                is_final = key.released_at is not None or row.on_existing != OnExisting.REPORT
                return self._report(row, key), is_final
            case _ if row.is_failing:
                return RowReport("failed", error_code="board_not_found"), True
            case "create":
                return self._create(row, key), True
            case "update":
                return self._update(row, key), True
            case action:
                raise AssertionError(action)

    def _find_action(self, row: AcceptedRow, key: Key) -> str:
        if not key.pins:
            return "create"
        if key.is_free:
            assert key.released_at is not None
            return "create" if row.step > key.released_at else "report"
        pin = key.pin
        is_gone = pin.is_deleted or pin.state == "cancelled"
        if row.on_existing == OnExisting.REVIVE and is_gone and row.step > pin.changed_at:
            return "create"
        is_waiting = pin.state in {"scheduled", "queued"} and not pin.is_deleted
        if row.on_existing == OnExisting.UPDATE and is_waiting and row.step > pin.changed_at:
            return "update"
        return "report"

    def _create(self, row: AcceptedRow, key: Key) -> RowReport:
        if key.pins and not key.is_free:
            self._release(key, row.step)
        run_at = row.sent.scheduled_for
        state = "scheduled" if run_at else "queued" if self.is_connected else "published"
        title = row.sent.event.row.title
        key.pins.append(Pin(row.sent.name, title, run_at, state, row.step))
        key.is_free = False
        pin_id = compute_generation_id(*row.sent.key, len(key.pins) - 1)
        if run_at is None:
            return RowReport("created", pin_id)
        return RowReport("created", None, derive_schedule_id(pin_id))

    def _update(self, row: AcceptedRow, key: Key) -> RowReport:
        pin = key.pin
        pin.title, pin.changed_at = row.sent.event.row.title, row.step
        run_at = row.sent.scheduled_for
        state = "scheduled" if run_at else "queued"
        if self.is_connected:
            pin.state = state
        is_schedule = pin.run_at is not None or not self.is_connected
        pin.run_at = run_at or ("at once" if is_schedule else None)
        return self._report(row, key)._replace(existing_state=state, updated=True)

    def _report(self, row: AcceptedRow, key: Key) -> RowReport:
        pin, pin_id = key.pin, compute_generation_id(*row.sent.key, len(key.pins) - 1)
        state = {"cancelled": "canceled"}.get(pin.state, pin.state)
        if state == "scheduled" and pin.run_at == "at once":
            state = "queued"
        return RowReport(
            "existing",
            pin_id if pin.state in {"published", "queued"} else None,
            derive_schedule_id(pin_id) if pin.run_at else None,
            existing_state="deleted" if pin.is_deleted else state,
        )

    def _release(self, key: Key, step: int) -> None:
        pin = key.pin
        pin.is_deleted = True
        is_canceled = pin.state == "scheduled" or (pin.state == "queued" and pin.run_at)
        pin.state = "cancelled" if is_canceled else pin.state
        key.is_free, key.released_at = True, step

    # Commands

    def release(self, name: PinKey, step: int) -> bool:
        """Undoes the pin of a key. Returns False if the key has no pin that stands."""
        key = self.keys.get(name)
        if key is None or not key.pins or key.is_free or key.pin.is_deleted:
            return False
        self._release(key, step)
        return True

    def delete(self, name: PinKey, step: int) -> None:
        key = self.keys.get(name)
        if key is not None and key.pins and not key.pin.is_deleted:
            key.pin.is_deleted, key.pin.changed_at = True, step
            key.pin.state = "cancelled" if key.pin.state == "scheduled" else key.pin.state

    def cancel_schedule(self, name: PinKey, step: int) -> None:
        key = self.keys.get(name)
        if key is not None and key.pins and key.pin.state == "scheduled":
            key.pin.state, key.pin.changed_at = "cancelled", step


def strip(report: RowReport) -> RowReport:
    """Leaves out what the model does not compute."""
    return report._replace(payload_matches=None, differing_fields=None)
