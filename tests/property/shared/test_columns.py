"""Columns: Postgres returns every value unchanged, or the value is rejected."""

from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.contract.errors import ValueRejected
from shared.postgres.arrays import to_columns
from shared.postgres.database import Database
from tests.property.conftest import Run
from tests.property.documents import offsets
from tests.property.profiles import examples
from tests.support.columns import STATEMENT, TABLE

_times = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis adds the zones
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=offsets,
)
_types = {
    "uuid": st.uuids(),
    "text": st.text(st.characters(), max_size=30),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "timestamptz": _times,
    "bytea": st.binary(max_size=30),
}
_out_of_range = {"int2": st.integers(), "int4": st.integers(), "int8": st.integers()}


def rows(types: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    # unnest drops rows of nulls at the end, so each row has an id
    return st.lists(
        st.tuples(st.uuids(), *(st.none() | types[type_name] for _, type_name in TABLE[1:])),
        max_size=5,
    )


def is_storable(row: tuple[Any, ...]) -> bool:
    text, small, number, large = row[1:5]
    bounded = ((small, 15), (number, 31), (large, 63))
    return (text is None or _is_storable_text(text)) and all(
        value is None or -(2**bits) <= value < 2**bits for value, bits in bounded
    )


def _is_storable_text(text: str) -> bool:
    return "\0" not in text and not any(0xD800 <= ord(character) < 0xE000 for character in text)


async def read_back(pool: Database, values: list[tuple[Any, ...]]) -> list[tuple[Any, ...]] | None:
    """Returns the rows that Postgres returns, or None if a value is rejected."""
    try:
        async with pool.pipeline() as driver:
            cursor = await driver.execute(STATEMENT, to_columns(TABLE, values), binary=True)
            return await cursor.fetchall()
    except ValueRejected:
        return None


@examples(50)
@given(rows(_types | _out_of_range) | rows(_types))
def test_every_value_is_returned_unchanged_or_rejected(
    pool: Database, run: Run, values: list[tuple[Any, ...]]
) -> None:
    returned = run(read_back(pool, values))
    assert returned == (values if all(map(is_storable, values)) else None)
