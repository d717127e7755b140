"""The SQL that inserts the pins of rows. pins/statements.py inserts those of direct calls."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from services.publisher.model import DELIVERY, PIN_COLUMNS, PIN_TEXTS, PinState
from services.publisher.rows.recorded_outcomes import collect_job_ids
from services.publisher.rows.snapshot import KeyedRow
from shared.postgres.arrays import Column, ColumnTypes, column_names, to_columns, unnest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_COLUMNS_WITHOUT_TEXTS = PIN_COLUMNS[: -len(PIN_TEXTS)]
_TEXTS = [attrgetter(name) for name in PIN_TEXTS]

PIN_VALUES = {
    "created_at": "timestamptz 'epoch' + r.created_at * interval '1 microsecond'",
    "related_terms": "r.related_terms::json",
}
"""The values of the columns whose parameter needs a conversion."""
_DELIVERY_COLUMN = ("delivery", "text")


class _Insert(NamedTuple):
    """An insert of pins. Only rows of connected accounts pay for a further parameter."""

    unconnected: str
    """The statement if no row's account was ever connected to Pinterest."""
    mixed: str
    """The statement with each pin's `delivery` as its last parameter."""

    def choose(self, rows: Sequence[KeyedRow], columns: list[Column]) -> tuple[str, list[Column]]:
        """Returns the statement for the rows, and its parameters."""
        if not any(map(_IS_CONNECTED, rows)):
            return self.unconnected, columns
        values = [DELIVERY if keyed.is_connected else None for keyed in rows]
        return self.mixed, [*columns, Column("text", values)]


_IS_CONNECTED = attrgetter("is_connected")


def _build_insert(build: Callable[[ColumnTypes, str], str], columns: ColumnTypes) -> _Insert:
    """Builds both statements from the columns and the values of state and published_at."""
    unconnected = """
            case when r.run_at is null then 'published' else 'scheduled' end,
            case when r.run_at is null then now() end
    """
    mixed = """
            case when r.run_at is not null then 'scheduled'
                when r.delivery is not null then 'queued' else 'published' end,
            case when r.run_at is null and r.delivery is null then now() end
    """
    return _Insert(build(columns, unconnected), build((*columns, _DELIVERY_COLUMN), mixed))


# Nearly every batch meets no recorded outcome. To ask this once, and not for each row, saves 1.2 of
# the 10.3 µs that a row's insert takes. Not with `exists`: Postgres plans that for a row which it
# finds early, and would read the whole table instead of its indexes
_NOTHING_CONCERNS_THE_BATCH = """(
            select (
                select count(*) from publisher.row_outcomes o where o.job_id = any(%b::uuid[])
            ) = 0 and (
                select o.promised_pin_id from publisher.row_outcomes o
                where o.promised_pin_id is not null order by o.promised_pin_id limit 1
            ) is null
        )"""


# The pin id is computed from workspace and key, so the primary key allows each key only one pin. If
# rows of a batch have the same key, the first in order is inserted. The rows are sorted by id,
# because otherwise two publishers with overlapping keys deadlock (measured). A row is left out if
# its recorded outcome is not that of a first pin, or if its key is reserved for another row.
def _build_pins_insert(columns: ColumnTypes, state_values: str) -> str:
    return f"""
    with inserted as (
        insert into publisher.pins ({column_names(columns)}, state, published_at)
        select {", ".join(PIN_VALUES.get(name, f"r.{name}") for name, _ in columns)},
            {state_values}
        from {unnest(columns)} with ordinality as r({column_names(columns)}, ordinal)
        where {_NOTHING_CONCERNS_THE_BATCH} or (
            not exists (
                select from publisher.row_outcomes o
                where o.job_id = r.origin_job_id and o.row_number = r.origin_row
                    and (o.status <> 'created' or o.promised_generation is not null)
            ) and (
                not exists (
                    select from publisher.row_outcomes o
                    where o.promised_pin_id = r.pin_id
                        and (o.job_id, o.row_number) <> (r.origin_job_id, r.origin_row)
                ) or exists (
                    select from publisher.row_outcomes o
                    where o.job_id = r.origin_job_id and o.row_number = r.origin_row
                )
            )
        )
        order by r.pin_id, r.ordinal
        on conflict (pin_id) do nothing
        returning true
    )
    select count(*)::int4, set_config('pinflow.inserted', count(*)::text, true) from inserted
"""


# Inserts pins under later ids of their keys. The transaction holds the locks of these keys
def _build_generations_insert(columns: ColumnTypes, state_values: str) -> str:
    return f"""
    insert into publisher.pins ({column_names(columns)}, state, published_at)
    select {", ".join(PIN_VALUES.get(name, f"r.{name}") for name, _ in columns)},
        {state_values}
    from {unnest(columns)} as r({column_names(columns)})
    order by r.pin_id
"""


_INSERT_PINS = _build_insert(_build_pins_insert, PIN_COLUMNS)
_INSERT_GENERATIONS = _build_insert(
    _build_generations_insert, (*PIN_COLUMNS, ("generation", "int4"))
)
_TOMBSTONE_VALUES = {
    **PIN_VALUES,
    "origin_job_id": "null",
    "origin_row": "null",
    "run_at": "null",
}
# If Postgres lost a key, and a row restores a later generation of it, then a deleted pin without an
# origin stands under the key's first pin id
INSERT_TOMBSTONES = f"""
    insert into publisher.pins
        ({column_names(PIN_COLUMNS)}, state, published_at, deleted_at, released_at)
    select {", ".join(_TOMBSTONE_VALUES.get(name, f"r.{name}") for name, _ in PIN_COLUMNS)},
        '{PinState.PUBLISHED}', now(), now(), now()
    from {unnest(PIN_COLUMNS)} as r({column_names(PIN_COLUMNS)})
    order by r.pin_id
    on conflict (pin_id) do nothing
"""


def build_pins_insert(rows: Sequence[KeyedRow]) -> tuple[str, list[Column]]:
    """Builds the insert of pins whose keys were never used, and its parameters."""
    statement, columns = _INSERT_PINS.choose(rows, build_insert_columns(rows))
    return statement, [*columns, collect_job_ids(keyed.row for keyed in rows)]


def build_generations_insert(
    rows: Sequence[KeyedRow], numbers: Sequence[int]
) -> tuple[str, list[Column]]:
    """Builds the insert of pins that start new generations, and its parameters."""
    return _INSERT_GENERATIONS.choose(rows, [*build_insert_columns(rows), Column("int4", numbers)])


def build_insert_columns(rows: Sequence[KeyedRow]) -> list[Column]:
    """Builds the columns of an insert, in the order of PIN_COLUMNS."""
    contents = [keyed.row.row for keyed in rows]
    texts = (Column("text", list(map(text_of, contents))) for text_of in _TEXTS)
    return [*to_columns(_COLUMNS_WITHOUT_TEXTS, list(_build_own_values(rows))), *texts]


def _build_own_values(rows: Iterable[KeyedRow]) -> Iterator[tuple[Any, ...]]:
    """Yields each row's values of all columns except the content's texts."""
    microseconds_by_time: dict[datetime, int] = {}
    for keyed in rows:
        row, pin = keyed.row, keyed.row.row
        if (start := microseconds_by_time.get(row.accepted_at)) is None:
            start = microseconds_by_time[row.accepted_at] = (row.accepted_at - EPOCH) // MICROSECOND
        yield (
            keyed.pin_id,
            row.workspace_id,
            pin.account_id,
            pin.asset_id,
            pin.cover_image_asset_id,
            row.fingerprint,
            row.job_id,
            row.row_number,
            keyed.scheduled_for,
            # One microsecond per row keeps the rows' order in lists, without another column in the
            # lists' index
            start + row.row_number,
            None if pin.related_terms is None else orjson.dumps(pin.related_terms).decode(),
        )
