"""Encodes row results: for storage as JSON without nulls, for answers with nulls."""

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter

import msgspec

from shared.contract.events import Fault, RowResult
from shared.contract.wire import encode


class FaultWithNulls(Fault, frozen=True, kw_only=True, omit_defaults=False):
    """A Fault that is encoded with nulls."""


class ResultWithNulls(RowResult, frozen=True, kw_only=True, omit_defaults=False):
    """A RowResult that is encoded with nulls, and always with a list of errors."""

    errors: list[FaultWithNulls] = msgspec.field(default_factory=list)  # type: ignore[assignment]


_decode = msgspec.json.Decoder(list[ResultWithNulls]).decode


def encode_results(results: Sequence[RowResult]) -> str:
    """Returns the JSON text that is stored."""
    return encode(results).decode()


def merge_results(stored: Sequence[str] | None) -> bytes:
    """Returns all results of a job as JSON in row order.

    Each stored text has the results of one fold. Results that were folded later can have lower row
    numbers.
    """
    results = list(chain.from_iterable(map(_decode, stored or ())))
    results.sort(key=attrgetter("row_number"))
    return encode(results)
