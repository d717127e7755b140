"""Ids that begin with their time are UUIDv7."""

from datetime import UTC, datetime
from uuid import RFC_4122, UUID

import pytest

from shared.contract.time_ordered_ids import (
    CHOSEN_BITS,
    LATEST_MS,
    build_time_ordered_id,
    count_milliseconds,
    read_time,
)


@pytest.mark.parametrize("chosen", [0, 1, (1 << CHOSEN_BITS) - 1])
def test_the_chosen_bits_change_neither_version_nor_variant_nor_time(chosen: int) -> None:
    moment = datetime(2026, 12, 1, 10, 30, tzinfo=UTC)
    built = build_time_ordered_id(count_milliseconds(moment), chosen)
    assert (built.version, built.variant, read_time(built)) == (7, RFC_4122, moment)


def test_an_id_without_a_time_that_python_can_represent_has_none() -> None:
    assert read_time(build_time_ordered_id(LATEST_MS, 0)) is None
    assert read_time(UUID("11111111-1111-4111-8111-111111111111")) is None
