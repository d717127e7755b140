"""Derives the id of a schedule from the id of its pin, and vice versa."""

from uuid import UUID

_SCHEDULE_MASK = 0x5A17_C0DE_0000_D000_0BAD_F00D_5EED_0001
"""XORed with the id of a pin, this gives the id of its schedule, and vice versa.

The digit D changes the UUID's version from 5 to 8 (custom). The variant bits stay.
"""


def derive_schedule_id(pin_id: UUID) -> UUID:
    """Derives the id of the schedule that publishes a pin."""
    return UUID(int=pin_id.int ^ _SCHEDULE_MASK)


def derive_pin_id(schedule_id: UUID) -> UUID:
    """Derives the id of the pin that a schedule publishes.

    Every UUID gives an id, but the pin exists only if the schedule does.
    """
    return UUID(int=schedule_id.int ^ _SCHEDULE_MASK)
