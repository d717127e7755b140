"""Columns: any value comes back from Postgres as it was, or is refused; never another, never a
fault of ours.
"""

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
_kinds = {
    "uuid": st.uuids(),
    "text": st.text(st.characters(), max_size=30),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "timestamptz": _times,
    "bytea": st.binary(max_size=30),
}
_beyond = {"int2": st.integers(), "int4": st.integers(), "int8": st.integers()}


def rows(kinds: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    # A row of nothing but nulls at the end is one that unnest can't see: a table's row has a value
    # somewhere
    return st.lists(
        st.tuples(st.uuids(), *(st.none() | kinds[kind] for _, kind in TABLE[1:])), max_size=5
    )


def storable(row: tuple[Any, ...]) -> bool:
    text, small, number, large = row[1:5]
    bounded = ((small, 15), (number, 31), (large, 63))
    return (text is None or _is_text(text)) and all(
        value is None or -(2**bits) <= value < 2**bits for value, bits in bounded
    )


def _is_text(text: str) -> bool:
    return "\0" not in text and not any(0xD800 <= ord(sign) < 0xE000 for sign in text)


async def read_back(pool: Database, values: list[tuple[Any, ...]]) -> list[tuple[Any, ...]] | None:
    """None when it is refused."""
    try:
        async with pool.pipeline() as driver:
            cursor = await driver.execute(STATEMENT, to_columns(TABLE, values), binary=True)
            return await cursor.fetchall()
    except ValueRejected:
        return None


@examples(50)
@given(rows(_kinds | _beyond) | rows(_kinds))
def test_any_value_comes_back_as_it_was_or_is_refused(
    pool: Database, run: Run, values: list[tuple[Any, ...]]
) -> None:
    found = run(read_back(pool, values))
    assert found == (values if all(map(storable, values)) else None)
