"""Says who has an idempotency key. generations.py reads and changes it. No I/O."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.publisher.ids import compute_generation_id


class KeyState(NamedTuple):
    """The columns under a key's first pin id that say who has the key."""

    first_pin_id: UUID
    workspace_id: UUID
    idempotency_key: str
    generation: int
    """The highest generation so far."""
    released_at: datetime | None
    """When the key was last released. None if it never was."""
    current_pin_id: UUID | None
    """The pin that took the key after it was released."""

    @property
    def is_free(self) -> bool:
        return self.released_at is not None and self.current_pin_id is None

    @property
    def last_pin_id(self) -> UUID:
        """The pin that has the key. If the key is free, the pin that had it last."""
        return compute_generation_id(self.workspace_id, self.idempotency_key, self.generation)

    @property
    def next_pin_id(self) -> UUID:
        """The id of the pin that takes the key next."""
        return compute_generation_id(self.workspace_id, self.idempotency_key, self.generation + 1)


class TakenKey(NamedTuple):
    """A key that a new generation takes."""

    first_pin_id: UUID
    pin_id: UUID
    generation: int
