"""A batch's columns as Postgres' binary arrays, for `unnest`: written for the kinds that the hot
statements use.

psycopg's own lists look for their type in every value and ask a dumper for each: 3.6 instead of 1.8
µs for a row of the keyed store. And the type that they find changes with the values (int2[] or
int4[], text for nothing but nulls), so that one statement would be prepared again and again; here
it is as the statement says.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import psycopg
from psycopg.abc import DumperKey
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

Table = Sequence[tuple[str, str]]
"""Names and kinds of the columns, in order."""

_NULL = b"\xff\xff\xff\xff"
_SIZES = [size.to_bytes(4) for size in range(17)]
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Postgres' own."""
_MICROSECOND = timedelta(microseconds=1)
_array_head = struct.Struct("!5i").pack
_empty_array = struct.Struct("!3i").pack


# Written out for each kind: a function called for each value would cost as much as what it does


def _uuids(values: Sequence[Any]) -> list[bytes]:
    head = _SIZES[16]
    return [_NULL if value is None else head + value.int.to_bytes(16) for value in values]


def _texts(values: Sequence[Any]) -> list[bytes]:
    return [
        _NULL if value is None else len(data := value.encode()).to_bytes(4) + data
        for value in values
    ]


def _bytes(values: Sequence[Any]) -> list[bytes]:
    return [_NULL if value is None else len(value).to_bytes(4) + value for value in values]


def _booleans(values: Sequence[Any]) -> list[bytes]:
    head = _SIZES[1]
    return [_NULL if value is None else head + value.to_bytes(1) for value in values]


def _times(values: Sequence[Any]) -> list[bytes]:
    head = _SIZES[8]
    return [
        _NULL
        if value is None
        else head + ((value - _EPOCH) // _MICROSECOND).to_bytes(8, signed=True)
        for value in values
    ]


def _integers(size: int) -> Callable[[Sequence[Any]], list[bytes]]:
    head = _SIZES[size]
    return lambda values: [
        _NULL if value is None else head + value.to_bytes(size, signed=True) for value in values
    ]


class _Kind(NamedTuple):
    """A type's number and that of its arrays, as in Postgres' pg_type.dat, and how values are
    written, each behind its length.
    """

    oid: int
    array_oid: int
    write: Callable[[Sequence[Any]], list[bytes]]


_KINDS = {
    "bool": _Kind(16, 1000, _booleans),
    "bytea": _Kind(17, 1001, _bytes),
    "int2": _Kind(21, 1005, _integers(2)),
    "int4": _Kind(23, 1007, _integers(4)),
    "int8": _Kind(20, 1016, _integers(8)),
    "text": _Kind(25, 1009, _texts),
    "timestamptz": _Kind(1184, 1185, _times),
    "uuid": _Kind(2950, 2951, _uuids),
}


class Column(NamedTuple):
    """Values of one kind; any may be None.

    One of nothing but nulls is sent empty: `unnest` makes up what a shorter array lacks.
    """

    kind: str
    values: Sequence[Any]


def to_columns(table: Table, rows: Iterable[tuple[Any, ...]]) -> list[Column]:
    """Rows, turned into the columns of `table`.

    Each of its rows has a value in at least one of them.
    """
    turned = list(zip(*rows, strict=True)) or [()] * len(table)
    return [Column(kind, values) for (_, kind), values in zip(table, turned, strict=True)]


def column_names(table: Table) -> str:
    return ", ".join(name for name, _ in table)


def unnest(table: Table) -> str:
    """The call that takes `to_columns(table, …)`, in SQL."""
    return f"unnest({', '.join(f'%b::{kind}[]' for _, kind in table)})"


class ColumnDumper(Dumper):
    """What psycopg writes a Column with.

    A value that its kind can't hold is a DataError, as it would be from Postgres.
    """

    format = Format.BINARY
    _kind: _Kind

    # The names are psycopg's
    def get_key(self, obj: Column, format: PyFormat) -> DumperKey:  # noqa: A002, ARG002
        return cast(
            "DumperKey", (self.cls, obj.kind)
        )  # it asks for types only to find dumpers by; any hashable does

    def upgrade(self, obj: Column, format: PyFormat) -> "ColumnDumper":  # noqa: A002, ARG002
        dumper = ColumnDumper(self.cls)
        dumper._kind = _KINDS[obj.kind]
        dumper.oid = dumper._kind.array_oid
        return dumper

    def dump(self, obj: Column) -> bytes:
        kind = self._kind
        if tuple(obj.values) == (None,) * len(
            obj.values
        ):  # many are; one that holds anything else differs at once
            return _empty_array(0, 0, kind.oid)
        try:
            elements = kind.write(obj.values)
        except (OverflowError, UnicodeEncodeError) as error:
            raise psycopg.DataError(str(error)) from error
        has_nulls = (
            _NULL in elements
        )  # of these, not of the values: UUIDs compare themselves in Python
        return _array_head(1, has_nulls, kind.oid, len(elements), 1) + b"".join(elements)
