"""Computes the id of a schedule from the id of its pin, and the other way round."""

from uuid import UUID

_SCHEDULE_MASK = 0x5A17_C0DE_0000_D000_0BAD_F00D_5EED_0001
"""XORed with a pin's id it gives the schedule's, and the other way round. D turns the version 5
into 8 (a custom UUID); the variant's bits stay."""


def derive_schedule_id(pin_id: UUID) -> UUID:
    """Computes the id of the schedule that publishes a pin."""
    return UUID(int=pin_id.int ^ _SCHEDULE_MASK)


def derive_pin_id(schedule_id: UUID) -> UUID:
    """Computes the id of the pin that a schedule publishes.

    Any UUID gives some id. Only a real schedule's names a pin that exists.
    """
    return UUID(int=schedule_id.int ^ _SCHEDULE_MASK)
