"""Ids of schedules never change, because clients have stored them."""

from uuid import UUID

from shared.contract.schedule_ids import derive_pin_id, derive_schedule_id

PIN_ID = UUID("886313e1-3b8a-5372-9b90-0c9aee199e5d")
SCHEDULE_ID = UUID("d274d33f-3b8a-8372-903d-fc97b0f49e5c")


def test_a_pins_schedule_id_is_the_same_as_in_earlier_versions() -> None:
    assert derive_schedule_id(PIN_ID) == SCHEDULE_ID
    assert derive_pin_id(SCHEDULE_ID) == PIN_ID
