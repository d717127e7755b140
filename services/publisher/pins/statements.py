"""The repository's SQL statements, and their values."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Select, and_, func, or_, select

from services.publisher.lost_pins import IS_LOST
from services.publisher.model import DELIVERY, PIN_COLUMNS, PinState
from services.publisher.pins.creation import NewPin
from services.publisher.tables import pins
from shared.postgres.arrays import ColumnTypes, column_names, unnest

# First pins are locked before pins of later generations, as in generations.py. A first pin has a
# generation only after its key was released
IS_LATER = and_(pins.c.generation.is_not(None), pins.c.released_at.is_(None))
IS_DUE = and_(pins.c.state == PinState.SCHEDULED, pins.c.run_at <= func.now()).label("is_due")

_CONVERTED = {
    "created_at": "now() + r.created_at * interval '1 microsecond'",
    "related_terms": "r.related_terms::json",
}
"""Conversions of the sent values. `created_at` is sent as a negative index: one microsecond per pin
keeps the pins' order in lists, as for imported rows. The last pin is just before now.
"""

INSERT_COLUMNS = (*PIN_COLUMNS, ("delivery", "text"))
"""The columns of pins whose keys were never used."""
GENERATION_COLUMNS = (*INSERT_COLUMNS, ("generation", "int4"))
"""The columns of pins that take a key which was released before."""


def _build_insert(columns: ColumnTypes) -> str:
    # Every statement that inserts several pins, or waits for their locks, sorts them by id.
    # Otherwise two transactions with overlapping keys can deadlock. (The scheduler skips locked
    # pins.)
    return f"""
        insert into publisher.pins ({column_names(columns)}, state, published_at)
        select
            {", ".join(_CONVERTED.get(name, f"r.{name}") for name, _ in columns)},
            case when r.delivery is null then '{PinState.PUBLISHED}' else '{PinState.QUEUED}' end,
            case when r.delivery is null then now() end
        from {unnest(columns)} as r({column_names(columns)})
        order by r.pin_id
        on conflict (pin_id) do nothing
        returning pin_id
    """


INSERT_PINS = _build_insert(INSERT_COLUMNS)
INSERT_GENERATIONS = _build_insert(GENERATION_COLUMNS)
# Selects the first pin ids of keys with a pin that a lost Postgres had and whose row has not been
# published again yet
SELECT_RESERVED = f"""
    select promised_pin_id from publisher.row_outcomes o
    where promised_pin_id = any(%b::uuid[]) and {IS_LOST}
"""
# A separate statement: only its snapshot has the rows that an insert conflicted with
SELECT_PINS_OF_KEYS = (
    f"select {', '.join(pins.c.keys())} from publisher.pins where pin_id = any(%b::uuid[])"
)


def build_select(workspace_id: UUID, pin_ids: Collection[UUID]) -> Select[Any]:
    return select(pins, IS_DUE, func.now().label("now")).where(
        pins.c.workspace_id == workspace_id, pins.c.pin_id.in_(pin_ids)
    )


def build_select_of_key(workspace_id: UUID, first_pin_id: UUID) -> Select[Any]:
    """Selects the pin that has a key. A key that is free after a release has none."""
    key = pins.alias("key")
    holder = func.coalesce(key.c.current_pin_id, key.c.pin_id)
    return (
        select(pins, IS_DUE, func.now().label("now"))
        .join(key, pins.c.pin_id == holder)
        .where(
            key.c.workspace_id == workspace_id,
            key.c.pin_id == first_pin_id,
            or_(key.c.released_at.is_(None), key.c.current_pin_id.is_not(None)),
        )
    )


def build_values(pin: NewPin) -> dict[str, Any]:
    identity = {
        "pin_id": pin.pin_id,
        "workspace_id": pin.workspace_id,
        "fingerprint": pin.fingerprint,
        "delivery": DELIVERY if pin.is_connected else None,
    }
    return {**pin.content.model_dump(), **identity}


def build_insert_values(new: Sequence[NewPin]) -> Iterator[tuple[Any, ...]]:
    """Yields each pin's values, in the order of INSERT_COLUMNS."""
    for index, pin in enumerate(new, -len(new)):
        terms = pin.content.related_terms
        sent = {
            "run_at": None,
            "created_at": index,
            "related_terms": None if terms is None else orjson.dumps(terms).decode(),
        }
        values = {**build_values(pin), **sent}
        yield tuple(values.get(name) for name, _ in INSERT_COLUMNS)
