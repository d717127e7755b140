"""Writes row results: as they are kept, several in one JSON text without nulls, and as they are
answered, with nulls.
"""

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter

import msgspec

from shared.contract.events import Fault, RowResult
from shared.contract.wire import encode


class FaultWithNulls(Fault, frozen=True, kw_only=True, omit_defaults=False):
    """Is a Fault with its nulls."""


class ResultWithNulls(RowResult, frozen=True, kw_only=True, omit_defaults=False):
    """Is a RowResult with its nulls, and with a list of errors in any case."""

    errors: list[FaultWithNulls] = msgspec.field(default_factory=list)  # type: ignore[assignment]


_read = msgspec.json.Decoder(list[ResultWithNulls]).decode


def encode_results(results: Sequence[RowResult]) -> str:
    """Returns the text to keep."""
    return encode(results).decode()


def merge_results(kept: Sequence[str] | None) -> bytes:
    """Returns all of a job's results as JSON in row order.

    Each text is one fold's; what is folded late may lie between others.
    """
    results = list(chain.from_iterable(map(_read, kept or ())))
    results.sort(key=attrgetter("row_number"))
    return encode(results)
