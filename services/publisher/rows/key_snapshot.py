"""The keys of a batch's rows before it, and the decisions to write. Does no I/O.

key_transaction.py reads the snapshot and writes the decisions, keys.py decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.publisher.key_state import TakenKey
from services.publisher.model import PinState, StoredPin
from services.publisher.rows.cancellation import JobPartition
from services.publisher.rows.outcomes import ExistingRow, FailedRow, Outcome
from services.publisher.rows.snapshot import KeyedRow, RecordedOutcomes
from shared.contract.events import PinContent


@dataclass(frozen=True, slots=True)
class RecordedState:
    """Holds the records about a batch's rows and jobs from before the batch."""

    outcomes: RecordedOutcomes
    cancellations: Mapping[JobPartition, int]
    """The position of the rows' consumer when their job was canceled."""


class KeyReleased(Exception):
    """A key of the batch was released before. Nothing was written."""


class HeldPin(NamedTuple):
    """A pin that has a key or had it last, with all that a row compares or replaces."""

    stored: StoredPin
    content: PinContent
    content_as_of: datetime
    """When a person or an updating import last changed it, otherwise when its import was accepted.
    """

    may_be_on_pinterest: bool = False
    """True if it was sent to Pinterest, and neither refused nor removed there."""

    @property
    def is_waiting(self) -> bool:
        """Returns whether an update may change the pin: it is scheduled, queued or failed.

        An update never sends a failed pin again that may be on Pinterest.
        """
        if self.stored.deleted_at is not None:
            return False
        if self.stored.state == PinState.FAILED:
            return not self.may_be_on_pinterest
        return self.stored.state in (PinState.SCHEDULED, PinState.QUEUED)


class Key(NamedTuple):
    """A key that was used before."""

    generation: int
    pin: HeldPin
    """The pin that has the key. If the key is free, the pin that had it last."""
    released_at: datetime | None
    is_free: bool


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """The store's content that concerns a batch's rows and keys."""

    outcomes: RecordedOutcomes
    keys: Mapping[UUID, Key]
    """The keys that were used before the batch, by first pin id."""
    created: Mapping[UUID, HeldPin]
    """The pins of rows that are recorded as created, by pin id."""
    settled_at: datetime
    """The transaction's time by the database's clock."""


class PinUpdate(NamedTuple):
    """A pin that takes a row's content."""

    keyed: KeyedRow
    """The row, under the pin's id, with the pin's new time."""
    stored: StoredPin
    """The pin after the update."""
    is_announced: bool
    """True if its time has changed, or if it is scheduled or queued again."""
    becomes_schedule: bool
    """True if it gets its first time. Then its row must be recorded as created before."""


@dataclass(slots=True)
class Decisions:
    """The outcomes of a batch's rows, and what to write for them."""

    outcomes: list[Outcome] = field(default_factory=list)
    inserted: set[UUID] = field(default_factory=set)
    """The first pin ids of keys that were never used before."""
    generations: list[tuple[KeyedRow, int]] = field(default_factory=list)
    """The pins that start a new generation. Each row is under its pin's id."""
    released: list[tuple[UUID, UUID]] = field(default_factory=list)
    """The released pins: the first pin id of the key, and the pin's id."""
    taken: dict[UUID, TakenKey] = field(default_factory=dict)
    """The keys that new generations take, by first pin id."""
    updates: dict[UUID, PinUpdate] = field(default_factory=dict)
    """The pins that take a row's content, by pin id."""
    recorded: list[FailedRow | ExistingRow] = field(default_factory=list)
    """Outcomes that a redelivery can't find in the store."""
